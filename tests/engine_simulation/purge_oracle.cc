#include "tests/engine_simulation/purge_oracle.h"

#include <algorithm>

namespace larder::cache::simulation {
namespace {

std::string text_of(const char* what, const CellId& cell) {
  return std::string{"E36: "} + what + " has chunk " + std::to_string(cell.chunk) + " of prompt " +
         std::to_string(cell.prompt) + ", space " + std::to_string(cell.space) +
         " in a version that a purge has removed";
}

}  // namespace

std::optional<PurgeOracle::Running> PurgeOracle::end(std::uint64_t ticket, bool is_complete) {
  const auto at = std::ranges::find(running_, ticket, &Running::ticket);
  if (at == running_.end()) return std::nullopt;
  Running purge = std::move(*at);
  running_.erase(at);
  if (!is_complete) return purge;
  const PurgeScope& scope = purge.scope;
  for (std::uint32_t space = 0; space < kSpaces; ++space) {
    if (scope.is_named || (scope.space && *scope.space != space)) continue;
    by_space_[space] = std::max(by_space_[space], purge.bound);
  }
  for (std::uint32_t chunk = 0; scope.is_named && chunk < kChunksMax; ++chunk) {
    for (std::uint32_t group = 0; group < scope.groups; ++group) {
      const CellId cell{*scope.space, scope.prompt, chunk, 0, group};
      if (!scope.covers(cell)) continue;
      by_cell_[cell] = std::max(by_cell_[cell], purge.bound);
    }
  }
  return purge;
}

std::uint64_t PurgeOracle::bound_of(const CellId& cell) const noexcept {
  const auto found = by_cell_.find({cell.space, cell.prompt, cell.chunk, 0, cell.group});
  return std::max(by_space_[cell.space], found == by_cell_.end() ? 0 : found->second);
}

std::string PurgeOracle::see(const CellId& cell, std::uint64_t version, std::uint64_t since,
                             const char* what) {
  if (kept_.contains(column_of(cell))) return {};
  for (Running& purge : running_) {
    const bool is_seen = version <= purge.bound && since >= purge.bound;
    if (is_seen && purge.scope.covers(cell) && purge.seen.empty()) {
      purge.seen = text_of(what, cell);
    }
  }
  const std::uint64_t bound = bound_of(cell);
  return version <= bound && since >= bound ? text_of(what, cell) : std::string{};
}

std::string PurgeOracle::see_store(const CellId& cell, std::uint64_t version, const char* what) {
  for (Running& purge : running_) {
    if (version <= purge.bound && purge.scope.covers(cell) && purge.seen.empty()) {
      purge.seen = text_of(what, cell);
    }
  }
  return version <= bound_of(cell) ? text_of(what, cell) : std::string{};
}

bool PurgeOracle::may_delete(const CellId& cell, std::uint64_t version) const noexcept {
  return std::ranges::any_of(running_, [&](const Running& purge) {
    return version <= purge.bound && purge.scope.covers(cell);
  });
}

}  // namespace larder::cache::simulation
