#include "larder/server/object_key.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

const std::string kHash(64, 'a');

TEST(ObjectKeyTest, ANameAndItsPartsAreOneAndTheSame) {
  for (const ObjectKey& key :
       {ObjectKey{kHash, "m", 0x01000100, 0, ""}, ObjectKey{kHash, "org/m@v1", 0x02010201, 11, ""},
        ObjectKey{kHash, "m", 0x08070807, 16, "tenant a"}}) {
    const auto read = parse_object_name(key.name());
    ASSERT_TRUE(read) << key.name();
    EXPECT_EQ(*read, key);
  }
  EXPECT_EQ((ObjectKey{kHash, "m", 0x01000100, 11, "s"}.name()), "m@01000100@b@" + kHash + "@s");
}

TEST(ObjectKeyTest, ASaltThatLooksLikeAnotherPartIsASalt) {
  const std::string cell = "a@b@m@01000100@0@" + kHash;
  for (const std::string& salt :
       {std::string(64, 'b'), kHash, std::string{"0"}, std::string{"01000100"}}) {
    const auto read = parse_object_name(cell + "@" + salt);
    ASSERT_TRUE(read) << salt;
    EXPECT_EQ(read->salt, salt);
    EXPECT_EQ(read->model, "a@b@m");
  }
  EXPECT_EQ(parse_object_name(kHash + "@01000100@0@" + kHash)->model, kHash);
}

TEST(ObjectKeyTest, OtherNamesAreNoObjects) {
  for (const std::string& name :
       {std::string{}, std::string{"larder"}, "m@01000100@0@" + kHash.substr(1),
        "@01000100@0@" + kHash, "m@0100010@0@" + kHash, "m@01000100@00@" + kHash,
        "m@01000100@0@" + std::string(64, 'A'), "m@01000100@@" + kHash,
        "m@01000100@0@" + kHash + "@", "m@01000100@0x1@" + kHash}) {
    EXPECT_FALSE(parse_object_name(name)) << name;
  }
}

TEST(ObjectKeyTest, KnowsItsRank) {
  const auto place = ObjectKey{kHash, "m", 0x08070807, 0, ""}.place();
  ASSERT_TRUE(place);
  EXPECT_EQ(place->world_size, 8U);
  EXPECT_EQ(place->rank, 7U);
  EXPECT_FALSE((ObjectKey{kHash, "m", 0x08070401, 0, ""}.place()));
  EXPECT_FALSE((ObjectKey{kHash, "m", 0x01010101, 0, ""}.place()));  // Rank 1 of 1.
  EXPECT_FALSE((ObjectKey{"abcd", "m", 0, 0, ""}.chunk()));
  EXPECT_EQ((ObjectKey{kHash, "m", 0, 0, ""}.chunk()->bytes[31]), std::byte{0xAA});
}

TEST(ObjectKeyTest, AFilterTakesWhatItNames) {
  const ObjectKey key{kHash, "m", 0x02010201, 0, "s"};
  EXPECT_TRUE(ObjectFilter{}.takes(key));
  EXPECT_TRUE((ObjectFilter{"m", 2, "s"}.takes(key)));
  EXPECT_FALSE((ObjectFilter{"n", {}, {}}.takes(key)));
  EXPECT_FALSE((ObjectFilter{{}, 1, {}}.takes(key)));
  EXPECT_FALSE((ObjectFilter{{}, {}, ""}.takes(key)));
}

}  // namespace
}  // namespace larder::server
