#include "larder/connectors/resp/lane.h"

#include <algorithm>

namespace larder::resp {
namespace {

constexpr std::array<std::uint8_t, 15> kTurns{0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0};
/// Items that a batch may have taken before another of its urgency has its turn.
constexpr std::uint32_t kItemsPerTurn = 32;

}  // namespace

bool Lane::empty() const noexcept {
  return again_.empty() &&
         std::ranges::all_of(waiting_, [](const auto& waiting) { return waiting.empty(); });
}

void Lane::add(BatchState& state) {
  auto& waiting = waiting_.at(static_cast<std::size_t>(state.batch->urgency));
  state.waiting = waiting.insert(waiting.end(), &state);
  state.is_waiting = true;
}

void Lane::remove(BatchState& state) noexcept {
  if (!state.is_waiting) return;
  waiting_[static_cast<std::size_t>(state.batch->urgency)].erase(state.waiting);
  state.is_waiting = false;
}

bool Lane::take_again(Operation& operation) {
  if (again_.empty()) return false;
  operation = std::move(again_.front());
  again_.pop_front();
  return true;
}

BatchState* Lane::next() noexcept {
  auto* chosen = &waiting_[kTurns[turn_++ % kTurns.size()]];
  if (chosen->empty()) {
    const auto found =
        std::ranges::find_if(waiting_, [](const auto& waiting) { return !waiting.empty(); });
    if (found == waiting_.end()) return nullptr;
    chosen = &*found;
  }
  BatchState* const state = chosen->front();
  if ((state->next_item + 1) % kItemsPerTurn == 0) {
    chosen->splice(chosen->end(), *chosen, chosen->begin());
  }
  return state;
}

}  // namespace larder::resp
