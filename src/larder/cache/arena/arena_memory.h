#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "larder/base/result.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/arena/segment_file.h"

namespace larder::cache {

/// The mapping behind an arena. Its pages are committed from the start: [0, committed_bytes()); an
/// access beyond may raise SIGBUS.
///
/// Threads: any for all but opening and the end. Two threads may commit the same pages at once:
///   they do the same work twice, and neither waits for the other.
class ArenaMemory {
 public:
  /// Bytes that one step commits; a huge page.
  static constexpr std::uint64_t kStepBytes = std::uint64_t{2} << 20;

  /// `kind` is not kOffsets. Touches no page.
  static SetupResult<std::unique_ptr<ArenaMemory>> open(const ArenaOptions& options,
                                                        std::uint64_t capacity_bytes);
  ~ArenaMemory();
  ArenaMemory(const ArenaMemory&) = delete;
  ArenaMemory& operator=(const ArenaMemory&) = delete;

  std::byte* base() const noexcept { return base_; }
  std::uint64_t committed_bytes() const noexcept {
    return committed_.load(std::memory_order_acquire);
  }
  /// One step towards `end`, or as little of it as `end` needs where the system has not enough for
  /// a whole one. No step where `end` is committed.
  Status commit_step(std::uint64_t end) noexcept;
  Status commit_to(std::uint64_t end) noexcept;

  HugePages huge_pages() const noexcept { return huge_pages_; }
  std::uint64_t huge_page_bytes() const;
  std::uint64_t commit_failures() const noexcept {
    return commit_failures_.load(std::memory_order_relaxed);
  }
  int commit_errno() const noexcept { return commit_errno_.load(std::memory_order_relaxed); }
  /// Null: private.
  const SegmentFile* file() const noexcept { return file_ ? &*file_ : nullptr; }

 private:
  ArenaMemory(std::optional<SegmentFile> file, std::byte* base, std::uint64_t bytes) noexcept
      : file_(std::move(file)), base_(base), bytes_(bytes) {}

  void advise(const ArenaOptions& options);
  /// 0, or the errno.
  int populate(std::uint64_t begin, std::uint64_t end) noexcept;

  std::optional<SegmentFile> file_;
  std::byte* const base_;
  const std::uint64_t bytes_;  ///< Whole pages.
  HugePages huge_pages_ = HugePages::kOff;
  std::atomic<std::uint64_t> committed_ = 0;
  std::atomic<std::uint64_t> commit_failures_ = 0;
  std::atomic<int> commit_errno_ = 0;
};

}  // namespace larder::cache
