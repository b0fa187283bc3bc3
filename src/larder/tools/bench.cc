#include "larder/tools/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/connector/connector.h"
#include "larder/connector/metrics.h"
#include "larder/tools/bench_ceiling.h"
#include "larder/tools/bench_phases.h"
#include "larder/tools/bench_resp_ceiling.h"
#include "larder/tools/disk_stats.h"
#include "larder/tools/fio_runner.h"
#include "larder/tools/foreign_keys.h"
#include "larder/tools/open_connector.h"
#include "larder/tools/open_rehearsal.h"

namespace larder::tools {
namespace {

constexpr double kColdShare = 0.98;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
/// Enough for every disk's depth at small values, and no more than memory at large ones.
constexpr std::uint64_t kInFlightBytes = std::uint64_t{256} << 20;

constexpr std::array<std::pair<std::string_view, BenchMode>, 5> kModes = {{
    {"load", BenchMode::kLoad},
    {"store", BenchMode::kStore},
    {"mixed", BenchMode::kMixed},
    {"exists", BenchMode::kExists},
    {"latency", BenchMode::kLatency},
}};

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

std::map<std::string, std::uint64_t> totals_of(const Report& report) {
  std::map<std::string, std::uint64_t> totals;
  for (const Metric& metric : metrics_of(report)) {
    if (metric.name.ends_with("_total")) {
      totals[flat_name(metric)] = static_cast<std::uint64_t>(metric.value);
    }
  }
  return totals;
}

/// The directory of the values, if they are in one on this machine.
std::string directory_of(const Connector& connector) {
  const Locality locality = connector.capabilities().locality;
  if (locality != Locality::kLocalDisk && locality != Locality::kSharedFiles) return {};
  const std::string where = connector.report().where;
  std::error_code error;
  return std::filesystem::is_directory(where, error) ? where : std::string{};
}

/// Bytes of values in one pass, bounded so that it measures what its name says.
std::uint64_t room_per_pass(const BenchOptions& options, std::uint64_t value_bytes,
                            std::uint64_t capacity_bytes) {
  if (capacity_bytes == 0) return kNever;
  // A record is larger than its value, and a ring keeps some of its segments free.
  const double payload = static_cast<double>(value_bytes) / static_cast<double>(value_bytes + 4096);
  double share = 0.75;
  if (options.mode == BenchMode::kMixed) share = 0.5;
  if (options.mode == BenchMode::kStore) share = options.is_first_turn ? 0.85 / options.pairs : 0.5;
  return static_cast<std::uint64_t>(static_cast<double>(capacity_bytes) * payload * share);
}

/// Exactly the requested values are measured, as whole values.
SetupResult<std::uint64_t> keys_asked_for(const BenchOptions& options, std::uint64_t value_bytes,
                                          std::uint64_t capacity_bytes) {
  const std::uint64_t keys = options.bytes / value_bytes + (options.bytes % value_bytes > 0);
  const std::uint64_t room = room_per_pass(options, value_bytes, capacity_bytes);
  if (keys <= room / value_bytes) return keys;
  return invalid(fmt::format(
      "--bytes {}: with --mode {}{} a pass over a store of capacity={} has room for {}; choose no "
      "more than that, or a larger capacity",
      format_bytes_exact(options.bytes), bench_mode_name(options.mode),
      options.is_first_turn
          ? fmt::format(" --first-turn and {}", format_count(options.pairs, "pair"))
          : "",
      format_bytes_exact(capacity_bytes), format_bytes_exact(room / value_bytes * value_bytes)));
}

/// Checked before a store is made for options that it would refuse.
SetupStatus check_before_open(const BenchOptions& options) {
  if (options.is_first_turn && options.value_bytes.size() > 1) {
    return invalid("--first-turn measures one --size: the next would not find a fresh store");
  }
  LARDER_ASSIGN(const ReadSpec read, read_spec(options.spec));
  const auto limits = rehearse_open(read);
  if (!limits && limits.error().code != ErrorCode::kUnavailable) return limits.error();
  if (!limits || !*limits) return {};  // The open is going to tell.
  for (const std::uint64_t value_bytes : options.value_bytes) {
    LARDER_TRY(BenchPhases::check_shape(options, value_bytes, (*limits)->value_bytes_max,
                                        (*limits)->slices_max));
    if (options.bytes == 0) continue;
    LARDER_TRY(keys_asked_for(options, value_bytes, (*limits)->capacity_bytes));
  }
  return {};
}

/// The whole of one benchmark over one connector.
class Bench {
 public:
  Bench(const BenchOptions& options, Connector& connector, const std::atomic<bool>& stop)
      : connector_(connector),
        stop_(stop),
        directory_(directory_of(connector)),
        disk_(directory_.empty() ? std::nullopt : Disk::behind(directory_)),
        progress_("bench", options.is_quiet) {
    result_.options = options;
    if (options.mode == BenchMode::kLatency) result_.options.batch = result_.options.in_flight = 1;
  }

  SetupResult<BenchResult> run() {
    const Report report = connector_.report();
    LARDER_TRY(check_start(report));
    result_.machine = describe_machine(directory_);
    result_.connector = report.type;
    result_.where = report.where;
    result_.properties.insert(report.properties.begin(), report.properties.end());
    for (const std::uint64_t value_bytes : options().value_bytes) {
      if (is_stopped()) break;
      LARDER_TRY(measure_series(value_bytes));
    }
    if (is_stopped()) result_.interrupted_by = "a signal";
    progress_.finish();
    if (options().goal > 0) result_.is_goal_missed = !is_goal_met();
    return std::move(result_);
  }

 private:
  const BenchOptions& options() const { return result_.options; }
  bool is_stopped() const { return stop_.load(std::memory_order_relaxed); }

  SetupStatus check_start(const Report& report) const {
    if (!options().allow_eviction) {
      LARDER_TRY(check_no_foreign_keys(connector_, {}, "a benchmark", stop_));
    }
    if (!options().is_first_turn) return {};
    if (report.operation(Op::kSet).total.bytes > 0) {
      return invalid(
          fmt::format("{}: --first-turn needs a store that was never written", report.where));
    }
    return {};
  }

  // The parameters of one pass.

  SetupResult<std::uint64_t> keys_per_pass(std::uint64_t value_bytes,
                                           std::vector<std::string>& notes) const {
    const std::uint64_t capacity = connector_.report().capacity_bytes;
    if (options().bytes > 0) return keys_asked_for(options(), value_bytes, capacity);
    const std::uint64_t wanted = std::max(kGiB, 2 * result_.machine.cache_bytes);
    std::uint64_t bytes = std::min(wanted, room_per_pass(options(), value_bytes, capacity));
    if (!directory_.empty()) {
      std::error_code error;
      const auto space = std::filesystem::space(directory_, error);
      if (!error) bytes = std::min<std::uint64_t>(bytes, space.available / 3);
    }
    const std::uint64_t keys =
        std::max<std::uint64_t>(bytes / value_bytes, std::uint64_t{options().batch} * 2);
    if (keys * value_bytes < wanted / 100 * 99) {
      notes.push_back(
          fmt::format("{} a pass instead of {}: the store or the disk has no room for more",
                      format_bytes(keys * value_bytes), format_bytes(wanted)));
    }
    return keys;
  }

  // A series.

  SetupStatus measure_series(std::uint64_t value_bytes) {
    BenchSeries series;
    const bool has_huge_pages = choose_pages(value_bytes, series);
    BenchOptions phase_options = options();
    if (phase_options.in_flight == 0) {
      const std::uint64_t batches = kInFlightBytes / (value_bytes * options().batch);
      phase_options.in_flight =
          static_cast<std::uint32_t>(std::clamp<std::uint64_t>(batches, 2, 16));
    }
    LARDER_ASSIGN(
        const std::unique_ptr<BenchPhases> phases,
        BenchPhases::create(phase_options, value_bytes, connector_, disk_, has_huge_pages, stop_));
    series.value_bytes = value_bytes;
    series.in_flight = phase_options.in_flight;
    LARDER_ASSIGN(const std::uint64_t keys, keys_per_pass(value_bytes, series.notes));
    series.bytes_per_pass = keys * value_bytes;
    fill(*phases, keys, series);
    SetupStatus status;
    std::unique_ptr<BenchCeiling> ceiling;
    if (!is_stopped() && !series.is_fill_bad) {
      auto made = make_ceiling(value_bytes, keys, has_huge_pages, series);
      if (made) {
        ceiling = std::move(*made);
      } else if (!is_stopped()) {  // A signal ends fio, too.
        status = made.error();
      }
    }
    if (status && !is_stopped() && !series.is_fill_bad)
      status = measure_pairs(*phases, keys, ceiling.get(), series);
    ceiling.reset();
    progress_.retitle("removing the benchmark's keys");
    phases->remove_all(progress_);
    result_.series.push_back(std::move(series));
    return status;
  }

  /// Ours and fio's buffers are of one kind, or the comparison would be of pages.
  bool choose_pages(std::uint64_t value_bytes, BenchSeries& series) {
    if (!options().has_huge_pages) return false;
    if (!options().with_ceiling || options().mode == BenchMode::kExists || directory_.empty()) {
      return true;
    }
    const auto missing = huge_pages_missing(options(), value_bytes);
    series.notes.push_back(
        missing
            ? fmt::format("buffers of small pages, fio's and ours: fio would need {} huge pages "
                          "(sysctl vm.nr_hugepages={})",
                          *missing, *missing)
            : "buffers of huge pages, fio's and ours");
    return !missing;
  }

  void fill(BenchPhases& phases, std::uint64_t keys, BenchSeries& series) {
    progress_.retitle("filling the store");
    if (options().mode != BenchMode::kStore) {
      check_fill(phases.store(keys, progress_), series);
      return;
    }
    if (options().is_first_turn) return;
    const Report before = connector_.report();
    if (before.capacity_bytes == 0) {
      series.notes.emplace_back("the store has no bound: there is no steady state with eviction");
      return;
    }
    // Until it evicts; a store that never reports it has been written through a little more than
    // once by then.
    const std::uint64_t enough = before.capacity_bytes / 10 * 11 / series.value_bytes;
    while (phases.keys_stored() < enough && !is_stopped() && !series.is_fill_bad &&
           connector_.report().evictions.keys == before.evictions.keys) {
      const std::uint64_t step = std::max<std::uint64_t>(options().batch, enough / 100);
      check_fill(phases.store(step, progress_), series);
      phases.touch(step, options().touch_percent, progress_);
      progress_.update(phases.keys_stored(), enough, "until it evicts");
    }
  }

  static void check_fill(const BenchPass& pass, BenchSeries& series) {
    if (pass.failed > 0 || pass.is_every_store_refused()) series.is_fill_bad = true;
    if (pass.failed > 0) {
      series.notes.push_back(fmt::format("{} failed while filling, the first: {}",
                                         format_count(pass.failed, "store"), pass.first_failure));
    }
    if (pass.refused > 0) {
      series.notes.push_back(format_count(pass.refused, "store was refused while filling",
                                          "stores were refused while filling") +
                             ", the first: " + pass.first_refusal);
    }
  }

  SetupResult<std::unique_ptr<BenchCeiling>> make_ceiling(std::uint64_t value_bytes,
                                                          std::uint64_t keys, bool has_huge_pages,
                                                          BenchSeries& series) {
    using Made = SetupResult<std::unique_ptr<BenchCeiling>>;
    if (!options().with_ceiling || options().mode == BenchMode::kExists) return Made{nullptr};
    if (connector_.capabilities().locality == Locality::kMemory) {
      return make_memcpy_ceiling(value_bytes, keys);
    }
    if (connector_.report().type == "resp") {
      auto made = make_resp_ceiling(options(), value_bytes, keys);
      if (made && *made == nullptr) {
        series.notes.emplace_back(
            "nothing to compare with: the raw client speaks no TLS, and only "
            "loads, stores and latency");
      }
      return made;
    }
    if (directory_.empty()) {
      series.notes.emplace_back("nothing to compare with: the values are in no single directory");
      return Made{nullptr};
    }
    if (!is_fio_installed()) {
      series.notes.emplace_back(
          "fio is not installed, so there is no ceiling and no ratio (apt-get install fio)");
      return Made{nullptr};
    }
    return make_fio_ceiling(options(), directory_, value_bytes, keys, has_huge_pages,
                            series.ceiling_search, progress_, stop_);
  }

  SetupStatus measure_pairs(BenchPhases& phases, std::uint64_t keys, BenchCeiling* ceiling,
                            BenchSeries& series) {
    if (ceiling != nullptr) series.ceiling = ceiling->label();
    const auto before = totals_of(connector_.report());
    for (std::uint32_t i = 0; i < options().pairs; ++i) {
      progress_.retitle(fmt::format("{} {}, pair {} of {}", bench_mode_name(options().mode),
                                    format_bytes_exact(series.value_bytes), i + 1,
                                    options().pairs));
      if (reads_disk()) drop_cached_pages(directory_);
      BenchPair pair;
      pair.ours = measure_ours(phases, keys);
      if (is_stopped()) break;  // Half a pass proves nothing.
      if (ceiling != nullptr) {
        auto pass = ceiling->measure();
        if (is_stopped()) break;
        if (!pass) return pass.error();
        pair.ceiling = *pass;
      }
      judge(pair.ours, series);
      series.pairs.push_back(std::move(pair));
      if (options().mode == BenchMode::kStore && !options().is_first_turn) {
        phases.touch(keys, options().touch_percent, progress_);
      }
    }
    for (const auto& [name, value] : totals_of(connector_.report())) {
      const auto start = before.find(name);
      series.counters[name] = value - (start == before.end() ? 0 : std::min(start->second, value));
    }
    return {};
  }

  BenchPass measure_ours(BenchPhases& phases, std::uint64_t keys) {
    switch (options().mode) {
      case BenchMode::kLoad:
      case BenchMode::kLatency:
        return phases.load(keys, progress_);
      case BenchMode::kStore:
        return phases.store(keys, progress_);
      case BenchMode::kMixed:
        return phases.mixed(keys, keys, progress_);
      case BenchMode::kExists:
        // A lookup moves no values: more keys than were stored, so that there is a time to measure.
        return phases.exists(std::max<std::uint64_t>(keys, 200'000), keys, progress_);
    }
    return {};
  }

  bool reads_disk() const {
    return !directory_.empty() && !options().is_warm && options().mode != BenchMode::kStore &&
           options().mode != BenchMode::kExists;
  }

  void judge(const BenchPass& pass, BenchSeries& series) {
    if (reads_disk() && pass.disk_read_share.value_or(0) < kColdShare) result_.is_not_cold = true;
    if (pass.disk_write_share.value_or(1) < kColdShare) {
      constexpr std::string_view kNote =
          "stores did not all reach the device within their pass: page cache";
      if (series.notes.empty() || series.notes.back() != kNote) series.notes.emplace_back(kNote);
    }
  }

  bool is_goal_met() const {
    if (!result_.interrupted_by.empty()) return false;
    return std::all_of(result_.series.begin(), result_.series.end(), [this](const auto& series) {
      const auto ratio = series.ratio();
      return ratio && ratio->median >= options().goal && ratio->lower >= 0.9 * options().goal;
    });
  }

  Connector& connector_;
  const std::atomic<bool>& stop_;
  const std::string directory_;
  const std::optional<Disk> disk_;
  Progress progress_;
  BenchResult result_;
};

}  // namespace

SetupResult<BenchMode> parse_bench_mode(std::string_view text) {
  for (const auto& [name, mode] : kModes) {
    if (name == text) return mode;
  }
  return invalid("--mode \"" + std::string{text} +
                 "\": expected load, store, mixed, exists or latency");
}

std::string_view bench_mode_name(BenchMode mode) {
  for (const auto& [name, value] : kModes) {
    if (value == mode) return name;
  }
  return "unknown";
}

double BenchPass::gb_per_second() const {
  if (wall_ns == 0) return 0;
  return static_cast<double>(bytes_loaded + bytes_stored) / static_cast<double>(wall_ns);
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&values](double share) {
    const double position = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return std::lerp(values[below], values[above], position - std::floor(position));
  };
  return {at(0.25), at(0.5), at(0.75)};
}

std::optional<Spread> BenchSeries::ratio() const {
  std::vector<double> ratios;
  for (const BenchPair& pair : pairs) {
    if (!pair.ceiling || pair.ceiling->gb_per_second <= 0) return std::nullopt;
    ratios.push_back(pair.ours.gb_per_second() / pair.ceiling->gb_per_second);
  }
  if (ratios.empty()) return std::nullopt;
  return spread_of(std::move(ratios));
}

bool BenchResult::is_good() const {
  if (is_not_cold || is_goal_missed) return false;
  for (const BenchSeries& one : series) {
    if (one.is_fill_bad) return false;
    for (const BenchPair& pair : one.pairs) {
      if (pair.ours.mismatches > 0 || pair.ours.failed > 0 || pair.ours.misses > 0 ||
          pair.ours.is_every_store_refused()) {
        return false;
      }
    }
  }
  return true;
}

SetupResult<BenchResult> bench(const BenchOptions& options, const std::atomic<bool>& stop) {
  LARDER_TRY(check_before_open(options));
  LARDER_ASSIGN(const std::unique_ptr<Connector> connector, open_connector(options.spec));
  auto result = Bench{options, *connector, stop}.run();
  LARDER_TRY(stop_connector(*connector));
  return result;
}

}  // namespace larder::tools
