#include "larder/wire/reply.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "larder/wire/msgpack_reader.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

std::string shown(const FailureReply& reply) {
  if (!reply.operation.empty()) {
    const auto text = MsgpackReader{reply.operation}.next();
    EXPECT_TRUE(text && text->type == Type::kText);
    EXPECT_FALSE(reply.has_payload);
    return "ERR " +
           std::string(reinterpret_cast<const char*>(text->bytes.data()), text->bytes.size());
  }
  return reply.has_payload ? hex(reply.payload) : "none";
}

TEST(ReplyTest, WritesWhatLmcacheWrites) {
  EXPECT_EQ(hex(encode_boolean(true)), "c3");
  EXPECT_EQ(hex(encode_number(256)), "cd0100");
  EXPECT_EQ(hex(encode_ok()), "a24f4b");
  EXPECT_EQ(hex(encode_names({})), "90");
  EXPECT_EQ(hex(encode_names(std::array<std::string_view, 1>{"kv_event_stream"})),
            "91af6b765f6576656e745f73747265616d");
  EXPECT_EQ(hex(encode_transfer_done(true)), "92c40f737475625f6970635f68616e646c65c3");
  EXPECT_EQ(hex(encode_registered("lmcache_l1_pool_golden57", 67108864, 0)),
            "83a873686d5f6e616d65b86c6d63616368655f6c315f706f6f6c5f676f6c64656e3537a9706f6f6c5f7369"
            "7a65ce04000000ad6e756c6c5f626c6f636b5f696400");
  EXPECT_TRUE(hex(encode_registered("", 0, -1)).ends_with("6c5f626c6f636b5f6964ff"));
}

TEST(ReplyTest, SaysThatNothingHasToBeStored) {
  EXPECT_EQ(hex(encode_store_slots({}, false)),
            "81a7636f6e7465787482a5736c6f747390ad6368756e6b5f696e646963657390");
}

TEST(ReplyTest, TellsKvEventsAsLmcacheDoes) {
  const auto hash_of = [](std::string_view text) {
    const Bytes bytes = from_hex(text);
    ChunkHash hash{};
    std::ranges::copy(bytes, hash.begin());
    return hash;
  };
  const ChunkHash first =
      hash_of("3ff5dc4df271e9c925e555f180e354b3d93e85dcbe108077843b58cb01641ae3");
  const ChunkHash second =
      hash_of("b3d82bfd24297de973abeee771c454118d0286e617ae22acc7941ba22725a7f2");
  const std::array<std::uint32_t, 3> tokens{51, 41610, 81205};
  const std::array<ChunkHash, 2> both{first, second};
  const std::array<KvEvent, 2> events{
      KvEvent{.sequence = 2,
              .is_stored = true,
              .model = "golden/model-1",
              .hashes = std::span{both}.last(1),
              .parent = &first,
              .token_ids = tokens},
      KvEvent{.sequence = 3, .model = "golden/model-1", .hashes = both}};
  const std::string head =
      "85a7656e61626c6564c3ab696e6361726e6174696f6ecf18ea07c41dedd683ab6e6578745f637572736f72";
  EXPECT_EQ(hex(encode_kv_events({.is_enabled = true, .incarnation = 0x18EA07C41DEDD683})),
            head + "00a46c6f7374c2a66576656e747390");
  EXPECT_EQ(hex(encode_kv_events({.is_enabled = true,
                                  .incarnation = 0x18EA07C41DEDD683,
                                  .next_cursor = 3,
                                  .events = events})),
            head +
                "03a46c6f7374c2a66576656e74739287a373657102a46b696e64a673746f726564a66d656469756da3"
                "435055aa6d6f64656c5f6e616d65ae676f6c64656e2f6d6f64656c2d31ac626c6f636b5f6861736865"
                "7391c420b3d82bfd24297de973abeee771c454118d0286e617ae22acc7941ba22725a7f2b170617265"
                "6e745f626c6f636b5f68617368c4203ff5dc4df271e9c925e555f180e354b3d93e85dcbe108077843b"
                "58cb01641ae3a9746f6b656e5f6964739333cda28ace00013d3587a373657103a46b696e64a772656d"
                "6f766564a66d656469756da3435055aa6d6f64656c5f6e616d65ae676f6c64656e2f6d6f64656c2d31"
                "ac626c6f636b5f68617368657392c4203ff5dc4df271e9c925e555f180e354b3d93e85dcbe10807784"
                "3b58cb01641ae3c420b3d82bfd24297de973abeee771c454118d0286e617ae22acc7941ba22725a7f2"
                "b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f69647390");
}

TEST(FailureTest, AnswersEachOperationByItsKind) {
  const std::string none = "none";
  const std::string text = "ERR larder: why";
  const std::string no_context = "81a7636f6e7465787480";
  const std::string no_data = "83a773756363657373c2a464617461c400a7636f6e7465787480";
  const std::string stub = "92c40f737475625f6970635f68616e646c65c2";
  const std::vector<std::pair<std::vector<int>, std::string>> table{
      {{1, 3, 14, 25, 20, 21, 22, 24, 28, 32, 33, 64, 65, 66, 67, 68}, text},
      {{2, 4, 8, 12, 13, 15, 23, 26, 31}, none},
      {{5, 6, 7, 27}, stub},
      {{9, 10, 29}, "00"},
      {{16}, no_context},
      {{17, 19}, "c2"},
      {{18}, no_data},
      {{30}, "90"},
  };
  std::size_t count = 0;
  for (const auto& [numbers, expected] : table) {
    for (const int number : numbers) {
      const auto operation = static_cast<Operation>(number);
      EXPECT_EQ(shown(encode_failure(operation, "why")), expected) << info(operation).name;
      ++count;
    }
  }
  EXPECT_EQ(count, operations().size());
  EXPECT_EQ(shown(encode_failure(Operation::kStore, "why", false)), "92c400c2");
}

TEST(FailureTest, SendsTextsThatAreShortAndPrintable) {
  const std::string text = shown(encode_failure(Operation::kClear, std::string(100'000, '\n')));
  EXPECT_LT(text.size(), 5000U);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_EQ(
      shown(encode_unknown_operation({.field = "the operation", .value = "99", .remedy = "known"})),
      "ERR larder: the operation is 99; it must be known");
}

}  // namespace
}  // namespace larder::wire
