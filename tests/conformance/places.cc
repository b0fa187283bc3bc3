#include "tests/conformance/places.h"

#include <sys/mount.h>

#include <optional>
#include <utility>

namespace larder::conformance {

Place::~Place() {
  if (!tmpfs.empty()) ::umount2(tmpfs.c_str(), MNT_DETACH);
}

PlaceMaker once(PlaceMaker make) {
  auto made = std::make_shared<std::optional<SetupResult<std::shared_ptr<Place>>>>();
  return [made, make = std::move(make)] {
    if (!*made) *made = make();
    return **made;
  };
}

SetupResult<std::shared_ptr<Place>> temporary_place() {
  auto place = std::make_shared<Place>();
  place->directory = std::make_unique<testing::TemporaryDirectory>();
  place->path = place->directory->path();
  return place;
}

PlaceMaker loop_place(std::string file_system, std::uint32_t sector_bytes) {
  return [file_system = std::move(file_system),
          sector_bytes]() -> SetupResult<std::shared_ptr<Place>> {
    auto place = std::make_shared<Place>();
    LARDER_ASSIGN(place->loop,
                  testing::LoopMount::create(file_system, kPlaceBytes, sector_bytes, true));
    place->path = place->loop->path();
    return place;
  };
}

SetupResult<std::shared_ptr<Place>> tmpfs_place() {
  LARDER_ASSIGN(auto place, temporary_place());
  if (::mount("larder-test", place->path.c_str(), "tmpfs", 0, "size=1g") != 0) {
    return SetupError{ErrorCode::kUnimplemented, "root, to mount a tmpfs"};
  }
  place->tmpfs = place->path;
  return place;
}

}  // namespace larder::conformance
