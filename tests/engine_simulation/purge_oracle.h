#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine_simulation/content.h"
#include "tests/engine_simulation/plan.h"

namespace larder::cache::simulation {

/// What a purge or a clear removes.
struct PurgeScope {
  std::optional<std::uint32_t> space;  ///< Nothing: all of them.
  bool is_named = false;
  std::uint32_t prompt = 0;  ///< Of a named one.
  std::uint32_t chunks = 0;  ///< Of a named one, one bit each.
  /// Of a named one: groups of the layouts that the engine has seen since it began. Cells of others
  /// it cannot name.
  std::uint32_t groups = 0;

  bool covers(const CellId& cell) const noexcept {
    if (space && cell.space != *space) return false;
    if (!is_named) return true;
    const bool is_chunk = cell.prompt == prompt && (chunks >> cell.chunk & 1U) != 0;
    return is_chunk && cell.group < groups;
  }
};

/// Which versions may not be seen any more because a purge has removed them (E36).
///
/// A version has a number that grows, and so has a purge: `bound`. Versions up to the bound are to
/// go. What is seen of them while the purge runs counts when it ends with nothing skipped or
/// failed; what is seen afterwards counts at once.
/// Columns that a lock keeps during a clear without force may be seen until no session of that
/// time has one.
class PurgeOracle {
 public:
  struct Running {
    std::uint64_t ticket = 0;
    PurgeScope scope;
    std::uint64_t bound = 0;
    std::uint64_t deadline_ns = 0;
    std::string seen;  ///< The first of what was to go and was seen; empty: nothing.
  };

  void begin(const Running& purge) { running_.push_back(purge); }
  /// Nothing: no such purge runs.
  std::optional<Running> end(std::uint64_t ticket, bool is_complete);
  /// A lock keeps the column, of a session with this serial number or an earlier one.
  void keep(const CellId& column, std::uint64_t serial) { kept_[column] = serial; }
  std::map<CellId, std::uint64_t>& kept() noexcept { return kept_; }
  const std::vector<Running>& running() const noexcept { return running_; }

  /// `since`: the number of the last version when what sees it began. Empty: it may be seen.
  std::string see(const CellId& cell, std::uint64_t version, std::uint64_t since, const char* what);
  /// The same, also for columns that are kept: no tier gets them.
  std::string see_store(const CellId& cell, std::uint64_t version, const char* what);
  /// A complete purge has removed this version.
  bool is_gone(const CellId& cell, std::uint64_t version) const noexcept {
    return version <= bound_of(cell);
  }
  /// A purge that runs may delete this version.
  bool may_delete(const CellId& cell, std::uint64_t version) const noexcept;

 private:
  std::uint64_t bound_of(const CellId& cell) const noexcept;

  std::vector<Running> running_;
  std::map<CellId, std::uint64_t> kept_;  ///< Columns, and the last session that may lock them.
  // Of purges that are complete.
  std::array<std::uint64_t, kSpaces> by_space_{};
  std::map<CellId, std::uint64_t> by_cell_;
};

}  // namespace larder::cache::simulation
