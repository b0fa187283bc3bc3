#pragma once

#include <cstdint>
#include <memory>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/server/status.h"

namespace larder::server {

/// Where other threads see how the server stands. A reader asks, the loop answers in its next turn;
/// where it does not within the time that the reader gives it, the reader gets the last answer and
/// knows that the loop does not run.
class StatusBoard {
 public:
  static Result<std::unique_ptr<StatusBoard>> create();

  struct Reading {
    std::shared_ptr<const ServerStatus> status;  ///< Never null after the first publish().
    bool is_fresh = false;                       ///< The loop answered in time.
    /// For how long the loop has not answered, this reader or others before it. 0 where it is
    /// fresh, and never where it is not.
    std::uint64_t silent_ns = 0;
  };

  // ---- Any thread.
  /// Waits until `until_ns` (monotonic) at the latest.
  Reading ask(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);
  /// The loop has gone: asking does not wait any more.
  void close() LARDER_EXCLUDES(mutex_);

  // ---- The loop's thread.
  int event_fd() const noexcept { return asked_.get(); }
  /// True: somebody asked since the last time; publish() now.
  bool is_asked() noexcept { return asked_.drain(); }
  void publish(std::shared_ptr<const ServerStatus> status) LARDER_EXCLUDES(mutex_);

 private:
  explicit StatusBoard(EventFd asked) noexcept : asked_(std::move(asked)) {}

  EventFd asked_;
  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<const ServerStatus> status_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t number_ LARDER_GUARDED_BY(mutex_) = 0;    ///< Of the last publish().
  std::uint64_t asked_ns_ LARDER_GUARDED_BY(mutex_) = 0;  ///< First, since then; 0: never.
  bool is_closed_ LARDER_GUARDED_BY(mutex_) = false;
};

}  // namespace larder::server
