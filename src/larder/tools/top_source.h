#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "larder/base/call_thread.h"
#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/tools/top_history.h"

namespace larder::tools {

/// One sample: the metrics, and of a server its pages beside them. Blocks, for `timeout` in all;
/// the system's resolver and a file may take longer.
SetupResult<TopSample> read_top_sample(const std::string& target,
                                       std::chrono::milliseconds timeout);

/// Takes samples in a thread of its own, one at a time, so that a target that does not answer
/// delays neither the keys nor the end. Threads: the owner's.
class TopSource {
 public:
  static SetupResult<std::unique_ptr<TopSource>> start(std::string target,
                                                       std::chrono::milliseconds timeout);

  const std::string& target() const noexcept { return target_; }
  /// When none is on its way.
  void begin();
  bool is_busy() const noexcept { return is_busy_; }
  /// Readable when take() may have something.
  int fd() const noexcept;
  /// The sample that begin() asked for, once.
  std::optional<SetupResult<TopSample>> take();

 private:
  /// The state that the thread keeps alive when the owner has gone.
  struct Shared {
    explicit Shared(EventFd fd) : ended(std::move(fd)) {}
    EventFd ended;
    Mutex mutex;
    std::optional<SetupResult<TopSample>> sample LARDER_GUARDED_BY(mutex);
  };

  TopSource(std::string target, std::chrono::milliseconds timeout, std::shared_ptr<Shared> shared,
            std::unique_ptr<CallThread> thread);

  const std::string target_;
  const std::chrono::milliseconds timeout_;
  const std::shared_ptr<Shared> shared_;
  const std::unique_ptr<CallThread> thread_;
  bool is_busy_ = false;
};

}  // namespace larder::tools
