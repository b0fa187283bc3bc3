#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "larder/cache/scripted_tier_test_support.h"
#include "tests/engine_simulation/log_tier.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

class LookupWatch;

/// One tier of the history: it outlives the engines that stand on it, does as the dice say, and
/// looks at every batch that an engine gives it (E23, E26, E33, E34; P4).
class TierUnderTest {
 public:
  /// A batch that an engine has submitted and not taken back.
  struct Flight {
    const Batch* batch = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t use = 0;  ///< In World::memory.
    bool is_load = false;   ///< For a lookup, not for a get.
    bool is_store = false;
    bool is_touch = false;
    bool is_delete = false;
    bool is_cancelled = false;
    std::uint64_t load_disturbances = 0;  ///< World::load_disturbances when it was submitted.
    std::uint64_t overtakes = 0;          ///< World::overtakes then.
  };

  TierUnderTest(World& world, TierId number);

  /// What the engine of this life gets: it ends with the engine, the tier does not.
  std::unique_ptr<Connector> connect();
  /// What an earlier run has left.
  void fill();

  // ---- What happens to tiers.
  /// Something, at random; the engine is told.
  void event();
  /// Batches end.
  void finish_some();
  /// The clock has moved.
  void pass_time();
  /// From here on it answers, and everything it holds comes back.
  void heal();
  void finish_all();
  /// Its engine has ended: a log may be closed and opened again.
  void restart();
  bool has_loads() const noexcept;
  bool has_deletes() const noexcept;

  // ---- What it holds, where it is scripted.
  std::vector<std::string> keys() const;
  std::uint64_t version_of(const CellId& cell) const;
  std::uint64_t bytes_of_space(std::uint32_t space) const;
  LogTier* log() const noexcept { return log_.get(); }
  /// It has answered a store lately that it can take none.
  bool is_down_for_stores() const noexcept { return world_.now_ns < down_until_ns_; }

  /// Of a log: what it has seen.
  void note(Coverage& coverage) const;

  /// It has the cell, and says so.
  bool has(const CellId& cell) const;
  bool is_down() const noexcept { return scripted_ != nullptr && scripted_->is_down; }
  const std::vector<Flight>& flights() const noexcept { return flights_; }
  const TierPlan& plan() const noexcept { return plan_; }
  bool is_memory() const noexcept { return !plan_.is_log && plan_.locality == Locality::kMemory; }
  void set_watch(LookupWatch* watch) noexcept { watch_ = watch; }

  // ---- Since a step (World::steps).
  /// It had the cell in the right size before, has answered, and has not failed to load it.
  bool has_steadily(const CellId& cell, std::uint64_t since) const;
  bool has_failed_load(const CellId& cell, std::uint64_t since) const;
  bool has_loaded(const CellId& cell, std::uint64_t since) const;
  void forget_failures(const CellId& cell) { failures_.erase(cell); }
  /// Stores that it has ended with an error that is no lack of the moment.
  std::uint64_t hard_failures() const noexcept { return hard_failures_; }

 private:
  class Shell;

  Status submit(Batch& batch) noexcept;
  std::size_t reap(std::span<Batch*> done) noexcept;
  void cancel(Batch& batch) noexcept;
  bool probe(std::span<Item> items) noexcept;

  void look_at(const Batch& batch, Flight& flight);
  void look_at_load(const Item& item, Flight& flight);
  void look_at_store(const Item& item, Flight& flight);
  void look_at_delete(const Item& item);
  void check_account(const Batch& batch) const;
  std::uint64_t retry_ns() const noexcept;
  void note_trouble(const Batch& batch);
  void check_bounds(const Flight& flight, std::size_t items);
  void on_ended(const Flight& flight);
  void on_load_ended(const Item& item);
  void on_store_ended(const Item& item);
  void fail_some_of(const Batch& batch);

  World& world_;
  const TierId number_;
  const TierPlan& plan_;
  std::unique_ptr<ScriptedTier> owned_scripted_;
  ScriptedTier* scripted_ = nullptr;  ///< Null: the log store.
  std::unique_ptr<LogTier> log_;
  Connector* inner_ = nullptr;
  std::vector<Flight> flights_;
  std::map<CellId, int> failures_;  ///< Of stores, since the cell became resident.
  std::uint64_t hard_failures_ = 0;
  std::uint64_t paused_until_ns_ = 0;  ///< No store comes before (E33).
  std::uint64_t down_until_ns_ = 0;
  LookupWatch* watch_ = nullptr;
  // By the step at which it was so last.
  std::map<CellId, std::uint64_t> had_since_;
  std::map<CellId, std::uint64_t> failed_at_;
  std::map<CellId, std::uint64_t> loaded_at_;
  std::uint64_t up_since_ = 0;
};

}  // namespace larder::cache::simulation
