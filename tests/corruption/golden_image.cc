#include "tests/corruption/golden_image.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>

#include "tests/support/temporary_directory.h"

namespace larder::corruption {
namespace {

SetupResult<std::shared_ptr<const GoldenImage>> load(const std::string& name) {
  const std::size_t bar = name.find('_');
  const std::string golden = std::string{LARDER_GOLDEN_DIRECTORY} + "/log_" + name.substr(0, bar) +
                             "/" + name.substr(bar + 1);
  const testing::TemporaryDirectory directory;
  const std::string store = directory.path() + "/store";
  LARDER_TRY(testing::unpack_store(golden, store));
  auto loaded = std::make_shared<GoldenImage>();
  loaded->image = load_image(store);
  LARDER_ASSIGN(loaded->map, StoreMap::make(loaded->image));
  LARDER_ASSIGN(loaded->manifest, testing::read_manifest(golden + "/manifest.txt"));
  return std::shared_ptr<const GoldenImage>{std::move(loaded)};
}

}  // namespace

StoreImage load_image(const std::string& directory) {
  StoreImage image;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    std::ifstream in{entry.path(), std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
    image.write(entry.path().filename().string(), 0, std::as_bytes(std::span{bytes}));
  }
  return image;
}

SetupResult<std::shared_ptr<const GoldenImage>> golden_image(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const GoldenImage>> kept;
  auto& image = kept[name];
  if (image == nullptr) {
    LARDER_ASSIGN(image, load(name));
  }
  return image;
}

}  // namespace larder::corruption
