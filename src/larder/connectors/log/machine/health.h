#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/report.h"

namespace larder::log_store {

/// Whether a write failed because there is no room (in the file system, a quota or the process's
/// limit of a file's size) and not because of the disk: it says nothing about reads.
inline bool is_lack_of_space(int sys_errno) noexcept {
  return sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG;
}

/// How well a path is, and why. Errors degrade it, several in a row or a stall take it down; after
/// a quiet while a success heals it, and a probe counts as one, so that an idle path heals too.
///
/// Down answers at once (P3, P4): loads and lookups are misses, stores are refused. The path then
/// probes its disk with exponential back-off and comes back by itself.
/// Threads: the path's one, but is_down(), is_blocked(), note_blocked() and snapshot() from any.
class PathHealth {
 public:
  explicit PathHealth(std::string where) : where_(std::move(where)) {}

  /// The directory, as messages name it.
  const std::string& where() const noexcept { return where_; }
  bool is_down() const noexcept { return down_.load(std::memory_order_relaxed) != 0; }
  Health health() const noexcept;
  /// State and reasons, for report().
  std::pair<Health, std::vector<std::string>> snapshot() const LARDER_EXCLUDES(mutex_);

  void note_io_error(std::uint64_t now_ns, const char* what, int sys_errno);
  void note_io_success(std::uint64_t now_ns);
  /// Something in flight is older than the limit.
  void note_stall(std::uint64_t now_ns, std::uint64_t age_ns);
  /// The kernel does not let the path's own thread go: down until note_unblocked().
  void note_blocked() LARDER_EXCLUDES(mutex_);
  void note_unblocked(std::uint64_t now_ns) LARDER_EXCLUDES(mutex_);
  bool is_blocked() const noexcept {
    return (down_.load(std::memory_order_relaxed) & kByThread) != 0;
  }
  /// A lasting flaw that does not stop the service: a quarantined segment, a device in a fallback
  /// mode.
  void note_flaw(std::string why) LARDER_EXCLUDES(mutex_);
  /// Not an error, and worth a line in the log and in the report: the effect of a parameter.
  void note_remark(std::string remark) LARDER_EXCLUDES(mutex_);
  /// A flaw of the moment under a name; an empty `why` ends it.
  void set_condition(const std::string& name, const std::string& why) LARDER_EXCLUDES(mutex_);

  /// When the next probe is due: soon when the path is down, after a quiet while when it is not
  /// well, else kNever.
  std::uint64_t next_probe_ns() const noexcept;
  void note_probe(std::uint64_t now_ns, bool succeeded);

 private:
  // Why a path is down: a sum of these.
  static constexpr std::uint32_t kByDisk = 1;
  static constexpr std::uint32_t kByThread = 2;

  bool is_down_by_disk() const noexcept {
    return (down_.load(std::memory_order_relaxed) & kByDisk) != 0;
  }
  void go_down(std::uint64_t now_ns, std::string why);
  void publish(std::string io_reason) LARDER_EXCLUDES(mutex_);

  const std::string where_;
  std::atomic<std::uint32_t> down_ = 0;
  std::atomic<bool> is_degraded_ = false;
  // Used by the path's thread only.
  std::uint32_t errors_in_a_row_ = 0;
  std::uint64_t last_error_ns_ = 0;
  std::uint64_t probe_at_ns_ = 0;
  std::uint64_t probe_wait_ns_ = 0;
  std::uint64_t came_back_ns_ = 0;

  mutable Mutex mutex_;
  std::string io_reason_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::string> flaws_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::string> remarks_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, std::string>> conditions_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::log_store
