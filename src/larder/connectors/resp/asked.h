#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"

namespace larder::resp {

/// A question whose answer may take long and cannot be hurried (the system's resolver, a file on a
/// file system that hangs), put by a thread that must not wait: a thread is started for each, and
/// what it found out holds for half a second, for the other connections of the same moment.
///
/// One thread at a time. `answered` is signalled when an answer is there. The thread is left alone
/// when this goes, so `find_out` owns all that it uses and touches nothing that ends with the
/// process.
template <class T>
class Asked {
 public:
  Asked(std::string thread_name, std::function<T()> find_out, std::shared_ptr<EventFd> answered)
      : thread_name_(std::move(thread_name)),
        find_out_(std::move(find_out)),
        answered_(std::move(answered)) {}

  /// The answer, which is at most half a second old. Null: ask again after the signal. `Error`: no
  /// thread could be started.
  Result<const T*> ask() {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (question_ != nullptr) {
      std::optional<T> answer;
      {
        const MutexLock lock{question_->mutex};
        answer = std::move(question_->answer);
      }
      if (!answer) return nullptr;
      question_.reset();
      last_ = std::move(answer);
      last_until_ns_ = now_ns + kAnswerHoldsNs;
    }
    if (now_ns < last_until_ns_) return &*last_;
    question_ = std::make_shared<Question>();
    asked_at_ns_ = now_ns;
    auto started = Thread::start(
        thread_name_, [question = question_, find_out = find_out_, answered = answered_] {
          T answer = find_out();
          {
            const MutexLock lock{question->mutex};
            question->answer = std::move(answer);
          }
          answered->signal();
        });
    if (!started) {
      question_.reset();
      return started.error();
    }
    started->detach();
    return nullptr;
  }
  /// Since when an answer is waited for; kNever: for none.
  std::uint64_t asked_at_ns() const noexcept {
    return question_ == nullptr ? kNever : asked_at_ns_;
  }

 private:
  static constexpr std::uint64_t kAnswerHoldsNs = 500'000'000;
  struct Question {
    Mutex mutex;
    std::optional<T> answer LARDER_GUARDED_BY(mutex);
  };

  const std::string thread_name_;
  const std::function<T()> find_out_;
  const std::shared_ptr<EventFd> answered_;
  std::shared_ptr<Question> question_;  ///< Shared with its thread, which may outlive this.
  std::optional<T> last_;
  std::uint64_t last_until_ns_ = 0;
  std::uint64_t asked_at_ns_ = 0;
};

}  // namespace larder::resp
