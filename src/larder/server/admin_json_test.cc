#include "larder/server/admin_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace larder::server {
namespace {

TEST(AdminJsonTest, AClearIsOfL1AndNotForcedUnlessItSaysSo) {
  for (const char* body : {"", "{}", R"({"tier": "l1"})", R"({"force": false, "more": 1})"}) {
    const auto command = read_clear(body);
    ASSERT_TRUE(command) << body;
    EXPECT_FALSE(command->force);
  }
  EXPECT_TRUE(read_clear(R"({"tier": "l1", "force": true})")->force);
  EXPECT_EQ(read_clear(R"({"tier": "l2"})").error(), "tier 'l2' not supported; only 'l1'");
}

TEST(AdminJsonTest, AWrongFieldIsNamedWithItsValue) {
  const std::vector<std::pair<std::string, std::string>> clears = {
      {R"({"tier": 1})", R"(tier: 1 is not a text)"},
      {R"({"force": 1})", "force: 1 is not true or false"},
      {R"({"force": null})", "force: null is not"},
      {"[]", "the body is [], and not a JSON object"},
      {"{", "not valid JSON"},
      {"\xFF", "not valid JSON"},
      {std::string(60'000, '['), "not valid JSON"},
  };
  for (const auto& [body, expected] : clears) {
    const auto command = read_clear(body);
    ASSERT_FALSE(command) << body;
    EXPECT_NE(command.error().find(expected), std::string::npos) << command.error();
  }
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
    EXPECT_NE(command.error().find(expected), std::string::npos) << command.error();
  }
}

TEST(AdminJsonTest, ReadsWhatLmcachesBenchSends) {
  const auto command = read_checksums(
      R"({"block_ids": [3, 4], "chunk_size": 16, "instance_id": 7, "layerwise": true})");
  ASSERT_TRUE(command) << command.error();
  EXPECT_EQ(command->blocks, (std::vector<std::uint32_t>{3, 4}));
  EXPECT_EQ(command->blocks_per_chunk, 16U);
  EXPECT_EQ(command->instance, wire::Integer{.bits = 7});
  EXPECT_TRUE(command->is_by_layer);
  EXPECT_EQ(read_checksums(R"({"instance_id": -2})")->instance,
            (wire::Integer{.bits = ~std::uint64_t{1}, .is_negative = true}));
}

/// From http_samples.md of LMCache 0.5.6.
TEST(AdminJsonTest, AnswersInLmcachesShape) {
  EXPECT_EQ(clear_json().dump(), R"({"status":"ok","cleared":{"tier":"l1"}})");
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
