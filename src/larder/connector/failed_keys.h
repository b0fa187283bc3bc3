#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/connector/op.h"

namespace larder {

/// What C6 requires after a Get that failed.
enum class AfterFailedGet : std::uint8_t {
  kNothing = 0,      ///< The error says nothing about the value: cancelled, or a wrong size.
  kMissForAWhile,    ///< The value could not be read in time, or was refused; it may be intact.
  kMissUntilStored,  ///< It was read and is bad.
};
/// By the error of the failed Get.
AfterFailedGet after_failed_get(ErrorCode code) noexcept;

/// The keys whose Get failed, which are misses until they are stored again (C6, P11): without it a
/// caller that finds a key and cannot load it would retry without end.
///
/// A bounded set of 64-bit hashes. Two keys with one hash cost a false miss, which a cache may
/// have. When it is full the oldest entry makes room and is counted. Threads: any. Cost: one atomic
/// load while it is empty, else one hash and one short lock; no allocation after construction (24
/// bytes an entry).
class FailedKeys {
 public:
  /// 1 to 2^24 keys.
  explicit FailedKeys(std::size_t keys_max);

  /// A miss from now on, until erase().
  void insert(std::span<const std::byte> key,
              MissReason reason = MissReason::kFailedBefore) noexcept LARDER_EXCLUDES(mutex_);
  /// A miss until `until_ns` or erase(). Never shortens an earlier one.
  void insert_until(std::span<const std::byte> key, std::uint64_t until_ns,
                    MissReason reason = MissReason::kFailedBefore) noexcept LARDER_EXCLUDES(mutex_);
  /// Call it after a successful Set, before its outcome is reported.
  void erase(std::span<const std::byte> key) noexcept LARDER_EXCLUDES(mutex_);

  bool contains(std::span<const std::byte> key, std::uint64_t now_ns) const noexcept {
    return find(key, now_ns).has_value();
  }
  /// Why the key is a miss; empty when it is not one.
  std::optional<MissReason> find(std::span<const std::byte> key,
                                 std::uint64_t now_ns) const noexcept LARDER_EXCLUDES(mutex_);

  /// Remembers `key` after a Get that failed with `code`, as after_failed_get() says; "a while" is
  /// `miss_after_failure_ns`. Not for items that check_item() refuses: their key was never
  /// requested.
  void note_failed_get(std::span<const std::byte> key, ErrorCode code, std::uint64_t now_ns,
                       std::uint64_t miss_after_failure_ns) noexcept;

  std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }
  /// Entries that made room for newer ones before their time.
  std::uint64_t dropped_total() const noexcept {
    return dropped_total_.load(std::memory_order_relaxed);
  }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t until_ns = 0;  ///< 0: the entry is free.
    std::uint32_t next = 0;      ///< Next in the bucket; kEnd ends the list.
    MissReason reason = MissReason::kFailedBefore;
  };

  std::uint32_t& bucket(std::uint64_t hash) const noexcept LARDER_REQUIRES(mutex_);
  /// The link that leads to the hash's entry, or the one that ends its bucket.
  std::uint32_t& find_link(std::uint64_t hash) const noexcept LARDER_REQUIRES(mutex_);
  void unlink(std::uint32_t& link) const noexcept LARDER_REQUIRES(mutex_);

  // find() removes expired entries, which no caller can observe: hence mutable.
  mutable Mutex mutex_;
  mutable std::vector<Entry> entries_ LARDER_GUARDED_BY(mutex_);  ///< A ring in order of insertion.
  mutable std::vector<std::uint32_t> buckets_ LARDER_GUARDED_BY(mutex_);
  std::size_t cursor_ LARDER_GUARDED_BY(mutex_) = 0;
  mutable std::atomic<std::size_t> size_ = 0;  ///< Changed under mutex_, read without.
  std::atomic<std::uint64_t> dropped_total_ = 0;
};

}  // namespace larder
