#include "larder/base/call_thread.h"

#include <utility>

#include "larder/base/check.h"
#include "larder/base/mutex.h"

namespace larder {

/// The state that owner and thread share. An abandoned thread keeps it alive.
struct CallThread::Shared {
  enum class State : std::uint8_t { kIdle = 0, kPosted, kRunning, kEnded, kAbandoned, kEnding };

  explicit Shared(std::function<void()> look) : before_look(std::move(look)) {}

  /// False: there will be none.
  bool take(Call& taken) {
    before_look();
    const MutexLock lock{mutex};
    while (state != State::kPosted) {
      if (state == State::kEnding) return false;
      changed.wait(mutex);
    }
    state = State::kRunning;
    taken = std::move(call);
    return true;
  }

  /// Whether it was abandoned.
  bool end() {
    const MutexLock lock{mutex};
    if (state == State::kAbandoned) return true;
    state = State::kEnded;
    changed.notify_all();
    return false;
  }

  const std::function<void()> before_look;
  Mutex mutex;
  CondVar changed;
  State state LARDER_GUARDED_BY(mutex) = State::kIdle;
  bool is_interrupted LARDER_GUARDED_BY(mutex) = false;  ///< Until a wait() returned for it.
  Call call LARDER_GUARDED_BY(mutex);
};

Result<std::unique_ptr<CallThread>> CallThread::start(std::string_view name,
                                                      std::function<void()> before_look) {
  auto shared = std::make_shared<Shared>(std::move(before_look));
  LARDER_ASSIGN(Thread thread, Thread::start(name, [shared] { run(*shared); }));
  // The constructor is private.
  return std::unique_ptr<CallThread>{new CallThread{std::move(shared), std::move(thread)}};
}

CallThread::CallThread(std::shared_ptr<Shared> shared, Thread thread)
    : shared_(std::move(shared)), thread_(std::move(thread)) {}

CallThread::~CallThread() {
  if (give_up() == GivenUp::kRunning) return;
  {
    const MutexLock lock{shared_->mutex};
    shared_->state = Shared::State::kEnding;
    shared_->changed.notify_all();
  }
  thread_.join();
}

void CallThread::run(Shared& shared) {
  for (;;) {
    Call call;
    if (!shared.take(call)) return;
    call.run();
    const bool was_abandoned = shared.end();
    call.on_end(was_abandoned);
    if (was_abandoned) return;
  }
}

void CallThread::begin(Call call) {
  const MutexLock lock{shared_->mutex};
  LARDER_CHECK(shared_->state == Shared::State::kIdle);
  shared_->call = std::move(call);
  shared_->state = Shared::State::kPosted;
  shared_->changed.notify_all();
}

bool CallThread::wait(std::uint64_t until_ns, const Clock& clock) {
  Shared& shared = *shared_;
  const MutexLock lock{shared.mutex};
  LARDER_CHECK(shared.state != Shared::State::kIdle && shared.state != Shared::State::kAbandoned);
  while (shared.state != Shared::State::kEnded) {
    if (std::exchange(shared.is_interrupted, false) || clock.now_ns() >= until_ns) return false;
    clock.wait_until(shared.changed, shared.mutex, until_ns);
  }
  shared.state = Shared::State::kIdle;
  return true;
}

CallThread::GivenUp CallThread::give_up(const std::function<void()>& if_running) {
  Call not_begun;  // Destroyed without the lock: it is the caller's code.
  const MutexLock lock{shared_->mutex};
  switch (shared_->state) {
    case Shared::State::kPosted:
      not_begun = std::move(shared_->call);
      shared_->state = Shared::State::kIdle;
      return GivenUp::kNotBegun;
    case Shared::State::kRunning:
      if_running();
      shared_->state = Shared::State::kAbandoned;
      thread_.detach();
      return GivenUp::kRunning;
    case Shared::State::kIdle:
    case Shared::State::kEnded:
      shared_->state = Shared::State::kIdle;
      return GivenUp::kHadEnded;
    case Shared::State::kAbandoned:
    case Shared::State::kEnding:
      break;
  }
  return GivenUp::kRunning;
}

void CallThread::interrupt() noexcept {
  const MutexLock lock{shared_->mutex};
  shared_->is_interrupted = true;
  shared_->changed.notify_all();
}

}  // namespace larder
