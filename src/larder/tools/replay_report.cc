#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connector/metrics.h"
#include "larder/tools/replay.h"
#include "larder/tools/replay_json.h"
#include "larder/tools/replay_text.h"

namespace larder::tools {
namespace {

/// Bytes per nanosecond are GB per second.
double gb_per_second(const ReplayOperation& operation) {
  return ratio(operation.bytes, operation.busy_ns);
}

std::string hits_text(const ReplayResult& result) {
  std::string text = "prefix hits\n" + hit_line("this store", result.hit, result.total);
  if (!result.has_model) return text;
  if (result.model_capacity_bytes > 0) {
    text += hit_line(fmt::format("exact LRU of {}", format_bytes(result.model_capacity_bytes)),
                     result.model_lru, result.total);
  }
  text += hit_line("a cache without a bound", result.model_unbounded, result.total);
  if (result.keys_at_start > 0) text += "  (the models start empty; this store did not)\n";
  return text;
}

std::string moved_text(const ReplayResult& result) {
  std::string text = fmt::format(
      "bytes\n  loaded {:>12}  {:6.2f} GB/s while loading, every byte verified\n"
      "  stored {:>12}  {:6.2f} GB/s while storing ({})\n",
      format_bytes(result.load.bytes), gb_per_second(result.load), format_bytes(result.store.bytes),
      gb_per_second(result.store), format_count(result.blocks_stored, "block"));
  const auto line = [&text](std::uint64_t count, const char* what) {
    if (count > 0) text += fmt::format("  {} {}\n", format_count(count, "block"), what);
  };
  line(result.blocks_already_there, "already there when stored (behind a hole)");
  line(result.blocks_lost_before_load, "gone between lookup and load");
  return text;
}

std::uint64_t total_of(const ReplayResult& result, const std::string& name) {
  const auto found = result.counters.find(name);
  return found == result.counters.end() ? 0 : found->second;
}

std::string evictions_text(const ReplayResult& result) {
  std::string text;
  const auto line = [&](const char* keys, const char* bytes, const char* what) {
    if (const std::uint64_t count = total_of(result, keys); count > 0) {
      text += fmt::format("  {} {}, {}\n", format_count(count, "block"), what,
                          format_bytes(total_of(result, bytes)));
    }
  };
  line("evictions_total", "bytes_evicted_total", "evicted");
  line("records_readmitted_total", "bytes_readmitted_total", "kept by moving them");
  return text;
}

/// Of every block that was looked up or loaded and not found; blocks behind a store's hole are
/// missing from the hits, not from here.
std::string misses_text(const ReplayResult& result) {
  std::string reasons;
  for (const char* const reason : kMissReasonNames) {
    std::uint64_t count = 0;
    for (const char* const name : {"lookup_misses_total", "load_misses_total"}) {
      count += total_of(result, flat_name({.name = name, .label_value = reason}));
    }
    if (count > 0) reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", reason, count);
  }
  return reasons.empty() ? "" : fmt::format("  not found, by reason: {}\n", reasons);
}

nlohmann::json operation_json(const ReplayOperation& operation) {
  nlohmann::json failures = nlohmann::json::object();
  nlohmann::json first_failures = nlohmann::json::object();
  for (const auto& [code, failure] : operation.failures) {
    failures[std::string{error_code_name(code)}] = failure.count;
    first_failures[std::string{error_code_name(code)}] = failure.first;
  }
  return {{"bytes", operation.bytes},
          {"busy_seconds", seconds(operation.busy_ns)},
          {"gb_per_second", gb_per_second(operation)},
          {"failures", failures},
          {"first_failures", first_failures},
          {"latency_ns", latency_json(operation.latency_ns)}};
}

}  // namespace

std::string to_text(const ReplayOptions& options, const ReplayResult& result) {
  const Report& report = result.report_at_end;
  std::string text = fmt::format("replay of {} through {} {}\n", printable(options.trace_path),
                                 report.type, printable(report.where));
  text += interrupted_text(result.interrupted_by);
  if (result.keys_at_start > 0) {
    text += fmt::format("  {} there at the start{}\n",
                        format_count(result.keys_at_start, "key was", "keys were"),
                        options.allow_eviction ? "" : ", of an earlier run");
  }
  text += fmt::format("  {}, {}, {} of {}, in {:.1f} s\n", format_count(result.requests, "request"),
                      format_count(result.total.tokens, "token"),
                      format_count(result.total.blocks, "block"),
                      format_bytes_exact(options.block_bytes), seconds(result.wall_ns));
  text += hits_text(result) + misses_text(result) + moved_text(result) + evictions_text(result);
  text += "latency per request\n" + latency_line("lookup", result.lookup.latency_ns) +
          latency_line("load", result.load.latency_ns) +
          latency_line("store", result.store.latency_ns);
  text += saved_text(options, result.hit, result.load.busy_ns);
  text += failures_text("lookup", result.lookup.failures) +
          failures_text("load", result.load.failures) +
          failures_text("store", result.store.failures);
  if (result.blocks_refused.count > 0) {
    text += fmt::format(
        "{}: {}; the first: {}\n",
        result.is_every_store_refused() ? "FAILED: EVERY STORE WAS REFUSED" : "refused",
        format_count(result.blocks_refused.count, "block"), printable(result.blocks_refused.first));
  }
  return text + wrong_bytes_text(result.mismatches, result.first_mismatch) +
         notes_text(result.trace_notes);
}

std::string to_json(const ReplayOptions& options, const ReplayResult& result) {
  const Report& report = result.report_at_end;
  nlohmann::json json = {
      {"trace", options.trace_path},
      {"notes", result.trace_notes},
      {"connector", report.type},
      {"where", report.where},
      {"interrupted_by", result.interrupted_by},
      {"ok", result.is_good() && result.interrupted_by.empty()},
      {"wall_seconds", seconds(result.wall_ns)},
      {"requests", result.requests},
      {"tokens", result.total.tokens},
      {"blocks", result.total.blocks},
      {"block_bytes", options.block_bytes},
      {"concurrency", options.concurrency},
      {"keys_at_start", result.keys_at_start},
      {"keys_at_end", report.keys},
      {"capacity_bytes", report.capacity_bytes},
      {"bytes_used", report.bytes_used},
      {"hit", hit_json(result.hit, result.total)},
      {"lookup", operation_json(result.lookup)},
      {"load", operation_json(result.load)},
      {"store", operation_json(result.store)},
      {"blocks_stored", result.blocks_stored},
      {"blocks_already_there", result.blocks_already_there},
      {"blocks_refused", result.blocks_refused.count},
      {"first_refusal", result.blocks_refused.first},
      {"blocks_lost_before_load", result.blocks_lost_before_load},
      {"mismatches", result.mismatches},
      {"first_mismatch", result.first_mismatch},
      {"assumed_tokens_per_second", options.tokens_per_second},
      {"prefill_seconds_saved", seconds_saved(options, result.hit)},
      {"counters", result.counters},
  };
  if (result.has_model) {
    json["model_capacity_bytes"] = result.model_capacity_bytes;
    json["model_lru"] = hit_json(result.model_lru, result.total);
    json["model_unbounded"] = hit_json(result.model_unbounded, result.total);
  }
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
