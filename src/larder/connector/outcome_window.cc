#include "larder/connector/outcome_window.h"

#include <algorithm>
#include <string>

#include "larder/connector/batch_limits.h"

namespace larder {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kQuietUntilWellNs = 10 * kSecondNs;
/// One failure in so many is trouble.
constexpr std::uint64_t kTroubleShare = 20;

/// The caller's doing, which says nothing about the store.
bool is_callers(ErrorCode code) noexcept {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kCancelled ||
         code == ErrorCode::kSizeMismatch;
}

std::string reason_of(BatchClass batch_class, const RecentOutcomes& recent, const Error& last) {
  const std::uint64_t all = recent.succeeded + recent.failed;
  std::string what;
  if (all == 1) {
    what = std::string{"the only "} + kBatchClassNames.at(static_cast<std::size_t>(batch_class));
  } else {
    const std::string share = recent.succeeded == 0 ? "all" : std::to_string(recent.failed) + " of";
    what = share + ' ' + std::to_string(all) + ' ' + name_of(batch_class);
  }
  return what + " of the last minute failed; the last error: " + last.to_string();
}

}  // namespace

void OutcomeWindow::note(const Batch& batch) noexcept {
  RecentOutcomes outcomes;
  Error last;
  for (const Item& item : batch.items) {
    if (item.outcome != Outcome::kFailed) {
      ++outcomes.succeeded;
    } else if (!is_callers(item.error.code())) {
      ++outcomes.failed;
      last = item.error;
    }
  }
  const std::uint64_t now_ns = clock_.now_ns();
  const std::uint64_t number = now_ns / kSecondNs;
  const auto index = static_cast<std::size_t>(class_of(batch.op));
  const MutexLock lock{mutex_};
  Second& second = seconds_[number % kSeconds];
  if (second.number != number) second = {.number = number, .outcomes = {}};
  second.outcomes[index].succeeded += outcomes.succeeded;
  second.outcomes[index].failed += outcomes.failed;
  Latest& latest = latest_[index];
  if (outcomes.succeeded > 0) latest.succeeded_ns = now_ns;
  if (outcomes.failed > 0) {
    latest.failed_ns = now_ns;
    latest.error = last;
  }
}

void OutcomeWindow::append_report(Report& report) const {
  const std::uint64_t now_ns = clock_.now_ns();
  const std::uint64_t now = now_ns / kSecondNs;
  report.recent = {};
  const MutexLock lock{mutex_};
  for (const Second& second : seconds_) {
    if (second.number + kSeconds <= now) continue;
    for (std::size_t i = 0; i < kBatchClassCount; ++i) {
      report.recent[i].succeeded += second.outcomes[i].succeeded;
      report.recent[i].failed += second.outcomes[i].failed;
    }
  }
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const RecentOutcomes& recent = report.recent[i];
    const Latest& latest = latest_[i];
    const bool is_over =
        latest.succeeded_ns > latest.failed_ns && now_ns - latest.failed_ns >= kQuietUntilWellNs;
    const bool is_much = recent.failed * kTroubleShare >= recent.failed + recent.succeeded;
    if (recent.failed == 0 || !is_much || is_over) continue;
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.push_back(reason_of(static_cast<BatchClass>(i), recent, latest.error));
  }
}

}  // namespace larder
