#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "tests/support/loop_mount.h"
#include "tests/support/temporary_directory.h"

namespace larder::conformance {

/// Where a subject's stores go: a file system that lives as long as any of its subjects.
struct Place {
  std::unique_ptr<testing::LoopMount> loop;
  std::unique_ptr<testing::TemporaryDirectory> directory;
  std::string tmpfs;
  std::string path;
  int stores = 0;

  Place() = default;
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
};

/// Of every place.
inline constexpr std::uint64_t kPlaceBytes = std::uint64_t{1} << 30;

/// Made at the first use, so that listing the tests mounts nothing.
using PlaceMaker = std::function<SetupResult<std::shared_ptr<Place>>()>;

PlaceMaker once(PlaceMaker make);
SetupResult<std::shared_ptr<Place>> temporary_place();
PlaceMaker loop_place(std::string file_system, std::uint32_t sector_bytes);
SetupResult<std::shared_ptr<Place>> tmpfs_place();

}  // namespace larder::conformance
