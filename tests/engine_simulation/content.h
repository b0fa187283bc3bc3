#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "larder/cache/engine_options.h"
#include "larder/cache/ids.h"

namespace larder::cache::simulation {

/// A cell in the simulation's own numbers. A chunk's hash and a cell's key in L2 are these numbers,
/// so that whatever the engine says or asks can be read back.
struct CellId {
  std::uint32_t space = 0;
  std::uint32_t prompt = 0;
  std::uint32_t chunk = 0;
  std::uint32_t rank = 0;
  std::uint32_t group = 0;

  friend auto operator<=>(const CellId&, const CellId&) = default;
};

/// The first cell of its column, which stands for the column.
inline CellId column_of(const CellId& cell) {
  return {cell.space, cell.prompt, cell.chunk, 0, 0};
}

/// The first `count` chunks of a prompt. Prompts share nothing.
std::vector<ChunkHash> chain_of(std::uint32_t prompt, std::uint32_t count);

/// Names cells by their numbers.
class Names final : public KeyNames {
 public:
  std::size_t write_key(const CellName& cell,
                        std::span<std::byte, kKeyBytesMax> out) const noexcept override;
};
/// The same as a text.
std::string key_of(const CellId& cell);
/// The cell whose name is `key`.
CellId cell_of_key(std::span<const std::byte> key) noexcept;
CellId cell_of(SpaceId space, const ChunkHash& chunk, std::uint32_t rank,
               std::uint32_t group) noexcept;

/// Bytes of one version of a cell: they say whose they are, and a mix of two versions is none.
/// Versions count from 1; `bytes` holds at least 16 and a multiple of 8.
void write_version(std::span<std::byte> bytes, const CellId& cell, std::uint64_t version) noexcept;
/// 0: these are the bytes of no version of the cell.
std::uint64_t version_in(std::span<const std::byte> bytes, const CellId& cell) noexcept;

}  // namespace larder::cache::simulation
