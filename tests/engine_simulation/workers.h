#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

class LookupWatch;
class RoomWatch;

/// A reservation as its worker has it.
struct Writing {
  WriteId id{};
  std::uint32_t space = 0;
  std::uint32_t prompt = 0;
  std::uint32_t rank = 0;
  ChunkRange range;
  std::vector<CellSlot> slots;
  std::uint64_t version = 0;
  std::uint64_t began_ns = 0;
  std::uint64_t use = 0;  ///< In World::memory.
  std::uint64_t layout_number = 0;
  std::uint64_t removals = 0;     ///< World::disturbances when it began.
  bool is_expired = false;        ///< Others may write its cells.
  bool is_void = false;           ///< Cleared since.
  bool is_given_up = false;       ///< Its owner began another one of the range since.
  std::uint32_t void_chunks = 0;  ///< Removed since, by their numbers in the prompt.
};

/// A copy from slots that takes time.
struct Reading {
  struct Piece {
    SlotRef slot;
    CellId cell;
    std::uint64_t version = 0;
  };
  ReadId id{};
  std::uint64_t use = 0;
  std::vector<Piece> pieces;
};

/// The workers: reads and writes whose copies take time, and workers that die, come back, and still
/// write where they may (E5, E7, E8, E13 to E17, E22; I2, I3).
class Workers {
 public:
  Workers(World& world, Clients& clients) : world_(world), clients_(clients) {}

  void add();

  // ---- What workers do, at random.
  void read();
  void end_read();
  void begin_write();
  void end_write();
  /// Writes into slots that it was given, whatever the engine thinks of them.
  void scribble();
  /// One dies, or what is left of one is found dead.
  void end_worker();

  // ---- What the world does.
  void before_turn();
  void on_clear(std::optional<std::uint32_t> space);
  void on_remove(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunks);
  /// Ends all of them: nobody uses anything any more.
  void end_all();
  void on_restart();

  /// Bytes that the writers of this salt's space have in slots that nobody sees yet.
  std::uint64_t open_bytes(std::uint32_t space) const;
  /// The same, and what has lost its cells meanwhile.
  std::uint64_t writing_bytes(std::uint32_t space) const;
  /// Someone reads or writes a cell of the column.
  bool is_used(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunk) const;
  void set_watch(RoomWatch* room, LookupWatch* lookups) noexcept {
    watch_ = room;
    lookups_ = lookups;
  }
  void check_copies();

 private:
  struct Worker {
    OwnerId owner{};
    std::uint64_t layout_number = 0;
    std::vector<Writing> writes;
    std::vector<Reading> reads;
    std::uint64_t writes_until_ns = kNever;  ///< It is gone; and how long it may still write.
    bool is_gone() const noexcept { return writes_until_ns != kNever; }
  };

  Worker& any() { return workers_[static_cast<std::size_t>(world_.below(workers_.size()))]; }
  CellId cell_of(const Writing& writing, const CellSlot& slot) const;
  void fill(const Writing& writing) const;
  void check_slots(const Writing& writing, const SkipMask& skip);
  void note_fragmentation();
  bool is_being_written(const CellId& cell) const;
  std::uint64_t slot_bytes(const Writing& writing) const;
  std::uint64_t quarantined_bytes(const Worker& worker) const;
  static bool is_same_range(const Writing& a, const Writing& b) noexcept;
  bool is_open(const Worker& worker, const Writing& writing) const;
  void keep_read(Worker& worker, ReadId id, const Request& request, std::uint32_t rank,
                 ChunkRange range, const std::vector<CellSlot>& slots);
  void check_read(const Request& request, std::uint32_t rank, ChunkRange range,
                  const std::vector<CellSlot>& slots, Reading& reading);
  void forget(Worker& worker);

  World& world_;
  Clients& clients_;
  RoomWatch* watch_ = nullptr;
  LookupWatch* lookups_ = nullptr;
  std::vector<Worker> workers_;
};

}  // namespace larder::cache::simulation
