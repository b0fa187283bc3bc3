#include "larder/connectors/fs/error_latch.h"

#include <string>

#include "larder/base/clock.h"

namespace larder::fs {

void ErrorLatch::note(const Error& error) noexcept {
  if (is_there_.exchange(true, std::memory_order_relaxed)) return;
  if (!limiter_.allow(RealClock::instance().now_ns())) return;
  is_logged_.store(true, std::memory_order_relaxed);
  log(LogLevel::kWarning, "fs", std::string{operations_} + " fail: " + error.to_string());
}

void ErrorLatch::clear() noexcept {
  if (!is_there_.load(std::memory_order_relaxed)) return;
  is_there_.store(false, std::memory_order_relaxed);
  if (!is_logged_.exchange(false, std::memory_order_relaxed)) return;
  log(LogLevel::kWarning, "fs", std::string{operations_} + " work again");
}

}  // namespace larder::fs
