#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/tools/l1_replay.h"
#include "larder/tools/replay_json.h"
#include "larder/tools/replay_text.h"

namespace larder::tools {
namespace {

/// How people know the tier: "L2 log /data/kv", or with its number where there are several.
std::string name_of(const L1ReplayResult& result, std::size_t tier) {
  const Report& report = result.tier_reports[tier];
  const std::string number = result.tiers.size() == 1 ? "" : " " + std::to_string(tier + 1);
  const std::string where = report.where.empty() ? "" : " " + printable(report.where);
  return "L2" + number + " " + report.type + where;
}

std::string head_text(const L1ReplayOptions& options, const L1ReplayResult& result) {
  std::string text = fmt::format("replay of {} through L1, {}{}", printable(options.trace_path),
                                 format_bytes_exact(options.l1_bytes),
                                 options.sizes_only ? " without its memory" : "");
  for (std::size_t i = 0; i < result.tiers.size(); ++i) text += ", " + name_of(result, i);
  text += '\n' + interrupted_text(result.interrupted_by);
  if (result.keys_at_start > 0) {
    text += fmt::format("  {} in L2 at the start\n",
                        format_count(result.keys_at_start, "key was", "keys were"));
  }
  text += fmt::format(
      "  {}, {}, {} of {}{}, in {:.1f} s\n", format_count(result.requests.size(), "request"),
      format_count(result.total.tokens, "token"), format_count(result.total.blocks, "block"),
      format_bytes_exact(options.block_bytes),
      options.ranks == 1 ? "" : fmt::format(" for {} ranks", options.ranks),
      seconds(result.wall_ns));
  return text + fmt::format("  L1 holds {}, policy {}\n", format_count(result.columns_max, "block"),
                            result.policy);
}

std::string misses_text(const cache::EngineTotals& totals) {
  std::string reasons;
  for (std::size_t i = 0; i < cache::kMisses; ++i) {
    if (totals.missed[i] == 0) continue;
    reasons +=
        fmt::format("{}{} {}", reasons.empty() ? "" : ", ", cache::kMissNames[i], totals.missed[i]);
  }
  return reasons.empty() ? "" : "  not hit, by reason: " + reasons + "\n";
}

std::string hits_text(const L1ReplayResult& result) {
  std::string text = "prefix hits\n" + hit_line("L1", result.hit_l1, result.total);
  if (!result.tiers.empty()) {
    text += hit_line("L2", result.hit_l2, result.total);
    text += hit_line("both", result.hit(), result.total);
  }
  if (result.has_model) {
    text += hit_line(fmt::format("exact LRU of {}", format_count(result.columns_max, "block")),
                     result.model_lru, result.total);
    text += hit_line("a cache without a bound", result.model_unbounded, result.total);
    if (result.keys_at_start > 0) text += "  (the models start empty; L2 did not)\n";
  }
  return text + misses_text(result.stats.totals);
}

std::string bytes_text(const L1ReplayOptions& options, const L1ReplayResult& result) {
  const cache::EngineTotals& totals = result.stats.totals;
  std::string text =
      fmt::format("bytes\n  L1 read {}, written {}{}\n", format_bytes(result.bytes_read),
                  format_bytes(result.bytes_written),
                  options.sizes_only ? ", counted only" : ", every byte verified");
  for (std::size_t i = 0; i < result.tiers.size(); ++i) {
    const TierCounts& tier = result.tiers[i];
    text += fmt::format("  {}: loaded {} in {}, stored {} in {}\n", name_of(result, i),
                        format_bytes(tier.bytes_loaded), format_count(tier.values_loaded, "value"),
                        format_bytes(tier.bytes_stored), format_count(tier.values_stored, "value"));
  }
  const auto line = [&text](std::uint64_t count, const char* unit, std::string_view what) {
    if (count > 0) text += fmt::format("  {} {}\n", format_count(count, unit), what);
  };
  line(totals.columns_evicted, "block",
       fmt::format("evicted from L1, {}", format_bytes(totals.bytes_evicted)));
  line(totals.cells_promoted, "value", "of L2 kept in L1");
  line(totals.writes_refused, "write", "refused: L1 had no room");
  line(totals.writes_cut, "write", "cut: L1 had room for a part");
  line(totals.l2_store_lost, "value", "lost to L2: evicted from L1 before they were stored");
  line(totals.l2_store_failed, "value", "given up: L2 failed to store them three times");
  line(result.stats.cells_wanted, "value", "not stored to L2 when the replay ended");
  return text;
}

std::string failures_text(const L1ReplayResult& result) {
  std::string text;
  for (std::size_t i = 0; i < result.tiers.size(); ++i) {
    const TierCounts& tier = result.tiers[i];
    const std::string name = name_of(result, i);
    text += failures_text("lookup", tier.lookup_failures, name) +
            failures_text("load", tier.load_failures, name) +
            failures_text("store", tier.store_failures, name);
    if (tier.stores_refused.count == 0) continue;
    text += fmt::format(
        "{}: {}: {}; the first: {}\n",
        tier.is_every_store_refused() ? "FAILED: EVERY STORE WAS REFUSED" : "refused", name,
        format_count(tier.stores_refused.count, "store"), printable(tier.stores_refused.first));
  }
  return text;
}

nlohmann::json failures_json(const Failures& failures) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [code, failure] : failures) {
    json[std::string{error_code_name(code)}] = {{"count", failure.count}, {"first", failure.first}};
  }
  return json;
}

nlohmann::json l1_json(const L1ReplayOptions& options, const L1ReplayResult& result) {
  const cache::EngineTotals& totals = result.stats.totals;
  return {{"capacity_bytes", options.l1_bytes},
          {"capacity_blocks", result.columns_max},
          {"policy", result.policy},
          {"hit", hit_json(result.hit_l1, result.total)},
          {"bytes_read", result.bytes_read},
          {"bytes_written", result.bytes_written},
          {"blocks_evicted", totals.columns_evicted},
          {"bytes_evicted", totals.bytes_evicted},
          {"values_promoted", totals.cells_promoted},
          {"writes_refused", totals.writes_refused},
          {"writes_cut", totals.writes_cut}};
}

nlohmann::json l2_json(const L1ReplayResult& result) {
  const cache::EngineTotals& totals = result.stats.totals;
  nlohmann::json tiers = nlohmann::json::array();
  for (std::size_t i = 0; i < result.tiers.size(); ++i) {
    const TierCounts& tier = result.tiers[i];
    const Report& report = result.tier_reports[i];
    tiers.push_back({{"connector", report.type},
                     {"where", report.where},
                     {"keys_at_end", report.keys},
                     {"values_loaded", tier.values_loaded},
                     {"bytes_loaded", tier.bytes_loaded},
                     {"load_misses", tier.load_misses},
                     {"values_stored", tier.values_stored},
                     {"bytes_stored", tier.bytes_stored},
                     {"values_already_there", tier.already_there},
                     {"stores_refused", tier.stores_refused.count},
                     {"first_refusal", tier.stores_refused.first},
                     {"lookup_failures", failures_json(tier.lookup_failures)},
                     {"load_failures", failures_json(tier.load_failures)},
                     {"store_failures", failures_json(tier.store_failures)}});
  }
  return {{"hit", hit_json(result.hit_l2, result.total)},
          {"stores_lost", totals.l2_store_lost},
          {"stores_given_up", totals.l2_store_failed},
          {"values_unwritten", result.stats.cells_wanted},
          {"tiers", std::move(tiers)}};
}

}  // namespace

std::string to_text(const L1ReplayOptions& options, const L1ReplayResult& result) {
  std::string text = head_text(options, result) + hits_text(result) + bytes_text(options, result);
  text += "latency per request\n" + latency_line("lookup", result.lookup_ns);
  return text + saved_text(options, result.hit(), result.lookup_busy_ns) + failures_text(result) +
         wrong_bytes_text(result.mismatches, result.first_mismatch) +
         notes_text(result.trace_notes);
}

std::string to_json(const L1ReplayOptions& options, const L1ReplayResult& result) {
  nlohmann::json misses = nlohmann::json::object();
  for (std::size_t i = 0; i < cache::kMisses; ++i) {
    misses[cache::kMissNames[i]] = result.stats.totals.missed[i];
  }
  nlohmann::json json = {
      {"trace", options.trace_path},
      {"notes", result.trace_notes},
      {"interrupted_by", result.interrupted_by},
      {"ok", result.is_good() && result.interrupted_by.empty()},
      {"wall_seconds", seconds(result.wall_ns)},
      {"requests", result.requests.size()},
      {"tokens", result.total.tokens},
      {"blocks", result.total.blocks},
      {"block_bytes", options.block_bytes},
      {"ranks", options.ranks},
      {"keys_at_start", result.keys_at_start},
      {"hit", hit_json(result.hit(), result.total)},
      {"l1", l1_json(options, result)},
      {"l2", l2_json(result)},
      {"misses_by_reason", std::move(misses)},
      {"lookup",
       {{"busy_seconds", seconds(result.lookup_busy_ns)},
        {"latency_ns", latency_json(result.lookup_ns)}}},
      {"mismatches", result.mismatches},
      {"first_mismatch", result.first_mismatch},
      {"assumed_tokens_per_second", options.tokens_per_second},
      {"prefill_seconds_saved", seconds_saved(options, result.hit())},
  };
  if (result.has_model) {
    json["model_lru"] = hit_json(result.model_lru, result.total);
    json["model_unbounded"] = hit_json(result.model_unbounded, result.total);
  }
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
