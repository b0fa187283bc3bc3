#include "larder/server/cache_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

const std::string kHash(64, 'a');

template <class Read>
void expect_error(Read read, const std::string& body, Kind kind, const std::string& expected) {
  const auto result = read(body);
  ASSERT_FALSE(result) << body;
  EXPECT_EQ(result.error().kind, kind) << body;
  EXPECT_NE(result.error().text.find(expected), std::string::npos) << result.error().text;
}

// ---- Clear.

TEST(CacheJsonTest, AClearIsOfL1AndNotForcedUnlessItSaysSo) {
  for (const char* body : {"", "{}", R"({"tier": "l1"})", R"({"force": false})"}) {
    const auto command = read_clear(body);
    ASSERT_TRUE(command) << body;
    EXPECT_FALSE(command->force || command->has_all_tiers || command->space);
  }
  EXPECT_TRUE(read_clear(R"({"tier": "l1", "force": true})")->force);
  EXPECT_TRUE(read_clear(R"({"tier": "all"})")->has_all_tiers);
  const auto one = read_clear(R"({"model_name": "m", "world_size": 2, "cache_salt": "s"})");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->space->model, "m");
  EXPECT_EQ(one->space->world_size, 2U);
  EXPECT_EQ(one->space->salt, "s");
  EXPECT_EQ(clear_json({}, {}).dump(), R"({"status":"ok","cleared":{"tier":"l1"}})");
  EXPECT_EQ(clear_json({.has_all_tiers = true}, {.deleted = 7}).dump(),
            R"({"status":"ok","cleared":{"tier":"all"},"deleted":7})");
}

TEST(CacheJsonTest, AWrongFieldOfAClearIsNamedWithItsValue) {
  expect_error(read_clear, R"({"tier": "l2"})", Kind::kInvalid, "tier 'l2' not supported; only ");
  for (const auto& [body, expected] : std::vector<std::pair<std::string, std::string>>{
           {R"({"tier": 1})", R"(tier: 1 is not a text)"},
           {R"({"tier": "disk"})", R"(tier: 'disk' is not a tier)"},
           {R"({"force": 1})", "force: 1 is not true or false"},
           {R"({"forced": true})", "there is no field 'forced'; did you mean 'force'?"},
           {R"({"more": 1})", "the fields are tier, force, model_name"},
           {R"({"force": null})", "force: null is not"},
           {R"({"cache_salt": "s"})", "model_name is missing"},
           {R"({"model_name": "m"})", "world_size is missing"},
           {"[]", "the body is [], and not a JSON object"},
           {"{", "not valid JSON"},
           {"\xFF", "not valid JSON"},
           {std::string(60'000, '['), "nested more than 16 deep"}}) {
    expect_error(read_clear, body, Kind::kMalformed, expected);
  }
}

// ---- Delete.

std::string key_json(const std::string& more) {
  return R"({"keys": [{"chunk_hash_hex": ")" + kHash +
         R"(", "model_name": "m", "kv_rank": 16777472)" + more + "}]}";
}

TEST(CacheJsonTest, ADeleteIsOfL2UnlessItSaysOtherwise) {
  const auto request = read_delete(key_json(""));
  ASSERT_TRUE(request) << request.error().text;
  ASSERT_EQ(request->keys.size(), 1U);
  EXPECT_EQ(request->keys[0], (ObjectKey{kHash, "m", 16777472, 0, ""}));
  EXPECT_TRUE(request->is_in_l2 && !request->is_in_l1 && !request->force && !request->adapter);
  const auto all = read_delete(R"({"keys": [], "tier": "all", "force": true, "adapter": "log"})");
  ASSERT_TRUE(all);
  EXPECT_TRUE(all->is_in_l2 && all->is_in_l1 && all->force);
  EXPECT_EQ(all->adapter, "log");
  EXPECT_FALSE(read_delete(R"({"keys": [], "adapter": null})")->adapter);
  EXPECT_FALSE(read_delete(R"({"keys": [], "tier": "l1"})")->is_in_l2);
  EXPECT_EQ(delete_json({.deleted = 3, .skipped = 1}).dump(),
            R"({"deleted":3,"skipped":1,"ok":true})");
  EXPECT_EQ(delete_json({.trouble = "the disk is gone"}).dump(),
            R"({"deleted":0,"skipped":0,"ok":false,"error":"the disk is gone"})");
}

TEST(CacheJsonTest, AWrongKeyIsNamedByItsPlace) {
  const auto with_hash = [](const std::string& hash) {
    return R"({"keys": [{"chunk_hash_hex": ")" + hash + R"(", "model_name": "m", "kv_rank": 1}]})";
  };
  for (const auto& [body, expected] : std::vector<std::pair<std::string, std::string>>{
           {with_hash("zz"),
            "keys[0]: non-hexadecimal number found in fromhex() arg at position 0"},
           {with_hash("abc"), "keys[0]: non-hexadecimal"},
           {key_json(R"(, "cache_salt": "a@b")"), "keys[0]: cache_salt must not contain {'@'}"},
           {key_json(R"(, "cache_salt": ")" + std::string(129, 's') + "\""),
            "cache_salt exceeds max length 128 (got 129)"},
           {key_json(R"(, "model_name": "a@b")"), "keys[0]: model_name must not contain '@'"}}) {
    expect_error(read_delete, body, Kind::kInvalid, expected);
  }
  for (const auto& [body, expected] : std::vector<std::pair<std::string, std::string>>{
           {"{}", "keys is missing"},
           {R"({"keys": 1})", "keys: 1 is not a list"},
           {R"({"keys": [1]})", "keys[0]: not a JSON object"},
           {R"({"keys": [{}]})", "keys[0]: chunk_hash_hex is missing"},
           {key_json(R"(, "object_group_id": -1)"), "keys[0]: object_group_id: -1 is not"},
           {R"({"keys": [], "tier": "l3"})", "tier: 'l3' is not a tier"}}) {
    expect_error(read_delete, body, Kind::kMalformed, expected);
  }
  std::string many = R"({"keys": [)";
  for (std::size_t i = 0; i <= kDeletedKeysMax; ++i) many += i == 0 ? "{}" : ",{}";
  expect_error(read_delete, many + "]}", Kind::kInvalid,
               "too many keys in a single request (limit=10000, got=10001)");
}

// ---- Listing.

HttpRequest query(std::multimap<std::string, std::string> parameters) {
  HttpRequest request;
  request.query = std::move(parameters);
  return request;
}

TEST(CacheJsonTest, AListingHasPages) {
  const auto usual = read_list(query({}));
  ASSERT_TRUE(usual);
  EXPECT_EQ(usual->page_size, 500U);
  EXPECT_FALSE(usual->adapter || usual->model || usual->page_token);
  EXPECT_EQ(read_list(query({{"page_size", "5000"}}))->page_size, 5000U);
  for (const char* wrong : {"0", "5001", "-1", "1x", "", "99999999999999999999"}) {
    const auto refused = read_list(query({{"page_size", wrong}}));
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().kind, Kind::kMalformed);
  }
  EXPECT_EQ(read_list(query({{"tier", "l1"}})).error().text, "tier 'l1' not supported; only 'l2'");
  EXPECT_EQ(read_list(query({{"tier", "x"}})).error().kind, Kind::kMalformed);

  TierScans::Page page;
  page.entries.push_back({.key = {kHash, "m", 16777472, 0, "s"}, .value_bytes = 1024});
  EXPECT_EQ(list_json("log", false, page, "0.1.2").dump(),
            R"({"adapter":"log","shared":false,"entries":[{"key":{"chunk_hash_hex":")" + kHash +
                R"(","model_name":"m","kv_rank":16777472,"object_group_id":0,"cache_salt":"s"},)"
                R"("size_bytes":1024}],"next_page_token":"0.1.2"})");
  EXPECT_EQ(list_json("log", false, {}, "").dump(),
            R"({"adapter":"log","shared":false,"entries":[],"next_page_token":null})");
}

TEST(CacheJsonTest, APageTokenIsOfOneTier) {
  const ScanCursor cursor{{0xFFFF'FFFF'FFFF'FFFF, 7}};
  const auto read = read_page_token(3, page_token_of(3, cursor));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->words[0], cursor.words[0]);
  EXPECT_EQ(read->words[1], cursor.words[1]);
  EXPECT_FALSE(read_page_token(2, page_token_of(3, cursor)));
  for (const char* wrong : {"", "0", "0.", "0.1", "0.1.", "0.1.2.3", "0.1.x", "0.-1.2",
                            "0.1.10000000000000000", " 0.1.2"}) {
    EXPECT_FALSE(read_page_token(0, wrong)) << wrong;
  }
}

// ---- Prefetches.

TEST(CacheJsonTest, APrefetchIsFromL2IntoL1) {
  const auto request = read_prefetch(
      R"({"model_name": "m", "world_size": 1, "token_ids": [1, 4294967295], "cache_salt": "s"})");
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->space.salt, "s");
  EXPECT_EQ(request->tokens, (std::vector<std::uint32_t>{1, 4294967295}));
  expect_error(read_prefetch, R"({"source_tier": "l1"})", Kind::kInvalid,
               "unsupported prefetch direction 'l1'->'l1'; only 'l2'->'l1'");
  expect_error(read_prefetch, R"({"model_name": "m", "world_size": 1})", Kind::kMalformed,
               "token_ids is missing");
  for (const char* token : {"-1", "1.5", "\"a\"", "4294967296", "null", "[1]"}) {
    expect_error(
        read_prefetch,
        R"({"model_name": "m", "world_size": 1, "token_ids": [1, )" + std::string{token} + "]}",
        Kind::kMalformed, "token_ids: ");
  }
  std::string many = R"({"model_name": "m", "world_size": 1, "token_ids": [0)";
  for (std::size_t i = 0; i < kPrefetchTokensMax; ++i) many += ",0";
  expect_error(read_prefetch, many + "]}", Kind::kInvalid,
               "too many token_ids in a single request (limit=1000000, got=1000001)");

  PrefetchCommand command;
  EXPECT_EQ(prefetch_json(command, {}).dump(), R"({"chunks":0,"status":"noop"})");
  command.chunks.resize(2);
  EXPECT_EQ(prefetch_json(command, {.prefetch = "id"}).dump(),
            R"({"request_id":"id","chunks":2,"status":"submitted"})");
  EXPECT_EQ(prefetch_json(PrefetchQuery{"id"}, {}).dump(),
            R"({"request_id":"id","status":"pending"})");
  EXPECT_EQ(prefetch_json(PrefetchQuery{"id"}, {.found = 1, .asked = 2}).dump(),
            R"({"request_id":"id","status":"completed","found_keys":1,"total_keys":2})");
}

}  // namespace
}  // namespace larder::server
