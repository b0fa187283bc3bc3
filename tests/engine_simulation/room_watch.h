#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/workers.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// What may leave L1, and when (E19 to E22, E25, E30, E34). It follows the columns that come and go
/// by Listener::on_column().
///
/// The order of eviction is judged where it follows exactly: Manner::kNoTiers, one row, "lru".
class RoomWatch {
 public:
  RoomWatch(World& world, const Clients& clients, const Workers& workers);

  void on_column(ColumnEvent event, const CellId& column);
  /// Between these two the engine works for a write into `space`.
  void before_write(std::uint32_t space, std::uint32_t prompt, ChunkRange range);
  void after_write(std::uint32_t space, std::size_t cells, bool has_slots);
  /// The worker's commit is about to be published.
  void before_commit(const Writing& writing, bool publishes);
  void after_commit();
  void before_turn();
  void on_hit(const Request& request);
  /// A lookup that runs ends with its session: what arrives may be kept (E11).
  void on_cancel(const Request& request);
  /// The cell's column is complete.
  bool is_there(const CellId& cell) { return at(cell.space, cell.prompt, cell.chunk).is_there; }
  /// Columns leave for another reason than room.
  void pause(bool is_on) noexcept { is_paused_ = is_on; }
  /// Nothing is pinned, wanted or in flight: what is there was kept.
  void check_kept();
  void check(const EngineStats& stats);
  void on_restart();

 private:
  struct Column {
    bool is_there = false;
    bool was_written = false;
    bool was_hit = false;
    bool was_warmed = false;  ///< A warm-up has hit it.
    /// Published late: while another one writes it, it is in no order.
    bool is_late = false;
    std::uint64_t used = 0;  ///< The call that used it last.
  };

  Column& at(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunk) {
    return columns_[(std::size_t{space} * world_.plan.prompts + prompt) * kChunksMax + chunk];
  }
  std::uint64_t rows_max() const;
  std::uint64_t column_bytes() const;
  std::uint64_t resident_bytes(std::uint32_t space);
  void check_tail(const CellId& column);

  World& world_;
  const Clients& clients_;
  const Workers& workers_;
  std::vector<Column> columns_;  ///< Of the salts' spaces.
  std::uint64_t calls_ = 0;
  bool is_paused_ = false;
  bool is_exact_ = false;
  std::uint32_t writes_into_ = kSpaces;  ///< While a write runs.
  std::array<std::uint64_t, kSalts> bytes_before_{};
  std::uint64_t evicted_before_turn_ = 0;
  std::uint64_t may_evict_ = 0;
};

}  // namespace larder::cache::simulation
