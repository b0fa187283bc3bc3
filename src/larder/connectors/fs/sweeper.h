#pragma once

#include <cstdint>
#include <memory>

#include "larder/base/call_thread.h"
#include "larder/connectors/fs/file_store.h"

namespace larder::fs {

inline constexpr std::uint64_t kSweepEverySeconds = 3600;

/// A store's background work, in a thread of its own: counts the existing files at opening, and
/// removes temporary files (larder's and LMCache's) that were not written to for an hour, at
/// opening and then once an hour.
///
/// Ownership: shares the store, and keeps it alive where a hung file system does not let the thread
/// end. Threads: one at a time.
class Sweeper {
 public:
  static Result<std::unique_ptr<Sweeper>> start(std::shared_ptr<FileStore> store);
  /// Waits for the thread, unless a call into the file system has not ended for `patience_ns`.
  ~Sweeper();
  Sweeper(const Sweeper&) = delete;
  Sweeper& operator=(const Sweeper&) = delete;

 private:
  struct State;
  explicit Sweeper(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
  std::unique_ptr<CallThread> thread_;
};

}  // namespace larder::fs
