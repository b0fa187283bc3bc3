#include "larder/connectors/log/machine/health.h"

#include <algorithm>
#include <cerrno>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/base/result.h"

namespace larder::log_store {
namespace {

constexpr std::uint32_t kErrorsUntilDown = 8;
constexpr std::uint64_t kQuietUntilHealthyNs = 10'000'000'000;
constexpr std::uint64_t kFirstProbeWaitNs = 100'000'000;
constexpr std::uint64_t kLongestProbeWaitNs = 10'000'000'000;
constexpr std::size_t kFlawsMax = 16;

}  // namespace

Health PathHealth::health() const noexcept {
  if (is_down()) return Health::kDown;
  return is_degraded_.load(std::memory_order_relaxed) ? Health::kDegraded : Health::kHealthy;
}

std::pair<Health, std::vector<std::string>> PathHealth::snapshot() const {
  const MutexLock lock{mutex_};
  std::vector<std::string> reasons;
  if (!io_reason_.empty()) reasons.push_back(io_reason_);
  for (const auto& [name, why] : conditions_) reasons.push_back(why);
  reasons.insert(reasons.end(), flaws_.begin(), flaws_.end());
  reasons.insert(reasons.end(), remarks_.begin(), remarks_.end());
  return {health(), std::move(reasons)};
}

void PathHealth::publish(std::string io_reason) {
  const bool changed = [&] {
    const MutexLock lock{mutex_};
    const bool differs = io_reason_ != io_reason;
    io_reason_ = io_reason;
    is_degraded_.store(!io_reason_.empty() || !conditions_.empty() || !flaws_.empty(),
                       std::memory_order_relaxed);
    return differs;
  }();
  if (changed) {
    log(io_reason.empty() ? LogLevel::kInfo : LogLevel::kWarning, "log",
        where_ + ": " + (io_reason.empty() ? "is well again" : io_reason));
  }
}

void PathHealth::note_io_error(std::uint64_t now_ns, const char* what, int sys_errno) {
  last_error_ns_ = now_ns;
  ++errors_in_a_row_;
  std::string why = std::string{what} + ": " + errno_text(sys_errno);
  if (is_down_by_disk()) return;
  if (errors_in_a_row_ >= kErrorsUntilDown) {
    go_down(now_ns, why + " (" + std::to_string(errors_in_a_row_) + " in a row); probing");
  } else {
    publish(std::move(why));
  }
}

void PathHealth::note_io_success(std::uint64_t now_ns) {
  if (last_error_ns_ == 0) return;
  errors_in_a_row_ = 0;
  if (!is_down_by_disk() && now_ns - last_error_ns_ >= kQuietUntilHealthyNs) {
    last_error_ns_ = 0;
    publish({});
  }
}

void PathHealth::note_stall(std::uint64_t now_ns, std::uint64_t age_ns) {
  last_error_ns_ = now_ns;
  if (is_down_by_disk()) return;
  go_down(now_ns, "a transfer has had no answer for " + std::to_string(age_ns / 1'000'000'000) +
                      " s; probing");
}

void PathHealth::note_blocked() {
  down_.fetch_or(kByThread, std::memory_order_relaxed);
  set_condition("blocked",
                "down: the kernel keeps the store's own thread for longer than stall=; loads miss "
                "and stores are refused until it lets go");
}

void PathHealth::note_unblocked(std::uint64_t now_ns) {
  if (!is_down_by_disk()) {
    last_error_ns_ = now_ns;  // Degraded for a quiet while, then healthy.
    publish("was down until just now");
  }
  set_condition("blocked", {});
  down_.fetch_and(~kByThread, std::memory_order_relaxed);
}

void PathHealth::go_down(std::uint64_t now_ns, std::string why) {
  down_.fetch_or(kByDisk, std::memory_order_relaxed);
  // A path that soon goes down again keeps backing off: otherwise it would flap.
  const bool is_again = came_back_ns_ != 0 && now_ns - came_back_ns_ < kQuietUntilHealthyNs;
  probe_wait_ns_ = is_again ? std::min(2 * probe_wait_ns_, kLongestProbeWaitNs) : kFirstProbeWaitNs;
  probe_at_ns_ = now_ns + probe_wait_ns_;
  publish("down: " + std::move(why));
}

std::uint64_t PathHealth::next_probe_ns() const noexcept {
  if (is_down_by_disk()) return probe_at_ns_;
  return last_error_ns_ == 0 ? kNever : last_error_ns_ + kQuietUntilHealthyNs;
}

void PathHealth::note_probe(std::uint64_t now_ns, bool succeeded) {
  if (!is_down_by_disk()) {
    succeeded ? note_io_success(now_ns) : note_io_error(now_ns, "probing", EIO);
    return;
  }
  if (succeeded) {
    down_.fetch_and(~kByDisk, std::memory_order_relaxed);
    errors_in_a_row_ = 0;
    last_error_ns_ = came_back_ns_ = now_ns;  // Degraded for a quiet while, then healthy.
    publish("was down until just now");
    return;
  }
  probe_wait_ns_ = std::min(2 * probe_wait_ns_, kLongestProbeWaitNs);
  probe_at_ns_ = now_ns + probe_wait_ns_;
}

void PathHealth::note_flaw(std::string why) {
  log(LogLevel::kWarning, "log", where_ + ": " + why);
  const MutexLock lock{mutex_};
  if (flaws_.size() < kFlawsMax) flaws_.push_back(std::move(why));
  is_degraded_.store(true, std::memory_order_relaxed);
}

void PathHealth::note_remark(std::string remark) {
  log(LogLevel::kWarning, "log", where_ + ": " + remark);
  const MutexLock lock{mutex_};
  if (remarks_.size() < kFlawsMax) remarks_.push_back(std::move(remark));
}

void PathHealth::set_condition(const std::string& name, const std::string& why) {
  {
    const MutexLock lock{mutex_};
    const auto at =
        std::ranges::find(conditions_, name, &std::pair<std::string, std::string>::first);
    if (at == conditions_.end() ? why.empty() : at->second == why) return;
    if (at != conditions_.end()) conditions_.erase(at);
    if (!why.empty()) conditions_.emplace_back(name, why);
    is_degraded_.store(!io_reason_.empty() || !conditions_.empty() || !flaws_.empty(),
                       std::memory_order_relaxed);
  }
  log(why.empty() ? LogLevel::kInfo : LogLevel::kWarning, "log",
      where_ + ": " + (why.empty() ? name + " is over" : why));
}

}  // namespace larder::log_store
