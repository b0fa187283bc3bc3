#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/corruption/golden_image.h"
#include "tests/corruption/open_image.h"

namespace larder::corruption {

/// What a run of flips came to. Every number was checked while it was counted.
struct FlipCounts {
  std::uint64_t flips = 0;
  std::uint64_t hits = 0;  ///< Compared byte for byte.
  std::uint64_t misses = 0;
  std::uint64_t failed_loads = 0;  ///< Corruption told, and a miss afterwards.
  std::uint64_t older_values = 0;  ///< Hits of what a damaged record or segment had replaced.
  std::uint64_t set_aside = 0;
  std::uint64_t scanned = 0;  ///< Opens that looked at grains more than the intact store's.
};

/// Opens a golden store again and again, each time with one bit turned over, and compares every key
/// with what StoreMap says must be left.
class Flipper {
 public:
  explicit Flipper(std::shared_ptr<const GoldenImage> golden);

  /// Empty, or what is wrong with the store as it is, map against manifest and store.
  std::string check_intact();
  /// Turns over one bit of the byte at range.offset + `at`; which one follows from `seed`. Empty,
  /// or what is wrong.
  std::string flip(const Range& range, std::uint64_t at, std::uint64_t seed);
  /// The same byte in both copies of the superblock: refused, by the right name, and not touched.
  std::string flip_both_superblocks(std::uint64_t at, std::uint64_t seed);

  const FlipCounts& counts() const noexcept { return counts_; }

 private:
  std::string open_and_compare(StoreImage& image, const Expected& expected);
  std::string compare(OpenImage& store, const Expected& expected);
  std::string compare_key(const std::string& key, const Expected::Key& expected,
                          const Found& found);

  const std::shared_ptr<const GoldenImage> golden_;
  const std::vector<std::string> keys_;
  const Expected intact_;
  std::vector<std::vector<std::byte>> values_;  ///< Of each record, from the intact store.
  std::vector<std::byte> memory_;
  FlipCounts counts_;
};

}  // namespace larder::corruption
