#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/corruption/store_map.h"
#include "tests/golden/golden_store.h"

namespace larder::corruption {

/// The parameters that the golden stores were made with.
inline constexpr std::uint64_t kGoldenCapacity = std::uint64_t{32} << 20;
inline constexpr std::uint64_t kGoldenValueMax = std::uint64_t{128} << 10;

/// The files of a directory, which are small.
StoreImage load_image(const std::string& directory);

/// A golden store in memory, with the map of its bytes and what it must hold.
struct GoldenImage {
  StoreImage image;
  StoreMap map;
  testing::GoldenManifest manifest;
};

/// `name` is the version of the format and how the store ended: "v2_killed". Read once and kept.
SetupResult<std::shared_ptr<const GoldenImage>> golden_image(const std::string& name);

/// All of them.
inline const std::vector<std::string> kGoldenNames = {"v1_clean", "v1_killed", "v2_clean",
                                                      "v2_killed"};

}  // namespace larder::corruption
