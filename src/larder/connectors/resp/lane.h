#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connectors/resp/command.h"

namespace larder::resp {

/// A batch in flight.
struct BatchState {
  Batch* batch = nullptr;
  std::uint32_t next_item = 0;                 ///< The first that nobody has taken.
  std::uint32_t left = 0;                      ///< Items without an outcome.
  std::uint32_t sizes_open = 0;                ///< kSize commands without an answer.
  std::vector<std::uint32_t> absent_or_empty;  ///< Items whose size was 0.
  bool is_waiting = false;                     ///< In its lane's queue.
  std::list<BatchState*>::iterator waiting;
  std::optional<std::multimap<std::uint64_t, BatchState*>::iterator> deadline;
  std::list<BatchState>::iterator self;
};

/// What waits for connections of one kind: batches by urgency, whose items are taken one by one,
/// and before them operations that were taken and must be sent (again).
///
/// The urgencies get 8, 4, 2 and 1 of 15 turns; batches of one urgency take turns too, so that a
/// single key does not wait for a hundred thousand. One thread at a time.
class Lane {
 public:
  bool empty() const noexcept;
  void add(BatchState& state);
  /// Out of the queue; operations that were taken stay.
  void remove(BatchState& state) noexcept;
  /// Calls `give_up(item)` for each item of `state` in an operation that waits here, and drops it.
  template <class GiveUp>
  void drop_operations(const BatchState& state, const GiveUp& give_up);

  void put_first(Operation operation) { again_.push_front(std::move(operation)); }
  void put_last(Operation operation) { again_.push_back(std::move(operation)); }
  bool take_again(Operation& operation);
  /// The batch whose next item is to be taken, null when there is none. The caller takes one.
  BatchState* next() noexcept;

 private:
  std::deque<Operation> again_;
  std::array<std::list<BatchState*>, kUrgencyCount> waiting_;
  std::uint32_t turn_ = 0;
};

template <class GiveUp>
void Lane::drop_operations(const BatchState& state, const GiveUp& give_up) {
  std::erase_if(again_, [&](const Operation& operation) {
    if (operation.batch != &state) return false;
    if (operation.kind != CommandKind::kAnyExists) give_up(operation.item);
    for (const std::uint32_t item : operation.items) give_up(item);
    return true;
  });
}

}  // namespace larder::resp
