// What clients may rely on, and what must be locked.
#include <algorithm>
#include <utility>

#include "tests/engine_simulation/clients.h"

namespace larder::cache::simulation {

// ---- Readers.

Request* Clients::any_with_hit() {
  Request* const request = any();
  const bool is_readable = request != nullptr && request->is_known && request->hit > 0 &&
                           request->layout_number == world_.layout_number;
  return is_readable ? request : nullptr;
}

bool Clients::may_lock(const CellId& column, std::uint64_t serial_max) const {
  const std::uint32_t rows = world_.ranks() * world_.groups();
  return std::ranges::any_of(requests_, [&](const Request& request) {
    if (request.space != column.space || request.prompt != column.prompt) return false;
    if (!request.asks_for(column.chunk) || request.serial > serial_max) return false;
    if (!request.is_known || request.is_unsure) return true;
    if (request.layout_number != world_.layout_number) return true;
    if (request.hit <= column.chunk) return false;
    const auto first = request.shares.begin() + std::ptrdiff_t{column.chunk} * rows;
    return std::any_of(first, first + rows, [](std::uint8_t shares) { return shares > 0; });
  });
}

bool Clients::holds(const Request& request, std::uint32_t rank, ChunkRange range) const {
  if (request.is_unsure || request.layout_number != world_.layout_number) return false;
  const std::uint32_t rows = world_.ranks() * world_.groups();
  for (std::uint32_t group = 0; group < world_.groups(); ++group) {
    const std::uint32_t first = range.begin + world_.first_needed(group, range.size());
    for (std::uint32_t chunk = first; chunk < range.end; ++chunk) {
      if (request.shares[std::size_t{chunk} * rows + rank * world_.groups() + group] == 0) {
        return false;
      }
    }
  }
  return true;
}

void Clients::on_read(std::uint64_t connection, std::uint32_t id, OwnerId owner, std::uint32_t rank,
                      ChunkRange range) {
  Request* const request = find_for_read(connection, id);
  if (request == nullptr) return;
  note_named(*request, connection);
  if (!request->is_known || request->layout_number != world_.layout_number) return;
  auto seen = std::ranges::find_if(request->seen, [&](const Request::Reader& reader) {
    return reader.owner == owner && reader.rank == rank;
  });
  if (seen == request->seen.end()) {
    request->seen.push_back({owner, rank, std::vector<bool>(kChunksMax)});
    seen = request->seen.end() - 1;
  }
  for (std::uint32_t chunk = range.begin; chunk < std::min(range.end, request->hit); ++chunk) {
    if (seen->chunks[chunk]) continue;
    seen->chunks[chunk] = true;
    for (std::uint32_t group = 0; group < world_.groups(); ++group) {
      give_back(*request, chunk, rank * world_.groups() + group, 1);
    }
  }
}

// ---- Checks.

/// Of all cells that some session has a share of.
std::uint64_t Clients::locked_bytes() {
  const std::uint32_t groups = world_.groups();
  const std::uint32_t rows = world_.ranks() * groups;
  is_locked_.assign(std::size_t{kSalts} * world_.plan.prompts * kChunksMax * rows, 0);
  std::uint64_t bytes = 0;
  for (const Request& request : requests_) {
    const std::size_t base =
        (std::size_t{request.space} * world_.plan.prompts + request.prompt) * kChunksMax * rows;
    for (std::size_t i = 0; i < request.shares.size(); ++i) {
      if (request.shares[i] == 0 || std::exchange(is_locked_[base + i], 1) != 0) continue;
      bytes += world_.arena->taken_for(world_.layout.groups[i % groups].cell_bytes);
    }
  }
  return bytes;
}

/// What the largest hit of a request may have locked: alone, it may have all of L1.
std::uint64_t Clients::largest_hit_bytes() const {
  std::uint64_t chunk_bytes = 0;
  for (const GroupSpec& group : world_.layout.groups) {
    chunk_bytes += world_.arena->taken_for(group.cell_bytes);
  }
  std::uint64_t largest = 0;
  for (const Request& request : requests_) {
    const std::uint32_t end = request.is_known ? request.hit : request.chunks;
    if (end > request.begin) {
      largest = std::max(largest, (end - request.begin) * world_.ranks() * chunk_bytes);
    }
  }
  return largest;
}

void Clients::check(const EngineStats& stats) {
  world_.expect(stats.sessions == requests_.size(),
                "E6, E9: there are more or fewer sessions than there must be");
  const auto limit = static_cast<std::uint64_t>(world_.plan.options.lock_share *
                                                static_cast<double>(stats.capacity_bytes));
  world_.expect(stats.locked_bytes <= std::max(limit, largest_hit_bytes()),
                "E12: locks take more than their share of L1");
  for (const Request& request : requests_) {
    if (request.is_unsure) return;
    if (!request.is_known && stats.lookups_running == 0) return;
  }
  const std::uint64_t expected = locked_bytes();
  if (stats.lookups_running > 0) {
    world_.expect(stats.locked_bytes >= expected, "I5, I7: a session has lost a lock");
  } else if (stats.locked_bytes != expected) {
    world_.fail("I7, E7, E10: " + std::to_string(stats.locked_bytes) + " bytes are locked, not " +
                std::to_string(expected));
  }
}

}  // namespace larder::cache::simulation
