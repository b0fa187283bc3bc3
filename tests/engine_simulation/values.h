#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/engine_simulation/room_watch.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// Callers of whole values (E35) beside the lookups, in a space of their own: stores, gets with
/// deadlines and cancels, gets without a destination, claims that stay for a while, and pledges
/// (E41).
class Values {
 public:
  Values(World& world, RoomWatch& watch) : world_(world), watch_(watch) {}

  /// Once for each engine.
  void register_owner();
  /// One of the things that callers do.
  void event();
  /// Takes what was answered; some claims end.
  void check_answers();
  void on_get(Ticket ticket, std::span<const GetOutcome> outcomes);
  /// Every get was answered, or there is a failure; then all claims end.
  void end_all();
  void on_restart();
  std::size_t size() const noexcept { return gets_.size(); }

 private:
  /// A get with its memory, until its claims have ended.
  struct Getting {
    std::uint32_t prompt = 0;
    bool is_ordered = false;
    bool stays = false;
    bool is_answered = false;
    std::uint64_t use = 0;
    std::uint64_t since = 0;  ///< The last version when it began.
    std::vector<ChunkHash> chain;
    std::vector<CellId> keys;
    std::vector<std::vector<std::byte>> memory;
    std::vector<Slice> slices;
    std::vector<Item> items;
    std::vector<GetOutcome> outcomes;
  };

  void store(std::uint32_t prompt);
  void get(std::uint32_t prompt);
  void cancel();
  void pledge(std::uint32_t prompt);
  void unpledge();
  /// What is pledged leaves L1 by a clear, a delete or a restart alone, and keeps the budget.
  void check_pledges();
  void note_fragmentation(std::uint32_t prompt, const std::vector<bool>& was_there,
                          const std::vector<CellSlot>& slots);
  void check_run(std::uint32_t prompt, const std::vector<bool>& was_there,
                 const std::vector<CellSlot>& slots);
  void check(Getting& get);
  void end(std::uint64_t ticket, const Getting& get);
  std::size_t chunks() { return 1 + static_cast<std::size_t>(world_.below(kChunksMax)); }

  World& world_;
  RoomWatch& watch_;
  OwnerId owner_{};
  std::map<std::uint64_t, Getting> gets_;  ///< By ticket.
  std::uint64_t tickets_ = 0;
  std::vector<ChunkHash> pledged_;
  std::uint64_t cleared_before_ = 0;  ///< Cells, at the last check_pledges().
};

}  // namespace larder::cache::simulation
