#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "larder/base/call_thread.h"
#include "larder/base/clock.h"
#include "larder/base/event_fd.h"

namespace larder::resp {

/// A call that may take long and cannot be hurried (the system's resolver, a file on a file system
/// that hangs), made for a thread that must not block: each is a CallThread's call, and its answer
/// is reused for half a second, for the other connections that need it at the same time.
///
/// One thread at a time. `answered` is signalled when an answer is there. The call is given up when
/// this object is destroyed, so `find_out` owns all that it uses and touches nothing that ends with
/// the process.
template <class T>
class Asked {
 public:
  /// `clock` outlives it.
  Asked(std::string thread_name, std::function<T()> find_out, std::shared_ptr<EventFd> answered,
        const Clock& clock = RealClock::instance())
      : thread_name_(std::move(thread_name)),
        find_out_(std::move(find_out)),
        answered_(std::move(answered)),
        clock_(clock) {}

  /// The answer, which is at most half a second old. Null: call again after the signal. `Error`: no
  /// thread could be started.
  Result<const T*> ask() {
    const std::uint64_t now_ns = clock_.now_ns();
    if (call_ != nullptr) {
      if (!call_->has_ended()) return nullptr;
      call_.reset();
      last_ = std::move(*answer_);
      last_until_ns_ = now_ns + kAnswerHoldsNs;
    }
    if (now_ns < last_until_ns_) return &*last_;
    LARDER_ASSIGN(call_, CallThread::start(thread_name_));
    answer_ = std::make_shared<std::optional<T>>();
    asked_at_ns_ = now_ns;
    call_->begin({.run = [answer = answer_, find_out = find_out_] { *answer = find_out(); },
                  .on_end = [answered = answered_](bool) { answered->signal(); }});
    return nullptr;
  }
  /// Since when an answer is waited for; kNever: for none.
  std::uint64_t asked_at_ns() const noexcept { return call_ == nullptr ? kNever : asked_at_ns_; }

 private:
  static constexpr std::uint64_t kAnswerHoldsNs = 500'000'000;

  const std::string thread_name_;
  const std::function<T()> find_out_;
  const std::shared_ptr<EventFd> answered_;
  const Clock& clock_;
  std::unique_ptr<CallThread> call_;          ///< While an answer is pending.
  std::shared_ptr<std::optional<T>> answer_;  ///< Shared with the call, which may outlive this.
  std::optional<T> last_;
  std::uint64_t last_until_ns_ = 0;
  std::uint64_t asked_at_ns_ = 0;
};

}  // namespace larder::resp
