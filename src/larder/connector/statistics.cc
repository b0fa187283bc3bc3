#include "larder/connector/statistics.h"

#include <algorithm>
#include <string>

namespace larder {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kPartNs = 10 * kSecondNs;
constexpr std::uint64_t kQuietUntilWellNs = 10 * kSecondNs;
/// One failure in so many is trouble.
constexpr std::uint64_t kTroubleShare = 20;

/// The caller caused it, so it does not count against the store. A hint that a connector does not
/// have, or has no room for, is refused and no failure.
bool is_callers(ErrorCode code, bool is_hint) noexcept {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kCancelled ||
         code == ErrorCode::kSizeMismatch ||
         (is_hint && (code == ErrorCode::kUnimplemented || code == ErrorCode::kResourceExhausted));
}

/// Counts an item that is neither a hit nor an absent key.
void add_other(const Item& item, bool is_hint, OpTotals& totals, Error& last_error) noexcept {
  switch (item.outcome) {
    case Outcome::kHit:
      break;
    case Outcome::kMiss:
      ++totals.misses[static_cast<std::size_t>(item.miss_reason)];
      break;
    case Outcome::kDone:
      ++(item.existed ? totals.existed : totals.done);
      if (!item.existed) totals.bytes += bytes_of(item.value);
      break;
    case Outcome::kFailed:
    case Outcome::kPending:
      if (is_callers(item.error.code(), is_hint)) {
        ++totals.rejected;
      } else {
        ++totals.failed;
        last_error = item.error;
      }
      break;
  }
}

OpTotals totals_of(Op op, bool is_hint, std::span<const Item> items, Error& last_error) noexcept {
  OpTotals totals;
  // A lookup takes some 30 ns a key in all, and hits cannot be predicted: the common outcomes are
  // counted in registers without a branch.
  std::uint64_t hits = 0;
  std::uint64_t hit_bytes = 0;
  std::uint64_t absent = 0;
  for (const Item& item : items) {
    const std::uint64_t is_hit = item.outcome == Outcome::kHit ? 1 : 0;
    const std::uint64_t is_miss = item.outcome == Outcome::kMiss ? 1 : 0;
    const std::uint64_t is_absent = is_miss & (item.miss_reason == MissReason::kAbsent ? 1U : 0U);
    hits += is_hit;
    hit_bytes += item.value_bytes & (0 - is_hit);
    absent += is_absent;
    if ((is_hit | is_absent) == 0) add_other(item, is_hint, totals, last_error);
    if (op == Op::kGet && is_miss != 0) totals.bytes_missed += bytes_of(item.value);
  }
  totals.hits = hits;
  totals.bytes += hit_bytes;
  totals.misses[static_cast<std::size_t>(MissReason::kAbsent)] = absent;
  return totals;
}

/// The cost of the keys that a Get has loaded, or failed to load in time; 0: there are none.
std::uint64_t cost_of_loads(const Batch& batch, const OpTotals& totals) noexcept {
  if (batch.op != Op::kGet) return 0;
  std::uint64_t values = totals.hits;
  std::uint64_t bytes = totals.bytes;
  if (totals.failed > 0) {
    for (const Item& item : batch.items) {
      if (item.outcome != Outcome::kFailed || item.error.code() != ErrorCode::kDeadlineExceeded) {
        continue;
      }
      ++values;
      bytes += bytes_of(item.value);
    }
  }
  return load_cost(values, bytes);
}

LatencySummary summary_of(const LogLinearHistogram& histogram) noexcept {
  return {.batches = histogram.count(),
          .sum_ns = histogram.sum(),
          .p50_ns = histogram.quantile(0.5),
          .p99_ns = histogram.quantile(0.99),
          .max_ns = histogram.max()};
}

std::string reason_of(BatchClass batch_class, const RecentOutcomes& recent, const Error& last) {
  const std::uint64_t all = recent.succeeded + recent.failed;
  std::string what;
  if (all == 1) {
    what = std::string{"the only "} + kBatchClassNames.at(index_of(batch_class));
  } else {
    const std::string share = recent.succeeded == 0 ? "all" : std::to_string(recent.failed) + " of";
    what = share + ' ' + std::to_string(all) + ' ' + name_of(batch_class);
  }
  return what + " of the last minute failed; the last error: " + last.to_string();
}

}  // namespace

Statistics::Statistics(const Clock& clock) : clock_(clock), seconds_(kSeconds), parts_(kParts) {}

void Statistics::note(const Batch& batch) noexcept {
  Error last_error;
  const OpTotals totals = totals_of(batch.op, batch.hint != Hint::kNone, batch.items, last_error);
  const std::uint64_t now_ns = clock_.now_ns();
  const std::uint64_t took_ns = now_ns - std::min(now_ns, batch.connector_submitted_ns);
  const std::size_t index = index_of(class_of(batch.op));
  const std::uint64_t loaded = cost_of_loads(batch, totals);
  const MutexLock lock{mutex_};
  add(batch.op, totals, last_error, now_ns);
  latencies_.by_class[index].record(took_ns);
  if (loaded > 0) loads_.add(batch.connector_ahead_bytes + loaded, took_ns, now_ns);
  const std::uint64_t number = now_ns / kPartNs;
  Latencies& part = parts_[number % kParts];
  if (part.number != number) {
    part.number = number;
    part.by_class = {};
  }
  part.by_class[index].record(took_ns);
}

void Statistics::note_probe(std::span<const Item> items) noexcept {
  Error last_error;
  const OpTotals totals = totals_of(Op::kExists, false, items, last_error);
  const std::uint64_t now_ns = clock_.now_ns();
  const MutexLock lock{mutex_};
  add(Op::kExists, totals, last_error, now_ns);
}

void Statistics::add(Op op, const OpTotals& totals, const Error& last_error,
                     std::uint64_t now_ns) noexcept {
  totals_[index_of(op)] += totals;
  const std::uint64_t number = now_ns / kSecondNs;
  Second& second = seconds_[number % kSeconds];
  if (second.number != number) {
    second.number = number;
    second.totals = {};
  }
  second.totals[index_of(op)] += totals;
  Latest& latest = latest_[index_of(class_of(op))];
  if (totals.succeeded() > 0) latest.succeeded_ns = now_ns;
  if (totals.failed > 0) {
    latest.failed_ns = now_ns;
    latest.error = last_error;
  }
}

std::uint64_t Statistics::load_ns(std::uint64_t cost) const noexcept {
  const std::uint64_t now_ns = clock_.now_ns();
  const MutexLock lock{mutex_};
  return loads_.load_ns(cost, now_ns);
}

void Statistics::append_report(Report& report) const {
  const std::uint64_t now_ns = clock_.now_ns();
  std::array<LogLinearHistogram, kBatchClassCount> all;
  std::array<LogLinearHistogram, kBatchClassCount> recent;
  {
    const MutexLock lock{mutex_};
    append_totals(report, now_ns);
    judge(report, now_ns);
    all = latencies_.by_class;
    for (const Latencies& part : parts_) {
      if (part.number + kParts <= now_ns / kPartNs) continue;
      for (std::size_t i = 0; i < kBatchClassCount; ++i) recent[i].merge(part.by_class[i]);
    }
  }
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    ClassReport& to = report.classes[i];
    to.latency = summary_of(all[i]);
    to.latency_last_minute = summary_of(recent[i]);
    for (std::size_t bound = 0; bound < kLatencyBoundsNs.size(); ++bound) {
      to.batches_within[bound] = all[i].count_at_most(kLatencyBoundsNs[bound]);
    }
  }
}

void Statistics::append_totals(Report& report, std::uint64_t now_ns) const {
  for (std::size_t i = 0; i < kOpCount; ++i) {
    report.operations[i] = {.total = totals_[i], .last_minute = {}};
    for (const Second& second : seconds_) {
      if (second.number + kSeconds <= now_ns / kSecondNs) continue;
      report.operations[i].last_minute += second.totals[i];
    }
  }
}

void Statistics::judge(Report& report, std::uint64_t now_ns) const {
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const auto batch_class = static_cast<BatchClass>(i);
    const RecentOutcomes recent = report.recent(batch_class);
    const Latest& latest = latest_[i];
    const bool is_over =
        latest.succeeded_ns > latest.failed_ns && now_ns - latest.failed_ns >= kQuietUntilWellNs;
    const bool is_much = recent.failed * kTroubleShare >= recent.failed + recent.succeeded;
    if (recent.failed == 0 || !is_much || is_over) continue;
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.push_back(reason_of(batch_class, recent, latest.error));
  }
}

}  // namespace larder
