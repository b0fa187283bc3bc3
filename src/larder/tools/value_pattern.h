#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace larder::tools {

/// Values that are made from a number alone: incompressible, different for every number, and quick
/// to make again, so that a value that was read can be proven byte for byte without keeping it.
///
/// A value is a pool of random words, repeated; each 4 KiB of it are combined with a word that is
/// derived from the seed and the position, so no two values and no two places of one value are
/// equal.
/// Threads: any, once made. Cost: several GB/s on one core; 64 KiB of memory.
class ValuePattern {
 public:
  ValuePattern();

  void fill(std::uint64_t seed, std::span<std::byte> value) const noexcept;
  /// The first difference between `value` and fill()'s; empty when they are equal.
  std::optional<std::size_t> first_difference(std::uint64_t seed,
                                              std::span<const std::byte> value) const noexcept;

 private:
  std::vector<std::uint64_t> pool_;
};

}  // namespace larder::tools
