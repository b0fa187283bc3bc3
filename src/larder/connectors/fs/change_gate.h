#pragma once

#include <string>

#include "larder/base/mutex.h"
#include "larder/base/result.h"

namespace larder::fs {

/// Whether an operation may still change the directory. A call passes its gate around each system
/// call that publishes or removes a file; the thread that gives the call up closes the gate.
///
/// After close() the call changes nothing any more, except for the one change that may be in the
/// kernel at that moment: close() names its file, and no system call can revoke such a change.
/// Ownership: the call owns it. Threads: one passes, one closes. Cost: an uncontended lock for each
/// pass.
class ChangeGate {
 public:
  /// Open while it lives.
  class Pass {
   public:
    explicit Pass(ChangeGate& gate) noexcept : gate_(&gate) {}
    Pass(Pass&& other) noexcept : gate_(other.gate_) { other.gate_ = nullptr; }
    Pass& operator=(Pass&&) = delete;
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    ChangeGate* gate_;
  };

  ChangeGate() = default;
  ChangeGate(const ChangeGate&) = delete;
  ChangeGate& operator=(const ChangeGate&) = delete;

  /// Called before the file `name` is published or removed. `name` outlives the pass. kCancelled:
  /// the call was given up, and must leave everything as it is.
  Result<Pass> pass(const std::string& name) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    if (is_closed_) {
      return Error{ErrorCode::kCancelled, "fs", "the call was given up before it changed anything"};
    }
    changing_ = &name;
    return Pass{*this};
  }
  /// No pass from now on. Sets `changing` to the name that is being changed at this moment, or "".
  void close(std::string& changing) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    is_closed_ = true;
    changing.clear();
    if (changing_ != nullptr) changing = *changing_;
  }
  bool is_closed() const LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    return is_closed_;
  }

 private:
  void leave() noexcept LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    changing_ = nullptr;
  }

  mutable Mutex mutex_;
  bool is_closed_ LARDER_GUARDED_BY(mutex_) = false;
  const std::string* changing_ LARDER_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace larder::fs
