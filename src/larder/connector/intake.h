#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/completion_queue.h"
#include "larder/connector/connector.h"
#include "larder/connector/deadline_heap.h"
#include "larder/connector/failed_keys.h"
#include "larder/connector/statistics.h"
#include "larder/connector/what_if_feed.h"

namespace larder {

/// A connector's operations that are worked off by the same hands, and so compete by urgency.
using LaneNumber = std::uint8_t;
inline constexpr std::size_t kLanesMax = 3;

/// A set of an intake's queues, one for each operation and urgency; see queues_of().
using QueueMask = std::uint32_t;
inline constexpr std::size_t kQueueCount = kOpCount * kUrgencyCount;

/// The number of one queue.
constexpr std::size_t queue_of(Op op, Urgency urgency) noexcept {
  return index_of(op) * kUrgencyCount + static_cast<std::size_t>(urgency);
}
/// The operation's queues, of every urgency.
constexpr QueueMask queues_of(Op op) noexcept {
  return ((QueueMask{1} << kUrgencyCount) - 1) << queue_of(op, Urgency::kDemand);
}

/// The lane of an operation where every class has its own.
LaneNumber lane_by_class(Op op) noexcept;

/// Properties that all batches of a connector share.
struct IntakeOptions {
  const char* name = "connector";  ///< The connector's name in errors. A literal.
  LaneNumber (*lane_of)(Op) noexcept = lane_by_class;
  BatchLimitOptions limits;
  std::uint64_t value_bytes_max = kValueBytesMax;
  std::size_t slices_max = 1024;
  std::uint64_t miss_after_failure_ns = 30'000'000'000;
  std::size_t failed_keys_max = 65'536;
  CapacityModel capacity;                 ///< For Report::what_if.
  const KeyHashes* key_hashes = nullptr;  ///< For Report::what_if. Outlives the intake; null: none.
  HintMask hints = 0;  ///< The hints that the connector carries out; begin() refuses the others.

  SetupStatus validate() const;
};

/// How many items of a batch are taken together: it is cut into min(items / items_min, tickets_max)
/// tickets, at least one, whose sizes differ by at most one. By default each item is a ticket.
struct TicketSize {
  std::uint32_t tickets_max = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t items_min = 1;
};

/// Items of a batch that one owner works off.
struct Ticket {
  Batch* batch = nullptr;  ///< Null: there was nothing to take.
  std::span<Item> items;
  bool is_more = false;  ///< The lane has another one.

  explicit operator bool() const noexcept { return batch != nullptr; }
};

/// Whom an intake tells that there is something to do. It may be called from any thread, the
/// owner's own included, and never while a lock of the intake is held.
class IntakeOwner {
 public:
  virtual ~IntakeOwner() = default;
  /// There is something of this operation to take, or the earliest deadline is nearer now.
  virtual void on_submitted(Op op) noexcept = 0;
  /// Some batch was cancelled of which the owner has items: see Intake::is_cancelled().
  virtual void on_cancelled() noexcept {}
};

/// The caller's side of the contract, for every connector: admission (C5), queues by urgency,
/// deadlines and cancellation of queued items (C8), keys whose Get failed (C6), immediate answers
/// while the connector is down, stop, and the way back (C1, C7), with the counts of all outcomes.
///
/// Passive: it has no thread. A connector forwards submit(), cancel(), reap() and event_fd(). Its
/// owner, a machine or threads that make blocking calls, takes items from the queues by ticket,
/// and for each item: begin(), work, end(); and finish() for all of them at once, or for each. It
/// calls expire() when next_deadline_ns() has come.
///
///   while (const Ticket ticket = intake.take(lane)) {
///     for (Item& item : ticket.items) {
///       if (intake.begin(*ticket.batch, item)) intake.end(*ticket.batch, item, work(item));
///     }
///     intake.finish(ticket);
///   }
///
/// A connector that answers in the caller's thread has no queues: admit() in place of submit(), and
/// then the same.
///
/// Urgency: of a lane's queues the one is next that has had least for its weight, 8:4:2:1, by
/// bytes.
///   Batches of one queue are taken first come first served; lookups take turns after 32 items, so
///   that one key does not wait for a hundred thousand.
/// Ownership: batches are linked through their connector_ members; nothing is allocated per batch.
/// Invariant: a batch is in a queue, or waits for room, and is in the heap if it has a deadline,
///   exactly while some of its items have not been taken. Every item is counted by finish() once:
///   by the owner that took it, or here, where it was withdrawn.
/// Threads: any, except that reap() is called by one at a time.
/// Cost: one short lock to submit, to take a ticket and to end a batch; begin() and end() take none
///   while no key has failed.
class Intake {
 public:
  Intake(const IntakeOptions& options, const Clock& clock);
  /// Everything was reaped. Waits for threads that have not left finish() yet.
  ~Intake();
  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  // ---- The caller's side: as in Connector.
  Status submit(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  void cancel(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Batch*> done) noexcept { return completions_.reap(done); }
  int event_fd() const noexcept { return completions_.event_fd(); }
  /// True when every item is a miss because its Get failed before; otherwise the answer is not
  /// known here.
  bool probe_failed(std::span<Item> items) const noexcept;
  /// For an owner that answers a probe itself: turns a hit of a key whose Get failed into a miss,
  /// and counts the items as lookups.
  void end_probe(std::span<Item> items) const noexcept;
  /// Connector::load_ns() of a connector with one place: from the times of its loads, and behind
  /// the loads under way.
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept LARDER_EXCLUDES(mutex_);
  /// Refuses batches from now on, and fails queued ones. The owner may end what it has taken early.
  void stop() noexcept LARDER_EXCLUDES(mutex_);
  /// After stop(): false when something was not finished by `deadline_ns` of the real clock.
  bool wait_until_idle(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);
  bool is_stopping() const noexcept { return is_stopping_.load(std::memory_order_acquire); }

  // ---- The owner's side.
  /// Call it before the first submit(). Without an owner no notification is sent.
  void set_owner(IntakeOwner* owner) noexcept { owner_ = owner; }
  /// submit() for an owner that works the batch off itself, at once: it is in no queue.
  Status admit(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  /// Answers an Exists at once, in the caller's thread: `answer(items)` says which of them are
  /// there, for the whole batch or, where some items have ended already, for one item at a time.
  template <class Answer>
  Status look_up(Batch& batch, Answer&& answer) noexcept LARDER_EXCLUDES(mutex_) {
    LARDER_TRY(admit(batch));
    bool are_all_open = true;
    for (Item& item : batch.items) are_all_open &= begin(batch, item);
    if (are_all_open) {
      answer(batch.items);
    } else {
      for (Item& item : batch.items) {
        if (item.outcome == Outcome::kPending) answer(std::span{&item, 1});
      }
    }
    finish(batch, batch.items.size());
    return {};
  }
  /// The next items of the lane, but not from the queues `without`.
  Ticket take(LaneNumber lane, QueueMask without = 0, const TicketSize& size = {}) noexcept
      LARDER_EXCLUDES(mutex_);
  /// The last ticket of its batch was not begun, and becomes the first of its queue again. Only for
  /// an owner that is alone on its lane.
  void put_back(const Ticket& ticket) noexcept LARDER_EXCLUDES(mutex_);
  /// False: the item has ended already (illegal, cancelled, late, down, a miss after a failed Get).
  bool begin(const Batch& batch, Item& item) noexcept;
  /// The result in `item`, or its error, becomes the item's outcome. `says_of_key`: whether the
  /// error of a Get still applies to its key (C6); no when the value was replaced meanwhile.
  void end(const Batch& batch, Item& item, const Status& status, bool says_of_key = true) noexcept;
  /// Counts items that have ended. The batch may not be touched any more.
  void finish(Batch& batch, std::size_t items) noexcept LARDER_EXCLUDES(mutex_);
  void finish(const Ticket& ticket) noexcept { finish(*ticket.batch, ticket.items.size()); }
  /// How a Set makes the key readable again: a value that cannot be read is replaced.
  SetMode set_mode_of(const Batch& batch, const Item& item) const noexcept;

  /// The key has a value that no Get can take: a miss until it is stored again, as after a Get that
  /// found that out.
  void note_bad_value(std::span<const std::byte> key) noexcept {
    failed_keys_.insert(key, MissReason::kOther);
  }

  bool has_queued(LaneNumber lane) const noexcept LARDER_EXCLUDES(mutex_);
  /// Some items of a batch in flight are in a queue, or wait for room.
  static bool is_queued(const Batch& batch) noexcept;
  static bool is_cancelled(const Batch& batch) noexcept;
  /// Number of calls of cancel(): if it has grown, a batch in hand may have been cancelled.
  std::uint64_t cancels() const noexcept { return cancels_.load(std::memory_order_acquire); }
  /// Items of a batch in flight that have not ended.
  static std::uint32_t items_left(const Batch& batch) noexcept;
  /// The earliest deadline of a queued batch; kNever: of none. Any thread.
  std::uint64_t next_deadline_ns() const noexcept {
    return next_deadline_ns_.load(std::memory_order_acquire);
  }
  /// Fails queued items that are late.
  void expire() noexcept LARDER_EXCLUDES(mutex_);
  /// From now on every item is answered here, queued ones at once: reads are misses, changes fail
  /// with kUnavailable. The owner ends what it has begun.
  void set_down(bool is_down) noexcept LARDER_EXCLUDES(mutex_) {
    set_lanes_down(kAllLanes, is_down, nullptr);
  }
  /// The same for one lane alone. While it is down, changes fail with `why`.
  void set_lane_down(LaneNumber lane, bool is_down) noexcept LARDER_EXCLUDES(mutex_) {
    set_lanes_down(LaneMask{1} << lane, is_down, nullptr);
  }
  void set_lane_down(LaneNumber lane, const Error& why) noexcept LARDER_EXCLUDES(mutex_) {
    set_lanes_down(LaneMask{1} << lane, true, &why);
  }
  bool is_lane_down(LaneNumber lane) const noexcept {
    return (lanes_down_.load(std::memory_order_relaxed) >> lane & 1U) != 0;
  }
  /// Whether all lanes are down.
  bool is_down() const noexcept { return lanes_down_.load(std::memory_order_relaxed) == kAllLanes; }

  const FailedKeys& failed_keys() const noexcept { return failed_keys_; }
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

  /// Forgets every batch in flight, as the death of its process does. The intake can then only be
  /// destroyed.
  void abandon_for_test() noexcept LARDER_EXCLUDES(mutex_);

 private:
  using LaneMask = std::uint32_t;
  static constexpr LaneMask kAllLanes = (LaneMask{1} << kLanesMax) - 1;

  /// Through connector_next and connector_previous.
  struct Queue {
    Batch* head = nullptr;
    Batch* tail = nullptr;
    double pass = 0;  ///< Virtual time: cost of the items taken, divided by weight.
  };
  struct Lane {
    QueueMask queues = 0;  ///< The lane's queues.
    double virtual_time = 0;
    Error down_error;  ///< The error of changes while the lane is down.
  };
  /// Batches taken out of their queues with items left, linked by connector_next.
  using Withdrawn = Batch*;

  /// Where the batch is: in the queue of its operation and urgency, or waiting for room.
  Queue& queue_of_batch(const Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  Lane& lane_of_batch(const Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void miss_failed(std::span<Item> items) const noexcept;
  Status enter(Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void leave(const Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  bool let_in_waiting(BatchClass batch_class) noexcept LARDER_REQUIRES(mutex_);
  void enqueue(Batch& batch, bool at_front) noexcept LARDER_REQUIRES(mutex_);
  void link(Batch& batch, bool at_front) noexcept LARDER_REQUIRES(mutex_);
  void unlink(Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void dequeue(Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void withdraw(Batch& batch, Withdrawn& list) noexcept LARDER_REQUIRES(mutex_);
  void withdraw_all(Withdrawn& list, LaneMask lanes) noexcept LARDER_REQUIRES(mutex_);
  void set_lanes_down(LaneMask lanes, bool are_down, const Error* why) noexcept
      LARDER_EXCLUDES(mutex_);
  Error down_error(Op op) const noexcept LARDER_EXCLUDES(mutex_);
  bool is_lane_down(Op op) const noexcept { return is_lane_down(options_.lane_of(op)); }
  std::uint64_t oldest_queued_ns(BatchClass batch_class) const noexcept LARDER_REQUIRES(mutex_);
  void publish_next_deadline() noexcept LARDER_REQUIRES(mutex_);
  void fail_withdrawn(Withdrawn list, const Error& error) noexcept;
  void answer_withdrawn(Withdrawn list) noexcept;
  void answer_down(Batch& batch, std::span<Item> items) noexcept;
  void fail(const Batch& batch, Item& item, const Error& error, bool says_of_key = true) noexcept;
  Error error_of(ErrorCode code, const char* what) const noexcept {
    return Error{code, options_.name, what};
  }

  // Constant after construction.
  const IntakeOptions options_;
  const Clock& clock_;
  IntakeOwner* owner_ = nullptr;

  // Synchronise themselves.
  mutable Statistics statistics_;  ///< A probe is a const call, and counts.
  mutable WhatIfFeed what_if_;     ///< The same.
  CompletionQueue completions_;
  FailedKeys failed_keys_;
  std::atomic<bool> is_stopping_ = false;  ///< Set under mutex_.
  std::atomic<LaneMask> lanes_down_ = 0;   ///< Set under mutex_.
  std::atomic<std::uint64_t> next_deadline_ns_ = kNever;
  std::atomic<std::uint64_t> cancels_ = 0;
  std::atomic<std::uint64_t> answered_while_down_ = 0;  ///< Batches, from the queues or at once.

  mutable Mutex mutex_;
  CondVar idle_;
  BatchLimits limits_ LARDER_GUARDED_BY(mutex_);
  std::array<Queue, kQueueCount> queues_ LARDER_GUARDED_BY(mutex_);
  std::array<Queue, kBatchClassCount> waiting_ LARDER_GUARDED_BY(mutex_);  ///< For room.
  std::array<Lane, kLanesMax> lanes_ LARDER_GUARDED_BY(mutex_);
  QueueMask filled_ LARDER_GUARDED_BY(mutex_) = 0;  ///< Queues with batches.
  std::array<std::uint64_t, kBatchClassCount> batches_queued_ LARDER_GUARDED_BY(mutex_){};
  std::uint64_t waited_total_ LARDER_GUARDED_BY(mutex_) = 0;
  DeadlineHeap deadlines_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t batches_in_flight_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t loads_in_flight_ LARDER_GUARDED_BY(mutex_) = 0;  ///< The items' cost: load_cost().
};

}  // namespace larder
