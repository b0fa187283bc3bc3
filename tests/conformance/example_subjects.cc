#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "examples/cpp_connector/map_connector.h"
#include "examples/cpp_connector/shelf_connector.h"
#include "tests/conformance/places.h"
#include "tests/conformance/subjects.h"

namespace larder::conformance {
namespace {

std::string limits() {
  return "?batches_max=" + std::to_string(kLimitedBatches) +
         "&in_flight=" + std::to_string(kLimitedBytes);
}

const Registry& registry() {
  static const Registry registry = [] {
    Registry made;
    made.add(example::map_connector_type());
    made.add(example::shelf_connector_type());
    return made;
  }();
  return registry;
}

}  // namespace

std::vector<Subject> example_subjects() {
  Subject map;
  map.name = "example_machine";
  map.open = [] { return registry().open("map:"); };
  map.open_limited = [] { return registry().open("map:" + limits()); };

  // A directory for each store; reopen() takes the last one.
  const PlaceMaker place = once(temporary_place);
  const auto open_with = [place](const std::string& parameters, bool is_fresh) -> Open {
    return [place, parameters, is_fresh]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Place> at, place());
      const auto path_of = [&](int store) { return at->path + "/shelf-" + std::to_string(store); };
      if (is_fresh) {
        std::filesystem::remove_all(path_of(at->stores));
        ++at->stores;
      }
      return registry().open("shelf:" + path_of(at->stores) + parameters);
    };
  };
  Subject shelf;
  shelf.name = "example_blocking";
  shelf.open = open_with("", true);
  shelf.reopen = open_with("", false);
  shelf.open_limited = open_with(limits(), true);
  return {map, shelf};
}

}  // namespace larder::conformance
