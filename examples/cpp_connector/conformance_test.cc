// The conformance suite on the two example connectors: all that it takes to point it at your own.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "examples/cpp_connector/map_connector.h"
#include "examples/cpp_connector/shelf_connector.h"
#include "larder/connector/registry.h"
#include "tests/conformance/conformance_runs.h"
#include "tests/support/temporary_directory.h"

namespace larder::example {
namespace {

using conformance::Subject;

const Registry& registry() {
  static const Registry registry = [] {
    Registry made;
    made.add(map_connector_type());
    made.add(shelf_connector_type());
    return made;
  }();
  return registry;
}

/// What open_limited asks for: little room for batches in flight.
std::string limits() {
  return "?batches_max=" + std::to_string(conformance::kLimitedBatches) +
         "&in_flight=" + std::to_string(conformance::kLimitedBytes);
}

/// A directory for the shelves, removed when the process ends.
class Shelves {
 public:
  std::string next() { return root_.path() + "/" + std::to_string(++number_); }
  std::string last() const { return root_.path() + "/" + std::to_string(number_); }

 private:
  const testing::TemporaryDirectory root_;
  int number_ = 0;
};

std::vector<Subject> subjects() {
  Subject map;
  map.name = "machine";
  map.open = [] { return registry().open("map:"); };
  map.open_limited = [] { return registry().open("map:" + limits()); };
  // Nothing survives it, so it has no `reopen`.

  const auto shelves = std::make_shared<Shelves>();
  Subject shelf;
  shelf.name = "blocking";
  shelf.open = [shelves] { return registry().open("shelf:" + shelves->next()); };
  shelf.reopen = [shelves] { return registry().open("shelf:" + shelves->last()); };
  shelf.open_limited = [shelves] { return registry().open("shelf:" + shelves->next() + limits()); };
  return {map, shelf};
}

class ExampleConformance : public ::testing::TestWithParam<conformance::Run> {};

TEST_P(ExampleConformance, Keeps) {
  conformance::check_run(GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, ExampleConformance,
                         ::testing::ValuesIn(conformance::runs_of(subjects())),
                         conformance::name_of_run);

TEST(ExampleTest, TablesOfParametersAreWhole) {
  for (const ConnectorType* type : registry().types()) {
    const SetupStatus status = check_table(*type);
    EXPECT_TRUE(status) << status.error().text;
  }
}

TEST(ExampleTest, AShelfThatCannotBeMadeIsToldWithItsName) {
  const auto opened = registry().open("shelf:/dev/null/shelf");
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().text.find("/dev/null/shelf"), std::string::npos) << opened.error().text;
}

}  // namespace
}  // namespace larder::example
