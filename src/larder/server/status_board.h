#pragma once

#include <cstdint>
#include <memory>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/server/status.h"

namespace larder::server {

/// Gives other threads the server's state. A reader asks, and the loop answers in its next turn; if
/// that takes longer than the reader's time, the reader gets the last answer and learns that the
/// loop does not run.
class StatusBoard {
 public:
  static Result<std::unique_ptr<StatusBoard>> create();

  struct Reading {
    std::shared_ptr<const ServerStatus> status;  ///< Never null after the first publish().
    bool is_fresh = false;                       ///< The loop answered in time.
    /// How long the loop has not answered this reader or earlier ones. 0 if the answer is fresh,
    /// and only then.
    std::uint64_t silent_ns = 0;
  };

  // ---- Any thread.
  /// Waits until `until_ns` (monotonic) at the latest.
  Reading ask(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);
  /// The loop has ended: readers do not wait any more.
  void close() LARDER_EXCLUDES(mutex_);

  // ---- The loop's thread.
  int event_fd() const noexcept { return asked_.get(); }
  /// True: a reader has asked since the last call; publish() now.
  bool is_asked() noexcept { return asked_.drain(); }
  void publish(std::shared_ptr<const ServerStatus> status) LARDER_EXCLUDES(mutex_);

 private:
  explicit StatusBoard(EventFd asked) noexcept : asked_(std::move(asked)) {}

  EventFd asked_;
  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<const ServerStatus> status_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t number_ LARDER_GUARDED_BY(mutex_) = 0;    ///< At the last publish().
  std::uint64_t asked_ns_ LARDER_GUARDED_BY(mutex_) = 0;  ///< First request since then; 0: none.
  bool is_closed_ LARDER_GUARDED_BY(mutex_) = false;
};

}  // namespace larder::server
