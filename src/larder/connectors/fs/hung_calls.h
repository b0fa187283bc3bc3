#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"

namespace larder::fs {

/// The calls of a lane that were given up and that the file system has not ended. Bounds how many
/// there are, and keeps later changes of a file behind one that can no longer be stopped.
///
/// A change that was in the kernel when its call was given up (see ChangeGate) takes effect when
/// the file system answers; it cannot be revoked. To keep it from undoing an acknowledged later
/// change, a later Set or Delete of that file waits here for it, before it begins. So all stores of
/// one directory in this process share one of these for their changes, and a store that is opened
/// after another was closed finds the calls that it left behind. Threads: any.
class HungCalls {
 public:
  /// Since when it runs, and the file that it is changing ("" when it changes none any more).
  using Calls = std::multimap<std::uint64_t, std::string>;

  explicit HungCalls(const Clock& clock = RealClock::instance()) noexcept : clock_(clock) {}

  /// The one that the stores of this directory share in this process.
  static std::shared_ptr<HungCalls> of_directory(dev_t device, ino_t inode);

  /// Made before the call, so that giving it up needs no memory.
  static Calls::node_type new_entry();
  Calls::iterator add(Calls::node_type entry) noexcept LARDER_EXCLUDES(mutex_);
  void remove(Calls::iterator call) LARDER_EXCLUDES(mutex_);
  /// Ends a wait_for_turn(), as a stop of its caller does.
  void wake() LARDER_EXCLUDES(mutex_);
  std::size_t count() const LARDER_EXCLUDES(mutex_);
  /// Waits until there are none, but not beyond `until_ns`.
  void wait_empty(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);

  struct Turn {
    std::size_t calls_max = 1;             ///< Fewer must hang.
    const std::string* changes = nullptr;  ///< The file to change; may be null.
    std::uint64_t stall_ns = 0;
    std::uint64_t deadline_ns = 0;
  };
  /// Waits until a call may begin. kUnavailable when the oldest of those in the way has not ended
  /// for `stall_ns`: the file system does not answer.
  Status wait_for_turn(const Turn& turn, const std::atomic<bool>& is_stopping)
      LARDER_EXCLUDES(mutex_);

 private:
  /// The oldest call that `turn` waits for.
  Calls::const_iterator in_the_way(const Turn& turn) const LARDER_REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  CondVar changed_;
  Calls calls_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::fs
