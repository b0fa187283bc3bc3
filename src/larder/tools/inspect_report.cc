#include "larder/tools/inspect_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/format/file_names.h"

namespace larder::tools {
namespace {

using log_store::SegmentFacts;
using log_store::SegmentFinding;

constexpr std::array<std::uint64_t, 7> kAgeSeconds = {60,     600,     3600,     21'600,
                                                      86'400, 604'800, 2'592'000};
constexpr std::size_t kOlder = kAgeSeconds.size();
constexpr std::size_t kToCome = kOlder + 1;
constexpr std::size_t kBarWidth = 32;

bool is_used(const SegmentFacts& segment) {
  return segment.finding == SegmentFinding::kSealed || segment.finding == SegmentFinding::kOpen ||
         segment.finding == SegmentFinding::kScanned;
}

std::size_t share_of_bar(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0 || part == 0) return 0;
  const double share = static_cast<double>(part) / static_cast<double>(whole);
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::lround(share * kBarWidth)), 1,
                                 kBarWidth);
}

/// "12.3": the third segment of the twelfth session.
std::string generation_text(std::uint64_t generation) {
  return fmt::format("{}.{}", generation >> 32, generation & 0xffffffff);
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "0.0 %"
                    : fmt::format("{:.1f} %",
                                  100 * static_cast<double>(part) / static_cast<double>(whole));
}

std::uint64_t bucket_start(std::size_t bucket) {
  return bucket == 0 ? 0 : std::uint64_t{1} << (bucket - 1);
}

template <std::size_t N, class Name>
std::string histogram_text(const std::array<std::uint64_t, N>& counts, Name name) {
  const std::uint64_t most = *std::ranges::max_element(counts);
  std::string text;
  for (std::size_t i = 0; i < N; ++i) {
    if (counts[i] == 0) continue;
    text += fmt::format("  {:<22}{:>12}  {:#<{}}\n", name(i), counts[i], "",
                        share_of_bar(counts[i], most));
  }
  return text.empty() ? "  no keys\n" : text;
}

std::string segment_line(const SegmentFacts& segment, std::uint64_t segment_bytes) {
  std::string bar;
  if (is_used(segment)) {
    const std::uint64_t dead = segment.appended_bytes - segment.live_bytes;
    const std::size_t live_width = share_of_bar(segment.live_bytes, segment_bytes);
    const std::size_t dead_width =
        std::min(share_of_bar(dead, segment_bytes), kBarWidth - live_width);
    bar = fmt::format("{:#<{}}{:-<{}}{:.<{}}", "", live_width, "", dead_width, "",
                      kBarWidth - live_width - dead_width);
  }
  return fmt::format("  {:>7}  {:>12}  {:<9}{:>10}{:>10}{:>12}  {}\n", segment.segment,
                     is_used(segment) ? generation_text(segment.generation) : "-",
                     name_of(segment.finding), segment.records, segment.live_records,
                     is_used(segment) ? format_bytes(segment.live_bytes) : "-", bar);
}

/// The meaning of the number of files, and its limits.
std::string files_text(const InspectSummary& summary) {
  if (summary.facts.knows_files || summary.facts.open_count == 0) return {};
  std::string text =
      "  not verified: whether segment files went since they were written; only a store that was "
      "closed cleanly says how many there were\n";
  std::string numbers;
  for (const std::uint32_t number : summary.missing_numbers()) {
    numbers += (numbers.empty() ? "" : ", ") + std::to_string(number);
  }
  if (numbers.empty()) return text;
  return text + "  no files have the numbers " + numbers +
         ": larder gave them back, for a smaller capacity or for want of space, or somebody "
         "removed "
         "them\n";
}

std::string damage_text(const InspectSummary& summary) {
  std::string text;
  if (summary.verified) {
    const auto& verified = *summary.verified;
    text += fmt::format("\nverified: {} of {}, {}; {}\n", verified.records,
                        format_count(summary.keys, "record"), format_bytes(verified.value_bytes),
                        verified.damaged == 0
                            ? "all of them are what was stored"
                            : format_count(verified.damaged, "is damaged", "are damaged"));
    if (verified.was_interrupted) text += "  (interrupted)\n";
    text += files_text(summary);
  }
  if (summary.damage.empty()) return text;
  text += fmt::format("\nNOT AS IT SHOULD BE ({}):\n", summary.damage.size());
  for (const log_store::Damage& damage : summary.damage) text += "  " + to_text(damage) + "\n";
  return text;
}

nlohmann::json segment_json(const SegmentFacts& segment) {
  nlohmann::json json = {{"segment", segment.segment}, {"state", name_of(segment.finding)}};
  if (!is_used(segment)) return json;
  json["generation"] = generation_text(segment.generation);
  json["records"] = segment.records;
  json["tombstones"] = segment.tombstones;
  json["live_records"] = segment.live_records;
  json["live_bytes"] = segment.live_bytes;
  json["dead_bytes"] = segment.appended_bytes - segment.live_bytes;
  return json;
}

nlohmann::json damage_json(const log_store::Damage& damage) {
  nlohmann::json json = {{"what", printable(damage.what)}};
  if (damage.segment) json["segment"] = *damage.segment;
  if (damage.segment) json["offset"] = damage.offset;
  if (!damage.key.empty()) json["key"] = escape_key(damage.key);
  return json;
}

}  // namespace

const std::array<const char*, 9>& age_names() {
  static constexpr std::array<const char*, 9> kNames = {
      "up to 1 minute", "to 10 minutes", "to 1 hour", "to 6 hours",   "to 1 day",
      "to 1 week",      "to 30 days",    "older",     "in the future"};
  return kNames;
}

std::vector<std::uint32_t> InspectSummary::missing_numbers() const {
  std::vector<bool> is_there;
  for (const SegmentFacts& segment : segments) {
    if (segment.segment >= is_there.size()) is_there.resize(segment.segment + 1);
    is_there[segment.segment] = true;
  }
  std::vector<std::uint32_t> missing;
  for (std::size_t i = 0; i < is_there.size(); ++i) {
    if (!is_there[i]) missing.push_back(static_cast<std::uint32_t>(i));
  }
  return missing;
}

void InspectSummary::add(const log_store::LiveRecord& record, std::uint64_t now_wall_seconds) {
  ++keys;
  value_bytes += record.value_bytes;
  ++sizes[std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(record.value_bytes)),
                                kSizeBuckets - 1)];
  if (record.wall_seconds > now_wall_seconds) {
    ++ages[kToCome];
    return;
  }
  const std::uint64_t age = now_wall_seconds - record.wall_seconds;
  ++ages[static_cast<std::size_t>(std::ranges::lower_bound(kAgeSeconds, age) -
                                  kAgeSeconds.begin())];
}

std::uint64_t InspectSummary::live_bytes() const {
  std::uint64_t bytes = 0;
  for (const SegmentFacts& segment : segments) bytes += segment.live_bytes;
  return bytes;
}

std::uint64_t InspectSummary::dead_bytes() const {
  std::uint64_t bytes = 0;
  for (const SegmentFacts& segment : segments) {
    if (is_used(segment)) bytes += segment.appended_bytes - segment.live_bytes;
  }
  return bytes;
}

std::uint64_t InspectSummary::free_bytes() const {
  const auto used = static_cast<std::uint64_t>(std::ranges::count_if(segments, is_used));
  const auto lost = static_cast<std::uint64_t>(
      std::ranges::count(segments, SegmentFinding::kFailed, &SegmentFacts::finding));
  std::uint64_t bytes = facts.segment_count > used + lost
                            ? (facts.segment_count - used - lost) * facts.slot_bytes
                            : 0;
  for (const SegmentFacts& segment : segments) {
    if (segment.finding == SegmentFinding::kOpen) {
      bytes += facts.segment_bytes - facts.grain_bytes - segment.appended_bytes;
    }
  }
  return bytes;
}

std::string utc_text(std::uint64_t wall_seconds) {
  const auto seconds = static_cast<std::time_t>(wall_seconds);
  std::tm parts{};
  std::array<char, 64> text{};
  if (::gmtime_r(&seconds, &parts) == nullptr ||
      std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
    return std::to_string(wall_seconds);
  }
  return text.data();
}

std::string to_text(const log_store::Damage& damage) {
  std::string text;
  if (damage.segment) {
    text = fmt::format("{} at {}", log_store::segment_file_name(*damage.segment), damage.offset);
    if (!damage.key.empty()) text += ", key '" + escape_key(damage.key) + "'";
    text += ": ";
  }
  return text + printable(damage.what);
}

std::string to_text(const InspectSummary& summary) {
  const log_store::StoreFacts& facts = summary.facts;
  const std::uint64_t capacity = facts.capacity_bytes;
  std::string text =
      fmt::format("store     {} in {}\n", facts.store_id, printable(summary.directory));
  text += fmt::format("format    version {}, grain {}, {} of {} ({} in all)\n", facts.format_major,
                      facts.grain_bytes, format_count(facts.segment_count, "segment"),
                      format_bytes(facts.slot_bytes), format_bytes(capacity));
  if (facts.value_bytes_max > 0) {
    text += fmt::format("remembers capacity={}, max_value={}\n", format_bytes_exact(capacity),
                        format_bytes_exact(facts.value_bytes_max));
  }
  text += fmt::format("files     {}, {} of blocks with everything in the directory\n",
                      format_count(facts.segment_files, "segment"),
                      format_bytes(facts.allocated_bytes));
  text += fmt::format("history   made {}, opened {}, {}\n", utc_text(facts.created_wall_seconds),
                      format_count(facts.open_count, "time"),
                      facts.is_clean          ? "closed cleanly"
                      : facts.open_count == 0 ? "never used"
                                              : "not closed: its last owner was killed");
  text +=
      fmt::format("keys      {}, {} of values\n", summary.keys, format_bytes(summary.value_bytes));
  text += fmt::format("space     live {} ({}), dead {} ({}), free {} ({})\n",
                      format_bytes(summary.live_bytes()), percent(summary.live_bytes(), capacity),
                      format_bytes(summary.dead_bytes()), percent(summary.dead_bytes(), capacity),
                      format_bytes(summary.free_bytes()), percent(summary.free_bytes(), capacity));
  text += "\nsizes of values\n" + histogram_text(summary.sizes, [](std::size_t bucket) {
            return bucket == 0 ? std::string{"empty"}
                               : fmt::format("from {}", format_bytes_exact(bucket_start(bucket)));
          });
  text += "\nages, since they were stored or carried over\n" +
          histogram_text(summary.ages, [](std::size_t i) { return age_names()[i]; });
  text += "\nsegments, oldest first (# live, - dead, . not written in this generation)\n";
  text += fmt::format("  {:>7}  {:>12}  {:<9}{:>10}{:>10}{:>12}\n", "number", "generation", "state",
                      "records", "live", "live bytes");
  for (const SegmentFacts& segment : summary.segments) {
    text += segment_line(segment, facts.segment_bytes);
  }
  return text + damage_text(summary);
}

std::string to_json(const InspectSummary& summary) {
  const log_store::StoreFacts& facts = summary.facts;
  nlohmann::json json = {{"directory", printable(summary.directory)},
                         {"store_id", facts.store_id},
                         {"path_id", facts.path_id},
                         {"format", facts.format_major},
                         {"grain_bytes", facts.grain_bytes},
                         {"slot_bytes", facts.slot_bytes},
                         {"segment_bytes", facts.segment_bytes},
                         {"segment_count", facts.segment_count},
                         {"segment_files", facts.segment_files},
                         {"capacity_bytes", facts.capacity_bytes},
                         {"allocated_bytes", facts.allocated_bytes},
                         {"open_count", facts.open_count},
                         {"created", facts.created_wall_seconds},
                         {"clean", facts.is_clean},
                         {"max_value_bytes", facts.value_bytes_max},
                         {"knows_files", facts.knows_files},
                         {"missing_numbers", summary.missing_numbers()},
                         {"keys", summary.keys},
                         {"value_bytes", summary.value_bytes},
                         {"live_bytes", summary.live_bytes()},
                         {"dead_bytes", summary.dead_bytes()},
                         {"free_bytes", summary.free_bytes()},
                         {"ok", summary.is_well()}};
  json["sizes"] = nlohmann::json::array();
  for (std::size_t i = 0; i < summary.sizes.size(); ++i) {
    if (summary.sizes[i] == 0) continue;
    json["sizes"].push_back({{"from_bytes", bucket_start(i)}, {"keys", summary.sizes[i]}});
  }
  json["ages"] = nlohmann::json::array();
  for (std::size_t i = 0; i < summary.ages.size(); ++i) {
    if (summary.ages[i] == 0) continue;
    nlohmann::json bucket = {{"name", age_names()[i]}, {"keys", summary.ages[i]}};
    if (i < kAgeSeconds.size()) bucket["up_to_seconds"] = kAgeSeconds[i];
    json["ages"].push_back(std::move(bucket));
  }
  json["segments"] = nlohmann::json::array();
  for (const SegmentFacts& segment : summary.segments) {
    json["segments"].push_back(segment_json(segment));
  }
  json["damage"] = nlohmann::json::array();
  for (const log_store::Damage& damage : summary.damage) {
    json["damage"].push_back(damage_json(damage));
  }
  if (summary.verified) {
    json["verified"] = {{"records", summary.verified->records},
                        {"value_bytes", summary.verified->value_bytes},
                        {"damaged", summary.verified->damaged},
                        {"interrupted", summary.verified->was_interrupted}};
  }
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
