#include "larder/tools/foreign_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"

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

/// A server whose maxmemory-policy evicts makes room by dropping any user's keys. It may hold keys
/// unless it says that it holds none.
SetupStatus check_server(Connector& connector, std::string_view what) {
  // The report knows the server once it answered; the second answer comes behind the server's INFO.
  BlockingClient client{connector};
  for (int asked = 0; asked < 2; ++asked) {
    if (!client.exists("larder-guard")) return {};  // Nothing can be stored there either.
  }
  const Report report = connector.report();
  const std::uint64_t limit = metric_value(report, "server_maxmemory_bytes").value_or(0);
  if (limit == 0 || metric_value(report, "server_keys") == 0) return {};
  for (const auto& [name, value] : report.properties) {
    if (name != "maxmemory_policy" || value == "noeviction") continue;
    return SetupError{ErrorCode::kInvalidArgument,
                      fmt::format("{}: the server evicts keys of all its users (maxmemory-policy "
                                  "{}) when it has reached its maxmemory of {}, so {} may push "
                                  "them out; name a server of your own, or add --allow-eviction",
                                  report.where, value, format_bytes(limit), what)};
  }
  return {};
}

}  // namespace

SetupStatus check_no_foreign_keys(Connector& connector, std::string_view own_prefix,
                                  std::string_view what, const std::atomic<bool>& stop) {
  ScanCursor from;
  while (connector.capabilities().has_scan && !stop) {
    const auto page = connector.scan(from, kKeysOfAPage);
    if (!page) break;  // Then the report decides.
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
  return connector.capabilities().has_scan || stop ? SetupStatus{} : check_server(connector, what);
}

}  // namespace larder::tools
