#include "tests/engine_simulation/content.h"

#include <array>
#include <cstring>

#include "larder/base/hash.h"

namespace larder::cache::simulation {
namespace {

std::uint64_t identity(const CellId& cell) noexcept {
  const std::array<std::uint32_t, 5> words{cell.space, cell.prompt, cell.chunk, cell.rank,
                                           cell.group};
  return hash64(std::as_bytes(std::span{words}));
}

}  // namespace

std::vector<ChunkHash> chain_of(std::uint32_t prompt, std::uint32_t count) {
  std::vector<ChunkHash> chain(count);
  for (std::uint32_t chunk = 0; chunk < count; ++chunk) {
    const std::array<std::uint32_t, 2> words{prompt, chunk};
    std::memcpy(chain[chunk].bytes.data(), words.data(), sizeof words);
  }
  return chain;
}

CellId cell_of(SpaceId space, const ChunkHash& chunk, std::uint32_t rank,
               std::uint32_t group) noexcept {
  std::array<std::uint32_t, 2> words{};
  std::memcpy(words.data(), chunk.bytes.data(), sizeof words);
  return {index_of(space), words[0], words[1], rank, group};
}

std::size_t Names::write_key(const CellName& name,
                             std::span<std::byte, kKeyBytesMax> out) const noexcept {
  const CellId cell = cell_of(name.space, name.chunk, name.rank, name.group);
  std::memcpy(out.data(), &cell, sizeof cell);
  return sizeof cell;
}

std::string key_of(const CellId& cell) {
  return {reinterpret_cast<const char*>(&cell), sizeof cell};
}

CellId cell_of_key(std::span<const std::byte> key) noexcept {
  CellId cell;
  if (key.size() == sizeof cell) std::memcpy(&cell, key.data(), sizeof cell);
  return cell;
}

void write_version(std::span<std::byte> bytes, const CellId& cell, std::uint64_t version) noexcept {
  const std::uint64_t whose = identity(cell);
  for (std::size_t i = 0; i * 8 < bytes.size(); ++i) {
    const std::uint64_t word = i % 2 == 0 ? whose ^ i : version;
    std::memcpy(&bytes[i * 8], &word, sizeof word);
  }
}

std::uint64_t version_in(std::span<const std::byte> bytes, const CellId& cell) noexcept {
  const std::uint64_t whose = identity(cell);
  std::uint64_t version = 0;
  std::memcpy(&version, &bytes[8], sizeof version);
  for (std::size_t i = 0; i * 8 < bytes.size(); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, &bytes[i * 8], sizeof word);
    if (word != (i % 2 == 0 ? whose ^ i : version)) return 0;
  }
  return version;
}

}  // namespace larder::cache::simulation
