#include "larder/tools/foreign_keys.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"

namespace larder::tools {
namespace {

constexpr std::size_t kKeysOfAPage = 4096;
constexpr std::size_t kShownBytes = 100;

SetupError refused(const Report& report, std::string_view what, const std::string& example) {
  const std::string held = report.keys > 0 ? format_count(report.keys, "key") : std::string{"keys"};
  return {ErrorCode::kInvalidArgument,
          fmt::format("{}: holds {}{}, which {} may push out; name an empty store, or add "
                      "--allow-eviction",
                      report.where.empty() ? report.type : report.where, held,
                      example.empty() ? "" : fmt::format(" (such as '{}')", example), what)};
}

}  // namespace

SetupStatus check_no_foreign_keys(Connector& connector, std::string_view own_prefix,
                                  std::string_view what, const std::atomic<bool>& stop) {
  ScanCursor from;
  while (connector.capabilities().has_scan && !stop) {
    const auto page = connector.scan(from, kKeysOfAPage);
    if (!page) break;  // Then the report has to do.
    for (const ScanPage::Entry& entry : page->entries) {
      if (!own_prefix.empty() && entry.key.starts_with(own_prefix)) continue;
      return refused(connector.report(), what,
                     escape_key(std::string_view{entry.key}.substr(0, kShownBytes)));
    }
    if (page->done) return {};
    from = page->next;
  }
  const Report report = connector.report();
  if (report.keys > 0 && !stop) return refused(report, what, {});
  return {};
}

}  // namespace larder::tools
