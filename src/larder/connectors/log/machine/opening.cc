#include "larder/connectors/log/machine/opening.h"

#include <exception>
#include <utility>

#include "larder/base/call_thread.h"
#include "larder/base/clock.h"

namespace larder::log_store {
namespace {

// Of the process, as its locks are.
std::atomic<int> openings{0};
thread_local bool is_opening = false;

class CountOpening {
 public:
  CountOpening() noexcept {
    openings.fetch_add(1);
    is_opening = true;
  }
  ~CountOpening() { openings.fetch_sub(1); }
  CountOpening(const CountOpening&) = delete;
  CountOpening& operator=(const CountOpening&) = delete;
};

SetupResult<std::unique_ptr<Connector>> open_and_catch(const OpenConnector& open,
                                                       const std::string& where) {
  try {
    return open();
  } catch (const std::exception& error) {
    return SetupError{ErrorCode::kInternal, "log: " + where + ": " + error.what()};
  }
}

}  // namespace

SetupResult<std::unique_ptr<Connector>> open_with_patience(
    OpenConnector open, const std::shared_ptr<std::atomic<std::uint64_t>>& steps,
    std::uint64_t patience_ns, const std::string& where) {
  // Shared with the call: if that is given up, whatever it opens is closed at its end.
  auto result = std::make_shared<SetupResult<std::unique_ptr<Connector>>>();
  auto thread = CallThread::start("larder-open");
  if (!thread) {
    return SetupError{thread.error().code(),
                      "log: cannot start a thread: " + thread.error().to_string()};
  }
  CallThread& call = **thread;
  call.begin({.run = [result, open = std::move(open), where] {
    const CountOpening counted;
    *result = open_and_catch(open, where);
  }});
  const auto wait = [&] { return call.wait(RealClock::instance().now_ns() + patience_ns); };
  std::uint64_t steps_before = steps->load(std::memory_order_relaxed);
  while (!wait()) {
    const std::uint64_t steps_now = steps->load(std::memory_order_relaxed);
    if (std::exchange(steps_before, steps_now) != steps_now) continue;
    if (call.give_up() == CallThread::GivenUp::kHadEnded) break;
    return SetupError{ErrorCode::kUnavailable,
                      "log: " + where + ": opening the store has had no answer from the disk for " +
                          std::to_string(patience_ns / 1'000'000'000) +
                          " s: look at `dmesg` and at `larder doctor " + where +
                          "`, and try again when the disk answers"};
  }
  return std::move(*result);
}

WaitingOpening::WaitingOpening() noexcept : was_counted_(std::exchange(is_opening, false)) {
  if (was_counted_) openings.fetch_sub(1);
}

WaitingOpening::~WaitingOpening() {
  if (was_counted_) openings.fetch_add(1);
  is_opening = was_counted_;
}

bool has_other_openings() noexcept {
  return openings.load() > (is_opening ? 1 : 0);
}

}  // namespace larder::log_store
