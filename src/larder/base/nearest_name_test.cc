#include "larder/base/nearest_name.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace larder {
namespace {

TEST(NearestNameTest, KnowsSwappedLettersAndWhenNothingIsNear) {
  const std::array<std::string_view, 3> names = {"capacity", "log", "memory"};
  EXPECT_EQ(nearest_name("lgo", names), "log");
  EXPECT_EQ(nearest_name("memroy", names), "memory");
  EXPECT_EQ(nearest_name("capcity", names), "capacity");
  EXPECT_EQ(nearest_name("capacities", names), "capacity");
  EXPECT_EQ(nearest_name("xyz", names), "");
  EXPECT_EQ(nearest_name("x", names), "");
  EXPECT_EQ(nearest_name(std::string(60'000, 'l'), names), "");
  EXPECT_EQ(nearest_name("log", {}), "");
}

}  // namespace
}  // namespace larder
