#include "larder/connector/peer_state.h"

#include <algorithm>
#include <string>

namespace larder {

SetupStatus ReconnectOptions::validate() const {
  if (initial_ns > 0 && initial_ns <= max_ns) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    "the first wait before reconnecting must be above 0 and not above the longest"};
}

void ReconnectBackoff::note_failure(std::uint64_t now_ns) noexcept {
  if (wait_ns_ == 0) {
    wait_ns_ = options_.initial_ns;
  } else {
    wait_ns_ = wait_ns_ > options_.max_ns / 2 ? options_.max_ns : wait_ns_ * 2;
  }
  const std::uint64_t jittered_ns = wait_ns_ - random_.below(wait_ns_ / 2 + 1);
  retry_at_ns_ = now_ns + std::min(jittered_ns, kNever - 1 - now_ns);
}

void ReconnectBackoff::reset() noexcept {
  wait_ns_ = 0;
  retry_at_ns_ = kNever;
}

void PeerState::add_worker() noexcept {
  const MutexLock lock{mutex_};
  ++workers_[static_cast<std::size_t>(Link::kIdle)];
}

void PeerState::change(Link from, Link to) noexcept {
  const MutexLock lock{mutex_};
  --workers_[static_cast<std::size_t>(from)];
  ++workers_[static_cast<std::size_t>(to)];
}

void PeerState::note_failure(const Error& error) noexcept {
  const MutexLock lock{mutex_};
  ++failures_total_;
  last_failure_ = error;
}

void PeerState::append_health(Report& report) const {
  const MutexLock lock{mutex_};
  const std::uint64_t down = workers_[static_cast<std::size_t>(Link::kDown)];
  if (down == 0) return;
  const std::uint64_t connected = workers_[static_cast<std::size_t>(Link::kConnected)];
  std::uint64_t all = 0;
  for (const std::uint64_t workers : workers_) all += workers;
  report.health = std::max(report.health, connected == 0 ? Health::kDown : Health::kDegraded);
  report.reasons.push_back(std::to_string(down) + " of " + std::to_string(all) + ' ' + name_ +
                           " cannot reach their peer (" + last_failure_.to_string() +
                           "); they try again by themselves");
}

std::uint64_t PeerState::connections() const noexcept {
  const MutexLock lock{mutex_};
  return workers_[static_cast<std::size_t>(Link::kGreeted)] +
         workers_[static_cast<std::size_t>(Link::kConnected)];
}

std::uint64_t PeerState::failures_total() const noexcept {
  const MutexLock lock{mutex_};
  return failures_total_;
}

void PeerState::append_report(Report& report) const {
  append_health(report);
  report.counters.push_back({"connections", connections()});
  report.counters.push_back({"connect_failures_total", failures_total()});
}

}  // namespace larder
