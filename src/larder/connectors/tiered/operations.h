#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"
#include "larder/connector/intake.h"
#include "larder/connector/load_model.h"
#include "larder/connectors/tiered/key_table.h"
#include "larder/connectors/tiered/options.h"
#include "larder/connectors/tiered/pins.h"
#include "larder/connectors/tiered/tier_port.h"

namespace larder::tiered {

/// An item on its way through an operation.
struct Part {
  Key* key = nullptr;       ///< In use by this part.
  std::uint32_t place = 0;  ///< In the outer batch.
  bool changes = false;     ///< It has the key for itself.
  Outcome outcome = Outcome::kPending;
  MissReason miss_reason = MissReason::kAbsent;
  bool existed = false;
  bool was_in_l1 = false;
  std::uint32_t answers = 0;  ///< Tiers that did not fail.
  std::uint32_t yes = 0;      ///< Tiers that have the key, have written it or have dropped it.
  std::uint64_t value_bytes = 0;
  std::uint8_t found_in = 0;  ///< Item::place of a hit.
  Error error{};              ///< The first failure of a tier; code kNone: there was none.
};

/// Items of one batch that go the same way together.
struct Operation {
  enum class Step : std::uint8_t {
    kBegin = 0,
    kAsked,    ///< A Set, a prefetch: the tiers have reported whether they have the key.
    kRemoved,  ///< A Set: the tiers have dropped their old values.
    kEnd,      ///< All answers are there.
  };

  Batch* outer = nullptr;
  SetMode mode = SetMode::kIfAbsent;
  Step step = Step::kBegin;
  bool is_cancelled = false;   ///< The tiers were told about their pending operations.
  bool waits_for_get = false;  ///< For the engine.
  std::uint32_t calls_out = 0;
  std::vector<Part> parts;
  // A Get, a prefetch:
  std::vector<Item> items;
  std::vector<std::uint32_t> numbers;  ///< Prefetch: of the parts, by item.
  std::vector<Slice> slices;           ///< Prefetch: a size for each item.
  std::vector<cache::ChunkHash> names;
  std::vector<cache::GetOutcome> found;
  std::list<Operation>::iterator self;
};

/// L1's work for callers, in values.
struct L1Counters {
  std::atomic<std::uint64_t> hits = 0;  ///< Loads.
  std::atomic<std::uint64_t> bytes_loaded = 0;
  std::atomic<std::uint64_t> stores = 0;
  std::atomic<std::uint64_t> stores_bypassed = 0;  ///< There was no room for them.
  std::atomic<std::uint64_t> prefetched = 0;       ///< For a tier, for a prefetch or a pin.
};

/// How long copies out of L1 take. Any thread.
class CopyTimes {
 public:
  void add(std::uint64_t values, std::uint64_t bytes, std::uint64_t began_ns, std::uint64_t now_ns)
      LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    model_.add(load_cost(values, bytes), now_ns - began_ns, now_ns);
  }
  /// As LoadModel says.
  std::uint64_t load_ns(const LoadSize& size, std::uint64_t now_ns) const LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    return model_.load_ns(load_cost(size.values, size.bytes), now_ns);
  }

 private:
  mutable Mutex mutex_;
  LoadModel model_ LARDER_GUARDED_BY(mutex_);
};

/// The life of a caller's items: each operation in its steps, over L1 and the tiers.
///
/// Get     L1, else the tiers in their order, by the engine; then promotion (E30).
/// Exists  L1, then the tiers: at once where they answer from memory, else all of them together.
/// Set     If absent: asks L1 and the tiers first, unless one tier decides alone. Through: writes
///         to every tier that stores, from the caller's memory, then into L1. Back: into L1; values
///         without room in L1 go through.
/// Replace, Delete  out of L1 and every tier, so that no older copy is ever found again. Fails if
///         one tier does not take part.
/// Touch   L1 and the tiers.
/// Hints   Prefetch: asks like a Set, then loads absent values into L1, without a destination. Pin:
///         the same, then the engine's pledge. Retain: the tiers that can. Release: both.
///
/// Invariant (C4): while a key is changed, no other operation uses it, and the engine has no store
///   of it in flight. So all copies of a key are equal whenever it is not being changed.
/// Threads: the machine's. Cost: O(items), and a copy of each value that goes into or out of L1.
class Operations {
 public:
  struct Parts {
    Intake& intake;
    cache::Engine& engine;
    const cache::Arena& arena;
    KeyTable& keys;
    std::span<const std::unique_ptr<TierPort>> tiers;
    const TieredOptions& options;
    cache::SpaceId space{};
    cache::OwnerId owner{};
  };
  explicit Operations(const Parts& parts);

  void start(const Ticket& ticket);
  /// From the engine's listener: the get of this ticket has ended.
  void on_get(cache::Ticket ticket, std::span<const cache::GetOutcome> outcomes);
  void on_ended(Call& call);
  /// Continues items that can proceed. False: there was nothing to do.
  bool work();
  bool has_work() const noexcept { return !ready_.empty() || !refused_.empty(); }
  /// Ends items that may no longer wait for their key, and cancels cancelled ones.
  void look_after(std::uint64_t now_ns);
  /// From here on everything ends as soon as it can.
  void cancel_all() noexcept { is_ending_ = true; }

  bool is_empty() const noexcept { return operations_.empty() && keys_.waiting() == 0; }
  /// When look_after() has something to do.
  std::uint64_t next_deadline_ns() const noexcept {
    const std::uint64_t waiters_ns = keys_.waiting() == 0 ? kNever : waiters_deadline_ns_;
    return std::min(waiters_ns, pins_.next_end_ns());
  }
  /// Returns finished batches. The caller publishes its numbers before.
  void finish_ended();
  bool has_ended() const noexcept { return !ended_.empty(); }

  const L1Counters& counters() const noexcept { return counters_; }
  const CopyTimes& copy_times() const noexcept { return copy_times_; }
  /// From the engine's listener: a value has left L1.
  void on_left(const cache::ChunkHash& name) { pins_.on_left(name); }

 private:
  /// Which tiers a question or a change goes to.
  enum class Who : std::uint8_t { kLoad = 0, kStore, kRest, kAll, kRetain };

  // Beginning and ending.
  bool answer_at_once(const Batch& batch, Item& item);
  void start_lookup(const Ticket& ticket);
  std::size_t look_up_in_l1(const Ticket& ticket);
  std::size_t end_hits(Batch& batch, std::size_t tier);
  void wait(Key& key, const Waiter& waiter);
  Operation& make(Batch& batch, SetMode mode);
  void begin_waiter(const KeyTable::Granted& granted);
  void refuse_waiters(std::uint64_t now_ns);
  void go_on(Operation& operation);
  void note_answer(Operation& operation, std::uint32_t number, std::size_t tier,
                   const Item& answer);
  void end_late(Operation& operation);
  void end(Operation& operation);
  void note_ended(Batch& batch, std::size_t items);
  Error error_of(const Batch& batch) const noexcept;
  bool is_over(const Batch& batch, std::uint64_t now_ns) const noexcept;

  // Steps: in operation_steps.cc.
  void step(Operation& operation);
  void step_set(Operation& operation);
  void begin_set(Operation& operation);
  void end_set(Operation& operation);
  void step_exists(Operation& operation);
  void step_delete(Operation& operation);
  void step_touch(Operation& operation);
  void step_retain(Operation& operation);
  void step_release(Operation& operation);
  void step_prefetch(Operation& operation);
  void begin_prefetch(Operation& operation);
  void load_into_l1(Operation& operation);
  void end_prefetch(Operation& operation);
  /// It is in L1. The result of the hint.
  void end_in_l1(const Operation& operation, Part& part);
  void wait_for_load(Operation& operation);
  static cache::Ticket ticket_of(const Operation& operation) noexcept {
    return cache::Ticket{reinterpret_cast<std::uintptr_t>(&operation)};
  }
  void begin_get(Operation& operation);
  void get(Operation& operation, cache::GetSpec spec);
  void end_get(Operation& operation);
  void copy_out(Operation& operation, std::size_t number);
  void ask(Operation& operation);
  void write(Operation& operation);
  void judge_write(Operation& operation);
  void put(Operation& operation, bool only_written);
  bool may_put(const Operation& operation, const Part& part, bool only_written) const noexcept;
  void call(Operation& operation, Who who, Op op);
  void call_tier(Operation& operation, std::size_t tier, Op op);
  bool probe_tier(Operation& operation, std::size_t tier);
  std::unique_ptr<Call> take_call();
  bool is_asked(std::size_t tier, Who who) const noexcept;

  Intake& intake_;
  cache::Engine& engine_;
  const cache::Arena& arena_;
  KeyTable& keys_;
  const std::span<const std::unique_ptr<TierPort>> tiers_;
  const TieredOptions& options_;
  const cache::SpaceId space_;
  const cache::OwnerId owner_;
  const bool has_store_;       ///< Some tier is stored to.
  const bool is_back_;         ///< A Set is done when L1 has it.
  const bool are_all_probed_;  ///< Every tier with loads answers from memory.

  std::list<Operation> operations_;
  std::vector<std::unique_ptr<Call>> calls_;  ///< Not in use.
  std::vector<Operation*> ready_;             ///< Everything that they waited for is there.
  std::vector<Call*> refused_;                ///< Calls that ended at once.
  struct Ended {
    Batch* batch = nullptr;
    std::size_t items = 0;
  };
  std::vector<Ended> ended_;
  std::vector<Waiter> over_;           ///< Scratch.
  std::vector<Item> asked_;            ///< Scratch: of a probe.
  std::vector<std::uint32_t> places_;  ///< Scratch: the same.
  // Scratch, of values on their way into L1:
  std::vector<Part*> put_parts_;
  std::vector<cache::ChunkHash> put_names_;
  std::vector<std::uint64_t> put_bytes_;
  std::vector<cache::CellSlot> slots_;
  Pins pins_;
  CopyTimes copy_times_;
  std::uint64_t waiters_deadline_ns_ = kNever;
  std::uint64_t cancels_seen_ = 0;
  bool is_ending_ = false;
  L1Counters counters_;
};

}  // namespace larder::tiered
