#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/io/directory.h"

namespace larder::log_store {

class FileCall;

class FileCallSink {
 public:
  virtual ~FileCallSink() = default;
  /// Called in the path's thread. The call may be reused.
  virtual void on_file_call(FileCall& call) noexcept = 0;
};

/// One call to the file system. The caller's, but FileCalls' while it is busy.
class FileCall {
 public:
  enum class Kind : std::uint8_t {
    kMake = 1,  ///< Allocates a file, unless less than `min_free_bytes` would be left then.
    kRemove,    ///< Of a file.
    kSyncDirectory,
    kLook,           ///< How much space is free, and which file has the name.
    kLookForCopies,  ///< Whether the file shares its blocks with another one.
  };

  Kind kind = Kind::kLook;
  std::string name;
  std::uint64_t bytes = 0;  ///< kMake: the file's length.
  std::uint64_t min_free_bytes = 0;
  FileCallSink* sink = nullptr;
  std::uint32_t tag = 0;  ///< The caller's.

  Status status;            ///< Out.
  io::Space space;          ///< Out of kLook, and its status.
  std::uint64_t inode = 0;  ///< Output of kLook: the file's facts.
  bool is_missing = false;  ///< Out of kLook: there is none.
  bool is_shared = false;   ///< Out of kLookForCopies. A file that cannot be asked shares nothing.

  bool is_busy() const noexcept { return is_busy_; }

 private:
  friend class FileCalls;
  bool is_busy_ = false;  // Used by the path's thread only.
  std::uint64_t submitted_ns_ = 0;
};

/// Makes a path's calls to the file system in a thread of its own, because they have no deadline: a
/// disk that does not answer must not block the path.
///
/// Threads: one, the path's, calls everything. Ownership: directory and queue outlive it, and
///   the directory takes these calls from another thread. The destructor waits for the current
///   call.
/// Without a thread submit() makes the call and calls its sink: for the simulator.
class FileCalls {
 public:
  static Result<std::unique_ptr<FileCalls>> create(io::Directory& directory,
                                                   io::TransferQueue& queue, const Clock& clock,
                                                   bool has_thread);
  ~FileCalls();
  FileCalls(const FileCalls&) = delete;
  FileCalls& operator=(const FileCalls&) = delete;

  void submit(FileCall& call) noexcept LARDER_EXCLUDES(mutex_);
  /// Tells the sinks of calls that have ended; whether there was one.
  bool poll() noexcept LARDER_EXCLUDES(mutex_);
  /// When the oldest unanswered call was submitted, kNever without one, and its text: "making
  /// segment-0000003".
  std::uint64_t oldest_submitted_ns() const noexcept;
  std::string oldest() const;
  bool is_quiet() const noexcept { return in_flight_.empty(); }

 private:
  FileCalls(io::Directory& directory, io::TransferQueue& queue, const Clock& clock)
      : directory_(directory), queue_(queue), clock_(clock) {}
  void work() noexcept LARDER_EXCLUDES(mutex_);
  void carry_out(FileCall& call) noexcept;
  Status make(const FileCall& call) noexcept;

  io::Directory& directory_;
  io::TransferQueue& queue_;  // Only woken.
  const Clock& clock_;
  bool has_thread_ = false;
  std::deque<FileCall*> in_flight_;  // The path's thread's own; they end in this order.

  Mutex mutex_;
  CondVar arrived_;
  std::deque<FileCall*> waiting_ LARDER_GUARDED_BY(mutex_);
  std::deque<FileCall*> finished_ LARDER_GUARDED_BY(mutex_);
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;  // Last: uses the others.
};

}  // namespace larder::log_store
