#include "larder/connectors/log/machine/opening.h"

#include <exception>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"

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

/// What the opening thread and who waits for it share; the last of them deletes it.
struct Opening {
  Mutex mutex;
  CondVar ended;
  bool has_ended LARDER_GUARDED_BY(mutex) = false;
  bool is_given_up LARDER_GUARDED_BY(mutex) = false;
  SetupResult<std::unique_ptr<Connector>> result LARDER_GUARDED_BY(mutex) =
      std::unique_ptr<Connector>{};
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
  auto opening = std::make_shared<Opening>();
  auto thread = Thread::start("larder-open", [opening, open = std::move(open), where] {
    const CountOpening counted;
    auto result = open_and_catch(open, where);
    const MutexLock lock{opening->mutex};
    opening->has_ended = true;
    // Given up: it is closed here, at the end of this scope, whoever may want it later.
    if (!opening->is_given_up) opening->result = std::move(result);
    opening->ended.notify_all();
  });
  if (!thread) {
    return SetupError{thread.error().code(),
                      "log: cannot start a thread: " + thread.error().to_string()};
  }
  const Clock& clock = RealClock::instance();
  bool is_given_up = false;
  {
    const MutexLock lock{opening->mutex};
    std::uint64_t steps_before = steps->load(std::memory_order_relaxed);
    std::uint64_t give_up_at_ns = clock.now_ns() + patience_ns;
    while (!opening->has_ended && clock.now_ns() < give_up_at_ns) {
      opening->ended.wait_for(opening->mutex, give_up_at_ns - clock.now_ns());
      const std::uint64_t steps_now = steps->load(std::memory_order_relaxed);
      if (steps_now == steps_before) continue;
      steps_before = steps_now;
      give_up_at_ns = clock.now_ns() + patience_ns;
    }
    is_given_up = opening->is_given_up = !opening->has_ended;
  }
  if (is_given_up) {
    thread->detach();
    return SetupError{ErrorCode::kUnavailable,
                      "log: " + where + ": opening the store has had no answer from the disk for " +
                          std::to_string(patience_ns / 1'000'000'000) +
                          " s: look at `dmesg` and at `larder doctor " + where +
                          "`, and try again when the disk answers"};
  }
  thread->join();
  const MutexLock lock{opening->mutex};
  return std::move(opening->result);
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
