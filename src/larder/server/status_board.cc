#include "larder/server/status_board.h"

#include <utility>

#include "larder/base/clock.h"

namespace larder::server {

Result<std::unique_ptr<StatusBoard>> StatusBoard::create() {
  LARDER_ASSIGN(EventFd asked, EventFd::create());
  return std::unique_ptr<StatusBoard>{new StatusBoard{std::move(asked)}};
}

StatusBoard::Reading StatusBoard::ask(std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  const std::uint64_t number = number_;
  if (!is_closed_) asked_.signal();
  if (asked_ns_ == 0) asked_ns_ = RealClock::instance().now_ns();
  const std::uint64_t asked_ns = asked_ns_;
  while (number_ == number && !is_closed_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) break;
    changed_.wait_for(mutex_, until_ns - now_ns);
  }
  const bool is_fresh = number_ != number;
  return {.status = status_,
          .is_fresh = is_fresh,
          .silent_ns = is_fresh ? 0 : RealClock::instance().now_ns() - asked_ns + 1};
}

void StatusBoard::close() {
  const MutexLock lock{mutex_};
  is_closed_ = true;
  changed_.notify_all();
}

void StatusBoard::publish(std::shared_ptr<const ServerStatus> status) {
  const MutexLock lock{mutex_};
  status_ = std::move(status);
  asked_ns_ = 0;
  ++number_;
  changed_.notify_all();
}

}  // namespace larder::server
