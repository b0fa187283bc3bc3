#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"
#include "tests/engine_simulation/content.h"
#include "tests/engine_simulation/coverage.h"
#include "tests/engine_simulation/memory.h"
#include "tests/engine_simulation/plan.h"
#include "tests/engine_simulation/purge_oracle.h"

namespace larder::cache::simulation {

/// Which versions of which cells were committed. Versions grow over all cells, one for each write.
class Oracle {
 public:
  std::uint64_t next_version() noexcept { return ++versions_; }
  std::uint64_t last_version() const noexcept { return versions_; }
  void commit(const CellId& cell, std::uint64_t version);
  bool is_committed(const CellId& cell, std::uint64_t version) const;
  /// Nothing of a space that was written before now may appear again: L1 was emptied, and there is
  /// nothing below it.
  void forget(std::uint32_t space) noexcept { forgotten_[space] = versions_; }

 private:
  std::unordered_set<std::uint64_t> committed_;
  std::array<std::uint64_t, kSpaces> forgotten_{};  ///< Versions up to here.
  std::uint64_t versions_ = 0;
};

/// What the parts of a history share: the engine, the time, the dice, and the verdict.
struct World {
  World(std::uint64_t seed, bool with_trace);

  bool has_failed() const noexcept { return !failure.empty(); }
  /// The first one counts.
  void fail(std::string what);
  void expect(bool holds, const char* what) {
    if (!holds) fail(what);
  }
  void trace(const char* format, ...) const __attribute__((format(printf, 2, 3)));
  /// Adds to what must be the same whenever the seed is the same.
  void log(std::initializer_list<std::uint64_t> words) noexcept;

  std::uint64_t below(std::uint64_t n) noexcept { return random.below(n); }
  std::uint32_t below32(std::uint64_t n) noexcept {
    return static_cast<std::uint32_t>(random.below(n));
  }
  bool one_in(std::uint64_t n) noexcept { return random.one_in(n); }

  std::uint32_t groups() const noexcept { return static_cast<std::uint32_t>(layout.groups.size()); }
  std::uint32_t ranks() const noexcept { return layout.world_size; }
  SpaceId space(std::uint32_t number) const noexcept { return spaces[number]; }
  std::span<std::byte> bytes_of(const SlotRef& slot) const noexcept {
    return {arena->base() + slot.offset, slot.bytes};
  }
  std::uint64_t bytes_of_value(std::uint32_t prompt, std::uint32_t chunk) const noexcept;
  /// The first chunk of `chunks` that a range or prefix needs in this group (E8, E10).
  std::uint32_t first_needed(std::uint32_t group, std::uint32_t chunks) const noexcept;
  /// The version there; a failure where it is none that was committed.
  std::uint64_t check_bytes(const SlotRef& slot, const CellId& cell, const char* what);
  /// The version is one that a purge may have left.
  void see(const CellId& cell, std::uint64_t version, std::uint64_t since, const char* what);
  /// The claim that `slot` is used so from now on.
  void use(std::uint64_t owner, const SlotRef& slot, Memory::Use use, const char* what);

  const std::uint64_t seed;
  const bool traces;
  Plan plan;
  Random random;
  Coverage coverage;
  Oracle oracle;
  PurgeOracle purges;
  Memory memory;
  Names names;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<Engine> engine;
  LayoutSpec layout;  ///< Of the salts' spaces, now.
  LayoutId layout_id{};
  LayoutId value_layout_id{};
  std::vector<SpaceId> spaces;  ///< By number; the last is that of whole values.
  std::array<Quota, kSalts> quotas{};

  std::uint64_t now_ns = 1'000 * kSecond;
  std::uint64_t life = 0;
  std::uint64_t steps = 0;
  bool is_ending = false;           ///< The engine is being drained.
  std::uint64_t last_use = 0;       ///< Owners in `memory`.
  std::uint32_t groups_known = 0;   ///< Of the layouts that this engine has seen.
  std::uint64_t layout_number = 0;  ///< Grows when the layout changes.
  std::uint64_t disturbances = 0;   ///< Grows with each clear, removal and change of the layout.
  /// Grows whenever a load may be given up, or be overtaken by a write.
  std::uint64_t load_disturbances = 0;
  std::uint64_t overtakes =
      0;  ///< Grows whenever a cell that is loading may be published or cut off.
  std::uint64_t last_purge = 0;  ///< The step in which one began or ended last.
  EngineStats stats;             ///< After the last step.
  std::uint64_t digest = 0;
  std::string failure;
};

}  // namespace larder::cache::simulation
