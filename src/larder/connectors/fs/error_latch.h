#pragma once

#include <atomic>

#include "larder/base/logging.h"
#include "larder/base/result.h"

namespace larder::fs {

/// Whether the last operation of a kind met an error of the file system: a change is a line of log,
/// at most one a minute. Any thread.
class ErrorLatch {
 public:
  explicit ErrorLatch(const char* operations) : operations_(operations) {}
  void note(const Error& error) noexcept;
  void clear() noexcept;

 private:
  const char* const operations_;  ///< "stores", ...
  std::atomic<bool> is_there_ = false;
  std::atomic<bool> is_logged_ = false;  ///< The end of the condition is logged too.
  LogLimiter limiter_{60'000'000'000};
};

}  // namespace larder::fs
