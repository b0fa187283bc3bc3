#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "larder/base/mutex.h"
#include "larder/base/result.h"

namespace larder::server {

/// Shared memory of a worker, mapped as long as this lives.
///
/// The worker can change or truncate it at any time: read and write it under a FaultGuard only, and
/// believe nothing of it.
class Segment {
 public:
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  std::span<std::byte> memory() const noexcept { return memory_; }

 private:
  friend class Segments;
  explicit Segment(std::span<std::byte> memory) noexcept : memory_(memory) {}

  std::span<std::byte> memory_;
};

/// The workers' segments that are mapped, each once (S19): a segment of several tensors or several
/// registrations has one mapping, which ends with the last of them.
///
/// Names are those that LMCache's clients give, `/lmcache_kv_<digits>_<digits>`; the file belongs
/// to the user of this process or to root, and is as large as what is asked of it. Anything else is
/// an error that names the segment and the remedy. Threads: any. It outlives what it gave. Cost:
/// three system calls, outside the lock; no page is touched.
class Segments {
 public:
  /// `directory` is where shm_open() of Linux has its files.
  explicit Segments(std::string directory = "/dev/shm") : directory_(std::move(directory)) {}

  SetupResult<std::shared_ptr<const Segment>> map(const std::string& name, std::uint64_t bytes)
      LARDER_EXCLUDES(mutex_);
  /// Mappings that live.
  std::size_t mapped() const LARDER_EXCLUDES(mutex_);

 private:
  using FileId = std::pair<std::uint64_t, std::uint64_t>;  ///< Device and inode.

  const std::string directory_;
  mutable Mutex mutex_;
  std::map<FileId, std::weak_ptr<const Segment>> mapped_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::server
