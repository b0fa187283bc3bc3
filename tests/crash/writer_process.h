#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/unique_fd.h"
#include "tests/crash/protocol.h"

namespace larder::crash {

/// A running larder_crash_writer. Killed by the destructor should it still run.
///
/// Ownership: pipe, page and process. One thread.
class WriterProcess {
 public:
  using Clock = std::chrono::steady_clock;

  /// `arguments` without the program's name. An error says what the system refused.
  static SetupResult<std::unique_ptr<WriterProcess>> start(
      const std::vector<std::string>& arguments);
  ~WriterProcess();
  WriterProcess(const WriterProcess&) = delete;
  WriterProcess& operator=(const WriterProcess&) = delete;

  /// Hands on what was reported, waiting for something until `until`. False when the writer is gone
  /// and everything was handed on.
  bool pump(Clock::time_point until, const std::function<void(const Message&)>& take);
  const SharedPage& page() const noexcept { return *page_; }
  /// SIGKILL, and waits for its end.
  void kill();
  /// Waits for its end; its exit status, or 128 + the signal.
  int wait();

 private:
  WriterProcess() = default;

  ::pid_t pid_ = -1;
  int status_ = 0;
  UniqueFd report_;
  SharedPage* page_ = nullptr;
  std::vector<std::byte> unread_;
};

}  // namespace larder::crash
