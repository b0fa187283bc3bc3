#include "larder/server/admin_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace larder::server {
namespace {

TEST(AdminJsonTest, AWrongFieldIsNamedWithItsValue) {
  const std::vector<std::pair<std::string, std::string>> sums = {
      {R"({"block_ids": 1})", "block_ids: 1 is not a list"},
      {R"({"block_ids": [1, -1]})", "block_ids: -1 is not a block id"},
      {R"({"block_ids": [4294967296]})", "block_ids: 4294967296 is not"},
      {R"({"block_ids": [1.5]})", "block_ids: 1.5 is not"},
      {R"({"chunk_size": -1})", "chunk_size: -1 is not a number of blocks"},
      {R"({"chunk_size": "a"})", R"(chunk_size: "a" is not)"},
      {R"({"instance_id": "x"})", R"(instance_id: "x" is not a worker's id)"},
      {R"({"instance_id": 18446744073709551616})", "instance_id: 1.844"},
      {R"({"layerwise": "no"})", R"(layerwise: "no" is not true or false)"},
  };
  for (const auto& [body, expected] : sums) {
    const auto command = read_checksums(body);
    ASSERT_FALSE(command) << body;
    EXPECT_NE(command.error().text.find(expected), std::string::npos) << command.error().text;
  }
}

TEST(AdminJsonTest, ReadsWhatLmcachesBenchSends) {
  const auto command = read_checksums(
      R"({"block_ids": [3, 4], "chunk_size": 16, "instance_id": 7, "layerwise": true})");
  ASSERT_TRUE(command) << command.error().text;
  EXPECT_EQ(command->blocks, (std::vector<std::uint32_t>{3, 4}));
  EXPECT_EQ(command->blocks_per_chunk, 16U);
  EXPECT_EQ(command->instance, wire::Integer{.bits = 7});
  EXPECT_TRUE(command->is_by_layer);
  EXPECT_EQ(read_checksums(R"({"instance_id": -2})")->instance,
            (wire::Integer{.bits = ~std::uint64_t{1}, .is_negative = true}));
}

/// From http_samples.md of LMCache 0.5.6.
TEST(AdminJsonTest, AnswersInLmcachesShape) {
  Md5 first{};
  first[0] = std::byte{0xA1};
  Md5 second{};
  second[15] = std::byte{0x0F};
  ChecksumCommand command{.blocks = {1, 2, 3, 4}, .blocks_per_chunk = 4, .is_by_layer = true};
  EXPECT_EQ(checksums_json(command, {.checksums = {first, second}, .layers = 2}).dump(),
            R"({"status":"success","chunk_size":4,"num_chunks":1,"chunk_checksums":)"
            R"({"layer_0":["a1000000000000000000000000000000"],)"
            R"("layer_1":["0000000000000000000000000000000f"]},)"
            R"("layerwise":true,"block_id_ranges":[[1,4]]})");
  command = {.blocks = {1, 2, 3, 7, 8, 5}, .blocks_per_chunk = 4};
  EXPECT_EQ(checksums_json(command, {.checksums = {first, second}, .layers = 2}).dump(),
            R"({"status":"success","chunk_size":4,"num_chunks":2,"chunk_checksums":)"
            R"(["a1000000000000000000000000000000","0000000000000000000000000000000f"],)"
            R"("layerwise":false,"block_id_ranges":[[1,3],7,8,5]})");
}

}  // namespace
}  // namespace larder::server
