#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/tools/bench.h"

namespace larder::tools {
namespace {

template <class Get>
Spread spread_over(const std::vector<BenchPair>& pairs, Get get) {
  std::vector<double> values;
  for (const BenchPair& pair : pairs) values.push_back(get(pair));
  return spread_of(std::move(values));
}

double gigabytes(const BenchPass& pass) {
  return static_cast<double>(pass.bytes_loaded + pass.bytes_stored) / 1e9;
}

double cpu_seconds_per_gb(const BenchPass& pass) {
  const double moved = gigabytes(pass);
  return moved > 0 ? pass.cpu_seconds / moved : 0;
}

/// The sums over all passes.
BenchPass sum_of(const std::vector<BenchPair>& pairs) {
  BenchPass sum;
  for (const BenchPair& pair : pairs) {
    sum.keys += pair.ours.keys;
    sum.bytes_loaded += pair.ours.bytes_loaded;
    sum.bytes_stored += pair.ours.bytes_stored;
    sum.misses += pair.ours.misses;
    sum.refused += pair.ours.refused;
    if (sum.first_refusal.empty()) sum.first_refusal = pair.ours.first_refusal;
    sum.failed += pair.ours.failed;
    sum.mismatches += pair.ours.mismatches;
    sum.wall_ns += pair.ours.wall_ns;
    if (sum.first_failure.empty()) sum.first_failure = pair.ours.first_failure;
    sum.batch_ns.merge(pair.ours.batch_ns);
  }
  return sum;
}

std::optional<double> lowest(const std::vector<BenchPair>& pairs,
                             std::optional<double> BenchPass::* share) {
  std::optional<double> low;
  for (const BenchPair& pair : pairs) {
    const std::optional<double>& value = pair.ours.*share;
    if (value && (!low || *value < *low)) low = value;
  }
  return low;
}

/// Payload that the store copied to its head to keep it, for each byte that was stored.
std::optional<double> readmission(const BenchSeries& series) {
  const auto moved = series.counters.find("bytes_readmitted_total");
  const auto stored = series.counters.find("bytes_stored_total");
  if (moved == series.counters.end() || stored == series.counters.end() || stored->second == 0) {
    return std::nullopt;
  }
  return static_cast<double>(moved->second) / static_cast<double>(stored->second);
}

std::string rate_line(std::string_view name, const Spread& rate, double cpu) {
  return fmt::format("  {:<26}{:8.3f} GB/s  (quartiles {:.3f} to {:.3f})  CPU {:.3f} s/GB\n", name,
                     rate.median, rate.lower, rate.upper, cpu);
}

std::string latency_line(std::string_view name, const LogLinearHistogram& latency,
                         std::uint64_t divisor) {
  const auto at = [&](double share) {
    return format_duration_ns(latency.quantile(share) / divisor);
  };
  return fmt::format("  {:<26}p50 {}, p90 {}, p99 {}, max {}\n", name, at(0.5), at(0.9), at(0.99),
                     format_duration_ns(latency.max() / divisor));
}

std::string trouble_text(const BenchPass& sum) {
  std::string text;
  if (sum.mismatches > 0)
    text += fmt::format("  WRONG BYTES in {}\n", format_count(sum.mismatches, "value"));
  if (sum.misses > 0) text += fmt::format("  {} found nothing\n", format_count(sum.misses, "load"));
  if (sum.refused > 0)
    text += fmt::format("  {}, the first: {}\n",
                        format_count(sum.refused, "store was refused", "stores were refused"),
                        printable(sum.first_refusal));
  if (sum.failed > 0)
    text += fmt::format("  {} failed, the first: {}\n", format_count(sum.failed, "key"),
                        printable(sum.first_failure));
  return text;
}

std::string ceiling_text(const BenchOptions& options, const BenchSeries& series,
                         const BenchPass& sum) {
  if (series.ceiling.empty()) return {};
  std::string text = rate_line(
      series.ceiling,
      spread_over(series.pairs, [](const BenchPair& pair) { return pair.ceiling->gb_per_second; }),
      spread_over(series.pairs, [](const BenchPair& pair) {
        return pair.ceiling->cpu_seconds_per_gb;
      }).median);
  if (const auto ratio = series.ratio()) {
    text += fmt::format("  {:<26}{:8.3f}       (quartiles {:.3f} to {:.3f})\n", "ratio",
                        ratio->median, ratio->lower, ratio->upper);
  }
  if (options.mode == BenchMode::kLatency) {
    const double theirs = spread_over(series.pairs, [](const BenchPair& pair) {
                            return static_cast<double>(pair.ceiling->latency_p50_ns);
                          }).median;
    text += fmt::format("  {:<26}{:+.1f} us (ours - {}: {})\n", "p50 difference",
                        (static_cast<double>(sum.batch_ns.quantile(0.5)) - theirs) / 1e3,
                        series.ceiling, format_duration_ns(static_cast<std::uint64_t>(theirs)));
  }
  if (!series.ceiling_search.empty()) {
    text += "  tried";
    for (const auto& [engine, rate] : series.ceiling_search) {
      text += fmt::format("; {} {:.2f}", engine, rate);
    }
    text += " (GB/s)\n";
  }
  return text;
}

std::string series_text(const BenchOptions& options, const BenchSeries& series) {
  std::string text =
      fmt::format("{} {}: batch {}, {} in flight, {} a pass, {} of {}\n",
                  bench_mode_name(options.mode), format_bytes_exact(series.value_bytes),
                  options.batch, series.in_flight, format_bytes(series.bytes_per_pass),
                  series.pairs.size(), format_count(options.pairs, "pair"));
  for (const std::string& note : series.notes) text += "  note: " + note + "\n";
  if (series.is_fill_bad) text += "  NOT MEASURED: the store could not be filled\n";
  if (series.pairs.empty()) return text;
  const BenchPass sum = sum_of(series.pairs);
  if (options.mode == BenchMode::kExists) {
    const Spread rate = spread_over(series.pairs, [](const BenchPair& pair) {
      return static_cast<double>(pair.ours.keys) / static_cast<double>(pair.ours.wall_ns) * 1e3;
    });
    text += fmt::format("  {:<26}{:8.3f} M keys/s (quartiles {:.3f} to {:.3f})\n", "ours",
                        rate.median, rate.lower, rate.upper);
  } else {
    text += rate_line(
        "ours",
        spread_over(series.pairs, [](const BenchPair& pair) { return pair.ours.gb_per_second(); }),
        spread_over(series.pairs, [](const BenchPair& pair) {
          return cpu_seconds_per_gb(pair.ours);
        }).median);
  }
  text += ceiling_text(options, series, sum);
  text += latency_line("latency of a batch", sum.batch_ns, 1);
  if (options.batch > 1) text += latency_line("  divided by its keys", sum.batch_ns, options.batch);
  if (const auto share = lowest(series.pairs, &BenchPass::disk_read_share)) {
    text += fmt::format("  {:<26}{:.3f} x the bytes returned (lowest pass)\n", "read by the device",
                        *share);
  }
  if (const auto share = lowest(series.pairs, &BenchPass::disk_write_share)) {
    text += fmt::format("  {:<26}{:.3f} x the bytes stored (lowest pass)\n",
                        "written by the device", *share);
  }
  if (const auto share = readmission(series)) {
    text += fmt::format("  {:<26}{:.3f} x the bytes stored; ratio x (1 + readmission) = {:.3f}\n",
                        "readmission", *share,
                        series.ratio() ? series.ratio()->median * (1 + *share) : 0.0);
  }
  return text + trouble_text(sum);
}

nlohmann::json spread_json(const Spread& spread) {
  return {{"lower_quartile", spread.lower},
          {"median", spread.median},
          {"upper_quartile", spread.upper}};
}

nlohmann::json pair_json(const BenchPair& pair) {
  const BenchPass& ours = pair.ours;
  nlohmann::json json = {{"gb_per_second", ours.gb_per_second()},
                         {"keys", ours.keys},
                         {"wall_seconds", static_cast<double>(ours.wall_ns) / 1e9},
                         {"bytes_loaded", ours.bytes_loaded},
                         {"bytes_stored", ours.bytes_stored},
                         {"cpu_seconds", ours.cpu_seconds},
                         {"cpu_seconds_per_gb", cpu_seconds_per_gb(ours)},
                         {"misses", ours.misses},
                         {"refused", ours.refused},
                         {"first_refusal", ours.first_refusal},
                         {"failed", ours.failed},
                         {"first_failure", ours.first_failure},
                         {"mismatches", ours.mismatches},
                         {"batch_p50_ns", ours.batch_ns.quantile(0.5)},
                         {"batch_p90_ns", ours.batch_ns.quantile(0.9)},
                         {"batch_p99_ns", ours.batch_ns.quantile(0.99)},
                         {"batch_max_ns", ours.batch_ns.max()}};
  if (ours.disk_read_share) json["disk_read_share"] = *ours.disk_read_share;
  if (ours.disk_write_share) json["disk_write_share"] = *ours.disk_write_share;
  if (pair.ceiling) {
    json["ceiling"] = {{"gb_per_second", pair.ceiling->gb_per_second},
                       {"cpu_seconds_per_gb", pair.ceiling->cpu_seconds_per_gb},
                       {"latency_p50_ns", pair.ceiling->latency_p50_ns}};
  }
  return json;
}

nlohmann::json series_json(const BenchSeries& series) {
  nlohmann::json json = {{"value_bytes", series.value_bytes},
                         {"in_flight", series.in_flight},
                         {"bytes_per_pass", series.bytes_per_pass},
                         {"ceiling", series.ceiling},
                         {"ceiling_search_gb_per_second", series.ceiling_search},
                         {"counters", series.counters},
                         {"notes", series.notes},
                         {"could_be_filled", !series.is_fill_bad},
                         {"pairs", nlohmann::json::array()}};
  json["gb_per_second"] = spread_json(
      spread_over(series.pairs, [](const BenchPair& pair) { return pair.ours.gb_per_second(); }));
  if (const auto ratio = series.ratio()) json["ratio"] = spread_json(*ratio);
  if (const auto share = readmission(series)) json["readmission"] = *share;
  for (const BenchPair& pair : series.pairs) json["pairs"].push_back(pair_json(pair));
  return json;
}

nlohmann::json machine_json(const MachineInfo& machine) {
  return {{"commit", machine.commit},           {"kernel", machine.kernel},
          {"processor", machine.processor},     {"processors", machine.processors},
          {"cache_bytes", machine.cache_bytes}, {"memory_bytes", machine.memory_bytes},
          {"file_system", machine.file_system}, {"mount_options", machine.mount_options},
          {"device", machine.device},           {"page_cache", machine.is_page_cache}};
}

std::string machine_text(const MachineInfo& machine) {
  std::string text =
      fmt::format("  commit {}, {}, {} x {}, last-level cache {}, memory {}\n", machine.commit,
                  machine.kernel, machine.processors, machine.processor,
                  format_bytes(machine.cache_bytes), format_bytes(machine.memory_bytes));
  if (!machine.file_system.empty()) {
    text += fmt::format("  {} ({}) on {}\n", machine.file_system, machine.mount_options,
                        machine.device);
  }
  if (machine.is_page_cache)
    text += "  page cache: a loop device without direct I/O shows no disk\n";
  return text;
}

}  // namespace

std::string to_text(const BenchResult& result) {
  std::string text = fmt::format("bench of {} {}", result.connector, printable(result.where));
  for (const auto& [name, value] : result.properties) text += fmt::format(", {} {}", name, value);
  text += "\n" + machine_text(result.machine);
  if (!result.interrupted_by.empty()) {
    text += fmt::format("  INTERRUPTED by {}: whole pairs until then\n", result.interrupted_by);
  }
  for (const BenchSeries& series : result.series) text += series_text(result.options, series);
  if (result.is_not_cold) {
    text +=
        "NOT COLD: the device read less than 0.98 x the bytes that were returned, or does not "
        "say\n";
  }
  if (result.is_goal_missed) text += fmt::format("GOAL MISSED: {:.3f}\n", result.options.goal);
  return text;
}

std::string to_json(const BenchResult& result) {
  const BenchOptions& options = result.options;
  nlohmann::json json = {{"connector", result.connector},
                         {"where", result.where},
                         {"properties", result.properties},
                         {"mode", std::string{bench_mode_name(options.mode)}},
                         {"batch", options.batch},
                         {"slices", options.slices},
                         {"unaligned_bytes", options.unaligned_bytes},
                         {"first_turn", options.is_first_turn},
                         {"machine", machine_json(result.machine)},
                         {"interrupted_by", result.interrupted_by},
                         {"not_cold", result.is_not_cold},
                         {"goal", options.goal},
                         {"goal_missed", result.is_goal_missed},
                         {"ok", result.is_good() && result.interrupted_by.empty()},
                         {"series", nlohmann::json::array()}};
  for (const BenchSeries& series : result.series) json["series"].push_back(series_json(series));
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
