#include "larder/connector/failed_keys.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/hash.h"

namespace larder {
namespace {

constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kKeysMaxMax = std::size_t{1} << 24;

}  // namespace

AfterFailedGet after_failed_get(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kNone:
    case ErrorCode::kCancelled:
    case ErrorCode::kSizeMismatch:
      return AfterFailedGet::kNothing;
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kUnavailable:
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnimplemented:
      return AfterFailedGet::kMissForAWhile;
    case ErrorCode::kCorruption:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return AfterFailedGet::kMissUntilStored;
  }
  return AfterFailedGet::kMissUntilStored;
}

FailedKeys::FailedKeys(std::size_t keys_max) {
  LARDER_CHECK(keys_max > 0 && keys_max <= kKeysMaxMax);
  const MutexLock lock{mutex_};
  entries_.resize(keys_max);
  buckets_.assign(std::bit_ceil(keys_max), kEnd);
}

std::uint32_t& FailedKeys::bucket(std::uint64_t hash) const noexcept {
  return buckets_[hash & (buckets_.size() - 1)];
}

std::uint32_t& FailedKeys::find_link(std::uint64_t hash) const noexcept {
  std::uint32_t* link = &bucket(hash);
  while (*link != kEnd && entries_[*link].hash != hash) link = &entries_[*link].next;
  return *link;
}

void FailedKeys::unlink(std::uint32_t& link) const noexcept {
  Entry& entry = entries_[link];
  link = entry.next;
  entry.until_ns = 0;
  size_.fetch_sub(1, std::memory_order_release);
}

void FailedKeys::insert(std::span<const std::byte> key, MissReason reason) noexcept {
  insert_until(key, kNever, reason);
}

void FailedKeys::insert_until(std::span<const std::byte> key, std::uint64_t until_ns,
                              MissReason reason) noexcept {
  if (until_ns == 0) return;
  const std::uint64_t hash = hash64(key);
  const MutexLock lock{mutex_};
  if (const std::uint32_t found = find_link(hash); found != kEnd) {
    Entry& entry = entries_[found];
    if (until_ns < entry.until_ns) return;
    entry.until_ns = until_ns;
    entry.reason = reason;
    return;
  }
  const std::size_t index = cursor_;
  cursor_ = (cursor_ + 1) % entries_.size();
  Entry& entry = entries_[index];
  if (entry.until_ns != 0) {
    unlink(find_link(entry.hash));
    dropped_total_.fetch_add(1, std::memory_order_relaxed);
  }
  std::uint32_t& head = bucket(hash);
  entry = Entry{.hash = hash, .until_ns = until_ns, .next = head, .reason = reason};
  head = static_cast<std::uint32_t>(index);
  // Pairs with the load in find(): a thread that sees 0 may continue without the lock, because the
  // failure that it would have seen has not been reported to any caller yet.
  size_.fetch_add(1, std::memory_order_release);
}

void FailedKeys::erase(std::span<const std::byte> key) noexcept {
  if (size_.load(std::memory_order_acquire) == 0) return;
  const std::uint64_t hash = hash64(key);
  const MutexLock lock{mutex_};
  if (std::uint32_t& link = find_link(hash); link != kEnd) unlink(link);
}

std::optional<MissReason> FailedKeys::find(std::span<const std::byte> key,
                                           std::uint64_t now_ns) const noexcept {
  if (size_.load(std::memory_order_acquire) == 0) return std::nullopt;
  const std::uint64_t hash = hash64(key);
  const MutexLock lock{mutex_};
  std::uint32_t& link = find_link(hash);
  if (link == kEnd) return std::nullopt;
  if (entries_[link].until_ns > now_ns) return entries_[link].reason;
  unlink(link);
  return std::nullopt;
}

void FailedKeys::note_failed_get(std::span<const std::byte> key, ErrorCode code,
                                 std::uint64_t now_ns,
                                 std::uint64_t miss_after_failure_ns) noexcept {
  switch (after_failed_get(code)) {
    case AfterFailedGet::kNothing:
      return;
    case AfterFailedGet::kMissForAWhile:
      return insert_until(
          key, now_ns + std::min(kNever - 1 - now_ns, miss_after_failure_ns),
          code == ErrorCode::kDeadlineExceeded ? MissReason::kLate : MissReason::kFailedBefore);
    case AfterFailedGet::kMissUntilStored:
      return insert(key);
  }
}

}  // namespace larder
