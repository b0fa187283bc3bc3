#include <fmt/format.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/tools/replay_text.h"
#include "larder/tools/size.h"

namespace larder::tools {
namespace {

double rate(const SizeResult& result, std::uint64_t hits) {
  return static_cast<double>(hits) / static_cast<double>(result.references);
}

/// One measure of all sizes and columns.
std::string table(
    const SizeResult& result, std::string_view title,
    const std::function<std::string(const SizePoint& point, std::uint64_t hits)>& cell) {
  std::string text = fmt::format("{}\n  {:<12}{:>10}", title, "capacity", "blocks");
  for (const std::string& column : result.columns) text += fmt::format("{:>12}", column);
  text += '\n';
  for (const SizePoint& point : result.points) {
    text +=
        fmt::format("  {:<12}{:>10}", format_bytes(point.capacity_bytes), point.capacity_blocks);
    for (const std::uint64_t hits : point.hits) text += fmt::format("{:>12}", cell(point, hits));
    text += '\n';
  }
  return text;
}

std::string percent(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

double misses_beside_lru(const SizeResult& result, const SizePoint& point, std::uint64_t hits) {
  return static_cast<double>(result.references - hits) /
             static_cast<double>(result.references - point.hits.front()) -
         1;
}

std::string tables(const SizeOptions& options, const SizeResult& result) {
  using Point = const SizePoint&;
  return table(result, "hit rate, of blocks",
               [&](Point, std::uint64_t hits) { return percent(rate(result, hits)); }) +
         table(result, "misses, 1 - hit rate",
               [&](Point, std::uint64_t hits) {
                 return percent(rate(result, result.references - hits));
               }) +
         table(result, "misses beside those of LRU",
               [&](Point point, std::uint64_t hits) {
                 return fmt::format("{:+.2f} %", 100 * misses_beside_lru(result, point, hits));
               }) +
         table(result, "share of the gap from LRU to the optimum that is closed",
               [&](Point point, std::uint64_t hits) {
                 const auto closed = gap_closed(point, hits);
                 return closed ? fmt::format("{:.1f} %", 100 * *closed) : std::string{"-"};
               }) +
         table(result, "ideal prefill speed-up, 1 / (1 - hit rate)",
               [&](Point, std::uint64_t hits) {
                 return fmt::format("{:.2f} x", prefill_speedup(result, hits));
               }) +
         table(result, "loaded instead of computed",
               [&](Point, std::uint64_t hits) { return format_bytes(hits * options.block_bytes); });
}

std::string notes(const SizeResult& result) {
  std::string text = notes_text(result.trace_notes);
  if (result.repeats > 0) {
    text += fmt::format("note: {} within one request left out\n",
                        format_count(result.repeats, "repeated block was", "repeated blocks were"));
  }
  if (result.inconsistent_blocks > 0) {
    text += fmt::format(
        "note: {} different blocks in different requests: ids of this trace do not stand for whole "
        "prefixes, and the optimum is only an upper bound\n",
        format_count(result.inconsistent_blocks, "block follows", "blocks follow"));
  }
  return text;
}

}  // namespace

std::string to_text(const SizeOptions& options, const SizeResult& result, const PlotStyle& style) {
  std::string text =
      fmt::format("size of a cache for {}\n  {}, {} of {}, {} of them distinct ({})\n",
                  printable(options.trace_path), format_count(result.requests, "request"),
                  format_count(result.references, "block"), format_bytes_exact(options.block_bytes),
                  result.blocks, format_bytes(result.blocks * options.block_bytes));
  text += fmt::format(
      "  without a bound {:.2f} % hit, {:.2f} x: every other block is asked for the first time\n",
      100 * rate(result, result.hits_max), prefill_speedup(result, result.hits_max));
  if (result.warmup_requests > 0) {
    text += fmt::format("  {} at the beginning not counted\n",
                        format_count(result.warmup_requests, "request"));
  }
  if (result.sessions > 0) text += "  " + format_count(result.sessions, "session") + "\n";
  if (result.hits_max > 0) {
    std::string enough;
    for (const SizeResult::Enough& one : result.enough) {
      enough += fmt::format("{} {:.0f} % with {}", enough.empty() ? "" : ",", 100 * one.share,
                            format_bytes(one.blocks * options.block_bytes));
    }
    text += "  of these hits LRU reaches" + enough + "\n";
  }
  return text + to_plot(result, style) + tables(options, result) + notes(result);
}

std::string to_json(const SizeOptions& options, const SizeResult& result) {
  nlohmann::json points = nlohmann::json::array();
  for (const SizePoint& point : result.points) {
    nlohmann::json policies = nlohmann::json::object();
    for (std::size_t column = 0; column < result.columns.size(); ++column) {
      const std::uint64_t hits = point.hits[column];
      const std::optional<double> closed = gap_closed(point, hits);
      policies[result.columns[column]] = {
          {"hit_rate", rate(result, hits)},
          {"hit_blocks", hits},
          {"miss_blocks", result.references - hits},
          {"miss_rate", rate(result, result.references - hits)},
          {"misses_beside_lru", misses_beside_lru(result, point, hits)},
          {"gap_closed", closed ? nlohmann::json(*closed) : nullptr},
          {"hit_bytes", hits * options.block_bytes},
          {"prefill_speedup", prefill_speedup(result, hits)}};
    }
    points.push_back({{"capacity_bytes", point.capacity_bytes},
                      {"capacity_blocks", point.capacity_blocks},
                      {"policies", std::move(policies)}});
  }
  nlohmann::json enough = nlohmann::json::array();
  for (const SizeResult::Enough& one : result.enough) {
    enough.push_back({{"share_of_most", one.share},
                      {"capacity_blocks", one.blocks},
                      {"capacity_bytes", one.blocks * options.block_bytes}});
  }
  const nlohmann::json json = {{"ok", true},
                               {"trace", options.trace_path},
                               {"requests", result.requests},
                               {"warmup_requests", result.warmup_requests},
                               {"sessions", result.sessions},
                               {"notes", result.trace_notes},
                               {"blocks", result.references},
                               {"block_tokens", result.block_tokens},
                               {"block_bytes", options.block_bytes},
                               {"distinct_blocks", result.blocks},
                               {"distinct_bytes", result.blocks * options.block_bytes},
                               {"repeated_blocks", result.repeats},
                               {"inconsistent_blocks", result.inconsistent_blocks},
                               {"is_optimum_exact", result.inconsistent_blocks == 0},
                               {"unbounded",
                                {{"hit_rate", rate(result, result.hits_max)},
                                 {"hit_blocks", result.hits_max},
                                 {"miss_blocks", result.references - result.hits_max},
                                 {"prefill_speedup", prefill_speedup(result, result.hits_max)}}},
                               {"lru_reaches", std::move(enough)},
                               {"sizes", std::move(points)}};
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
