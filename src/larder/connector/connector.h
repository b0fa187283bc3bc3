#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/result.h"
#include "larder/connector/op.h"
#include "larder/connector/report.h"

namespace larder {

/// The result of one item. Connector says what each means for which operation.
enum class Outcome : std::uint8_t { kPending = 0, kHit, kMiss, kDone, kFailed };
/// Weighted against each other; none is ever starved.
enum class Urgency : std::uint8_t { kDemand = 0, kPrefetch, kStore, kBackground };
inline constexpr std::size_t kUrgencyCount = 4;
/// What a Set does when the key has a value.
enum class SetMode : std::uint8_t { kIfAbsent = 0, kReplace };

/// The bounds of a key, of a value, and of the items of a batch.
inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::uint64_t kValueBytesMax = std::uint64_t{1} << 30;
inline constexpr std::size_t kItemsMax = std::size_t{1} << 20;

/// A piece of caller memory. A Set only reads through `data`.
struct Slice {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// One key of a batch. Everything it points to is the caller's, unchanged until reap() returns the
/// batch.
struct Item {
  std::span<const std::byte> key;  ///< 1..kKeyBytesMax bytes, any bytes.
  std::span<const Slice>
      value;  ///< The value is their concatenation. Empty for Exists, Delete, Touch.
  std::uint64_t value_bytes = 0;  ///< Out: size (Get hit, kSizeMismatch, Exists hit or 0: unknown).
  Error error;                    ///< Out, iff kFailed.
  Outcome outcome = Outcome::kPending;  ///< Out.
  bool existed = false;  ///< Out, Set kIfAbsent: the key was there, nothing was written.
  MissReason miss_reason = MissReason::kAbsent;  ///< Out, iff kMiss.
  std::uint8_t place = 0;  ///< Out, Exists hit: see LoadSize and Batch::wants_places.
  std::uint64_t connector_words[2] = {};  ///< The connector's while the batch is in flight.
};

/// One submitted operation over many keys.
struct Batch {
  std::span<Item> items;               ///< 1..kItemsMax.
  std::uint64_t deadline_ns = kNever;  ///< CLOCK_MONOTONIC, absolute, queueing included.
  void* user_data = nullptr;
  Op op = Op::kGet;
  Urgency urgency = Urgency::kDemand;
  SetMode set_mode = SetMode::kIfAbsent;
  Hint hint = Hint::kNone;     ///< For a Touch; kNone for other operations.
  std::uint64_t hold_ns = 0;   ///< Pin, retain: how long, 1..kHoldNsMax; else 0.
  bool allow_shorter = false;  ///< Get: a value smaller than the slices is a hit.
  /// Exists: each hit's `place` is the one that a Get would load it from, for load_ns_of(). Without
  /// it the answer may name a slower place, which saves a look at the faster ones.
  bool wants_places = false;
  /// Beyond the limits (C5) it waits for room in the connector, deadline included, and is not
  /// refused.
  bool waits_for_room = false;
  /// For a caller that looks keys up before it loads them, as engines do. A Get of another size
  /// than the stored one then counts as a failure in the sense of C6: the key is a miss for
  /// `miss_after_failure`, or until a Set, which replaces the value also with kIfAbsent. Otherwise
  /// such a caller would find the key and fail to load it again and again.
  bool misses_wrong_sizes = false;

  // The connector's while the batch is in flight, without meaning to the caller; see Intake.
  bool connector_waits = false;
  Batch* connector_next = nullptr;
  Batch* connector_previous = nullptr;
  std::uint64_t connector_bytes = 0;
  std::uint64_t connector_ahead_bytes = 0;
  std::uint64_t connector_submitted_ns = 0;
  std::uint32_t connector_cursor = 0;
  std::uint32_t connector_place = 0;
  std::atomic<std::uint32_t> connector_pending = 0;
};

/// The load from one place of a connector: for `tiered:` place 0 is L1 and place n its n-th tier;
/// most connectors have the place 0 only.
struct LoadSize {
  std::uint8_t place = 0;
  std::uint64_t values = 0;
  std::uint64_t bytes = 0;
};
/// Places that a connector can tell apart.
inline constexpr std::size_t kPlacesMax = 8;

/// A place that keeps values under keys: the contract between larder and every storage backend.
/// Caller-owned batches go in, the same batches come back, one event fd says when, as in NVMe and
/// io_uring.
///
/// C1  Every batch for which submit() returned OK comes back from reap() exactly once, whatever
///     happens, also after stop(). A refused batch is unchanged. reap() works after stop() until no
///     batch is left.
/// C2  Each item has its own outcome and, if failed, its own error; one key's failure is that
///     key's alone.
/// C3  No exception leaves a connector; an unknown exception inside one is that key's failure.
/// C4  Batches, and the items of one batch, take effect in any order; two operations on one key in
///     flight act as if one came after the other. A value becomes visible only when it is complete.
///     A failed Set or Delete may or may not have taken effect, in this run or after a restart; it
///     never leaves a mix.
/// C5  submit() is thread-safe and never waits for I/O. Limits are per class (lookup, load, store)
///     in bytes and batches, so that stores cannot use up the share of loads. A batch larger than
///     the limit is accepted when its class is idle. Beyond the limit: kResourceExhausted, or it
///     waits as `Batch::waits_for_room` says.
/// C6  An item whose Get failed (corrupt, read error, deadline) is a miss for every later Exists
///     and Get until it is stored again; if it could not be read in time, or could not be
///     requested, at least for `miss_after_failure` (30 s). Two errors leave it as it was:
///     kCancelled, and, unless `Batch::misses_wrong_sizes`, kSizeMismatch, which is the caller's
///     mistake or a changed layout.
/// C7  reap() is called by one thread at a time. event_fd() is readable while reap() would return
///     something; it may be readable when it would not, but it is never unreadable while a batch
///     waits.
/// C8  At a batch's deadline the items that the kernel or the peer does not have yet fail at once
///     with kDeadlineExceeded, the others end when their I/O ends. cancel() does the same at once
///     with kCancelled.
///
/// Outcomes: Get: hit, miss (buffer untouched), failed (buffer unspecified). Set: done, failed.
///   Exists: hit, miss, failed. Delete: done (it was there), miss, failed. Touch: done, miss,
///   failed.
/// Sizes: a Get's slices must add up to the stored size unless `allow_shorter`; otherwise
///   failed/kSizeMismatch with `value_bytes` set. `capabilities().value_bytes_max` bounds the
///   values that a connector accepts; stored values that are larger, accepted under a larger bound,
///   still load. A value above kValueBytesMax, which no Get can take, is a miss, and any Set
///   replaces it.
///
/// Hints: a Touch may carry one, and means it for each of its keys. Done: it is so now. Miss: the
///   key has no value. Failed, and nothing has changed: kUnimplemented where `capabilities().hints`
///   lacks the hint; kResourceExhausted where it would exceed the connector's own budget for it, or
///   there is no room. So no hint is dropped silently.
///   Prefetch  The value is where it is loaded fastest from, until others need the room.
///   Pin       The same, and for `hold_ns` from then on it does not make room for others.
///   Retain    For `hold_ns` the value is not evicted from where it is stored. A connector that
///             must make room evicts it last, and counts that.
///   Release   Ends the pin and the retention of the key; a miss where it had neither.
///   A pin or retention belongs to the key, whichever caller asked for it: a second one extends it
///   to the later of the two. The first release, a Delete, a Set that replaces, or the end of the
///   connector ends it. It protects from eviction only: a value may still fail.
/// The conformance suite (src/larder/conformance/) states each rule as a test and runs on every
/// connector of the build.
class Connector {
 public:
  Connector() = default;
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;
  /// Everything accepted must have been reaped.
  virtual ~Connector() = default;

  /// Any thread. On an error the batch is unchanged and still the caller's.
  virtual Status submit(Batch& batch) noexcept = 0;
  /// Moves finished batches into `done`; returns how many. By one thread at a time. Never waits.
  virtual std::size_t reap(std::span<Batch*> done) noexcept = 0;
  /// For poll(): readable when reap() is worth calling. The connector's; do not close or read it.
  virtual int event_fd() const noexcept = 0;
  /// Any thread, but only before reap() has returned the batch. A hint: the batch still comes back.
  virtual void cancel(Batch& batch) noexcept = 0;
  /// Answers an Exists from memory, without a batch: fills outcome and value_bytes of every item
  /// and returns true, or returns false, with nothing changed, when only submit() can tell. Any
  /// thread.
  virtual bool probe(std::span<Item> items) const noexcept = 0;

  /// The expected time of a Get of this, if it was submitted now: from the times of recent loads
  /// and from the loads under way. kNever: not known, as nothing was loaded within the last minute.
  /// An estimate, not a promise. Any thread, no I/O. At most one element for each place.
  virtual std::uint64_t load_ns(std::span<const LoadSize> /*sizes*/) const noexcept {
    return kNever;
  }

  virtual Capabilities capabilities() const noexcept = 0;
  /// Any thread, no I/O.
  virtual Report report() const = 0;
  /// A page of keys: every key present during the whole scan is seen at least once, in order of
  /// age where there is one. May do I/O in the caller's thread. kUnimplemented where it cannot.
  virtual Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) = 0;
  /// Stored and removed keys since `from`. kUnimplemented where none are kept.
  virtual Result<EventPage> events(EventCursor /*from*/, std::size_t /*events_max*/) const {
    return Error{ErrorCode::kUnimplemented, "connector", "events are not kept by this connector"};
  }
  /// Refuses new batches and cancels everything. kUnavailable when something is still with the
  /// kernel or the peer at `deadline_ns`, which report() names: the object must not be destroyed
  /// until that ends. Idempotent.
  virtual Status stop(std::uint64_t deadline_ns) noexcept = 0;
};

/// Sum of the slices' bytes.
inline std::uint64_t bytes_of(std::span<const Slice> slices) noexcept {
  std::uint64_t total = 0;
  for (const Slice& slice : slices) total += slice.bytes;
  return total;
}

/// Connector::load_ns() of the hits among these items, as an Exists or probe() has filled them in:
/// 0 when there is no hit.
std::uint64_t load_ns_of(const Connector& connector, std::span<const Item> items) noexcept;

/// The checks that every connector makes first: counts, key lengths, slices present exactly where
/// the operation has a value, sizes up to `value_bytes_max` for a Set and kValueBytesMax for a Get.
/// Batch-level defects only (no items, too many): kInvalidArgument and the batch is untouched.
/// Item-level defects are the item's own failure, found by check_item().
Status check_batch(const Batch& batch) noexcept;
/// The error of one item, if it has one; see check_batch().
Status check_item(const Batch& batch, const Item& item, std::uint64_t value_bytes_max,
                  std::size_t slices_max) noexcept;

}  // namespace larder
