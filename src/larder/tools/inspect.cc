#include "larder/tools/inspect.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/offline/inspection.h"
#include "larder/tools/inspect_report.h"
#include "larder/tools/progress.h"

namespace larder::tools {
namespace {

using log_store::Damage;
using log_store::Inspection;
using log_store::LiveRecord;

SetupError interrupted() {
  return {ErrorCode::kCancelled, "interrupted by a signal"};
}

/// Damage that no summary includes goes to standard error.
bool report_damage(const Inspection& inspection, const TextSink& errors) {
  for (const Damage& damage : inspection.damage()) {
    errors("larder: " + to_text(damage) + "\n");
  }
  return inspection.damage().empty();
}

std::string line_of(const LiveRecord& record) {
  return fmt::format("{:>12}  {}  {}\n", record.value_bytes, utc_text(record.wall_seconds),
                     escape_key(record.key));
}

std::string json_of(const LiveRecord& record) {
  return nlohmann::json{
      {"key", escape_key(record.key)},
      {"bytes", record.value_bytes},
      {"stored_at", record.wall_seconds},
      {"segment", record.segment},
      {"generation", fmt::format("{}.{}", record.generation >> 32, record.generation & 0xffffffff)},
      {"offset", record.offset}}
      .dump();
}

SetupResult<bool> list(const InspectOptions& options, Inspection& inspection, const TextSink& out,
                       const TextSink& errors, const std::atomic<bool>& is_stop_requested) {
  const bool is_counting = options.mode == InspectMode::kCount;
  const bool is_array = options.is_json && !is_counting;
  std::uint64_t keys = 0;
  bool is_written = !is_array || out("{\"keys\": [");
  inspection.for_each_live([&](const LiveRecord& record) {
    if (is_stop_requested) return false;
    if (!record.key.starts_with(options.prefix)) return true;
    if (!is_counting && keys == options.limit) return false;
    ++keys;
    if (is_counting) return true;
    is_written = out(is_array ? (keys == 1 ? "\n  " : ",\n  ") + json_of(record) : line_of(record));
    return is_written;
  });
  if (is_stop_requested) return interrupted();
  const bool is_well = report_damage(inspection, errors);
  if (is_array) {
    is_written = is_written && out(is_well ? "\n], \"ok\": true}\n" : "\n], \"ok\": false}\n");
  }
  if (is_counting) {
    is_written = out(options.is_json ? nlohmann::json{{"keys", keys}, {"ok", is_well}}.dump() + "\n"
                                     : std::to_string(keys) + "\n");
  }
  return is_well && is_written;
}

SetupResult<bool> dump(const InspectOptions& options, Inspection& inspection, const TextSink& out,
                       const TextSink& errors) {
  LARDER_ASSIGN(const auto value, inspection.read_value(options.key));
  if (!value) {
    return SetupError{ErrorCode::kUnavailable, "the store in " + options.directory +
                                                   " has no key '" + escape_key(options.key) +
                                                   "' (--list shows its keys)"};
  }
  const auto bytes = value->span();
  const bool is_written = out({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return report_damage(inspection, errors) && is_written;
}

void verify(const InspectOptions& options, Inspection& inspection, InspectSummary& summary,
            const std::atomic<bool>& is_stop_requested) {
  Progress progress{"verifying", options.is_quiet};
  const Clock& clock = RealClock::instance();
  const std::uint64_t start_ns = clock.now_ns();
  std::uint64_t done = 0;
  summary.verified = inspection.verify(
      [&](const Damage& damage) { summary.damage.push_back(damage); },
      [&](const LiveRecord& record) {
        done += record.value_bytes;
        if (progress.is_due()) {
          const double seconds = static_cast<double>(clock.now_ns() - start_ns) / 1e9;
          progress.update(done, summary.value_bytes,
                          fmt::format("{:.2f} GB/s", static_cast<double>(done) / 1e9 / seconds));
        }
        return !is_stop_requested;
      });
}

}  // namespace

SetupResult<bool> inspect(const InspectOptions& options, const TextSink& out,
                          const TextSink& errors, const std::atomic<bool>& is_stop_requested) {
  LARDER_ASSIGN(const auto inspection, Inspection::open(options.directory));
  switch (options.mode) {
    case InspectMode::kList:
    case InspectMode::kCount:
      return list(options, *inspection, out, errors, is_stop_requested);
    case InspectMode::kDump:
      return dump(options, *inspection, out, errors);
    case InspectMode::kSummary:
      break;
  }
  InspectSummary summary;
  summary.directory = options.directory;
  summary.facts = inspection->facts();
  summary.segments = inspection->segments();
  const std::uint64_t now = RealClock::instance().wall_seconds();
  inspection->for_each_live([&](const LiveRecord& record) {
    summary.add(record, now);
    return !is_stop_requested;
  });
  if (is_stop_requested) return interrupted();
  if (options.is_verified) verify(options, *inspection, summary, is_stop_requested);
  summary.damage.insert(summary.damage.begin(), inspection->damage().begin(),
                        inspection->damage().end());
  const bool is_written = out(options.is_json ? to_json(summary) : to_text(summary));
  return is_written && summary.is_well();
}

}  // namespace larder::tools
