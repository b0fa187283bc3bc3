#include "larder/server/spaces.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

TEST(SpacesTest, ASaltHasOneNumberForEver) {
  Spaces spaces;
  EXPECT_FALSE(spaces.find_salt("a"));
  const auto first = spaces.add_salt("a");
  const auto second = spaces.add_salt("");
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  for (int i = 0; i < 1000; ++i) spaces.add_salt("s" + std::to_string(i));
  EXPECT_EQ(spaces.add_salt("a"), first);
  EXPECT_EQ(spaces.find_salt("a"), first);
  EXPECT_EQ(spaces.text_of(*first), "a");
  EXPECT_EQ(spaces.text_of(*second), "");
}

}  // namespace
}  // namespace larder::server
