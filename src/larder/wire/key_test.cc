#include "larder/wire/key.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/limits.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

constexpr std::uint32_t kChunkTokens = 16;

// Of the hash vectors made with LMCache 0.5.6.
const std::vector<std::uint32_t> kTokens{
    5,      76652, 84571,  92490,  100409, 10,     116247, 124166, 132085, 140004, 15,
    4199,   12118, 20037,  27956,  20,     43794,  51713,  59632,  67551,  25,     83389,
    91308,  99227, 107146, 30,     122984, 130903, 138822, 146741, 35,     10936,  18855,
    26774,  34693, 40,     50531,  58450,  66369,  74288,  45,     90126,  98045,  105964,
    113883, 50,    129721, 137640, 145559, 1835,   55,     17673,  25592,  33511,  41430,
    60,     57268, 65187,  73106,  81025,  65,     96863,  104782, 112701};
constexpr std::string_view kHashes[] = {
    "6fb1b1d60dcd4fe2653e3d3f259ed7705220b344b4c80d6a26bbf15556ef7c2f",
    "14c221c070adf47a64e3dfee2b1a9883394b39aa3bf1823805b7346c0ac60ba6",
    "cb780c4139c7bb3b219f598c63a58271cdc5392b98d90f789dc54daab7646925",
    "ab6445cd9a7af716221a8ecbc2be17718327ecadbea5bb0a69a27f39cdad1662"};

class KeyTest : public ::testing::Test {
 protected:
  bool read(const Bytes& frame, std::size_t tokens = 100'000) {
    reader_.start(frame);
    while (reader_.advance(tokens) == KeyReader::State::kMore) {
    }
    return reader_.state() == KeyReader::State::kDone;
  }
  bool read(const KeySample& sample) {
    frame_ = make_key(sample);
    return read(frame_);
  }
  std::string error_of(const KeySample& sample) {
    EXPECT_FALSE(read(sample));
    return reader_.error().to_string();
  }

  Bytes frame_;
  HashMemo memo_{{.bytes_max = 1'000'000, .chunk_tokens = kChunkTokens, .seed = 1}};
  ChunkHasher hasher_{kChunkTokens};
  KeyReader reader_{memo_, hasher_};
};

KeySample sample(TokenForm form = TokenForm::kIds) {
  KeySample key;
  key.form = form;
  key.tokens = kTokens;
  key.end = kTokens.size();
  return key;
}

TEST_F(KeyTest, HashesBothFormsAlikeAndAsLmcacheDoes) {
  for (const auto form : {TokenForm::kIds, TokenForm::kBytes}) {
    for (int time = 0; time < 2; ++time) {
      ASSERT_TRUE(read(sample(form))) << reader_.error().to_string();
      ASSERT_EQ(reader_.hashes().size(), std::size(kHashes));
      for (std::size_t i = 0; i < std::size(kHashes); ++i) {
        EXPECT_EQ(hex(reader_.hashes()[i]), kHashes[i]);
      }
      EXPECT_EQ(reader_.known_chunks(), time == 0 ? 0 : std::size(kHashes));
    }
  }
}

TEST_F(KeyTest, GivesEveryField) {
  KeySample key = sample();
  key.world_size = 4;
  key.worker = 3;
  key.start = 16;
  key.end = 40;
  key.salt = "tenant-\xC3\xA4";
  key.kv_readers = 2;
  ASSERT_TRUE(read(key)) << reader_.error().to_string();
  EXPECT_EQ(reader_.key().model, "golden/model-1");
  EXPECT_EQ(reader_.key().world_size, 4U);
  EXPECT_EQ(reader_.key().worker, 3U);
  EXPECT_EQ(reader_.key().tokens, 64U);
  EXPECT_EQ(reader_.key().start, 16U);
  EXPECT_EQ(reader_.key().end, 40U);
  EXPECT_EQ(reader_.key().request_id, "request-1");
  EXPECT_EQ(reader_.key().salt, key.salt);
  EXPECT_EQ(reader_.key().kv_readers, 2U);
  EXPECT_EQ(reader_.hashes().size(), 2U);  // Full chunks below the end.

  key.worker = -1;
  key.end = 1000;
  key.kv_readers = 1000;
  ASSERT_TRUE(read(key));
  EXPECT_FALSE(reader_.key().worker.has_value());
  EXPECT_EQ(reader_.hashes().size(), 4U);
  EXPECT_EQ(reader_.key().kv_readers, limits::kKvReaders);
}

TEST_F(KeyTest, TakesFieldsInAnyOrderAndIgnoresUnknownOnes) {
  const Bytes tokens = pack(kTokens);
  Bytes frame;
  MsgpackWriter writer{frame};
  writer.map(9);
  writer.text("end"), writer.integer(64);
  writer.text("null_chunk_mask"), writer.array(1), writer.array(0);
  writer.text("request_id"), writer.text("r");
  writer.text("token_ids"), writer.array(2), writer.integer(1), writer.integer(2);
  writer.text("worker_id"), writer.nil();
  writer.text("model_name"), writer.text("m");
  writer.text("token_bytes"), writer.binary(tokens);  // It wins, before or after token_ids.
  writer.text("start"), writer.integer(0);
  writer.text("world_size"), writer.integer(1);
  ASSERT_TRUE(read(frame)) << reader_.error().to_string();
  EXPECT_EQ(reader_.key().tokens, 64U);
  EXPECT_EQ(hex(reader_.hashes().back()), kHashes[3]);
  EXPECT_EQ(reader_.key().salt, "");
  EXPECT_EQ(reader_.key().kv_readers, 0U);

  Bytes other;
  MsgpackWriter again{other};
  again.map(8);
  again.text("token_bytes"), again.binary(tokens);
  again.text("token_ids"), again.array(1), again.integer(1);
  again.text("end"), again.integer(64);
  again.text("request_id"), again.text("r");
  again.text("worker_id"), again.nil();
  again.text("model_name"), again.text("m");
  again.text("start"), again.integer(0);
  again.text("world_size"), again.integer(1);
  ASSERT_TRUE(read(other)) << reader_.error().to_string();
  EXPECT_EQ(hex(reader_.hashes().back()), kHashes[3]);
}

TEST_F(KeyTest, ReadsWhatConcernsItOfTheConfigs) {
  KeySample key = sample();
  Bytes configs;
  MsgpackWriter writer{configs};
  writer.map(3);
  writer.text("lmcache.skip_load"), writer.boolean(true);
  writer.text("other"), writer.array(1), writer.map(1), writer.integer(1), writer.nil();
  writer.text("lmcache.hint.engine_computed_tokens"), writer.integer(48);
  key.configs = configs;
  ASSERT_TRUE(read(key)) << reader_.error().to_string();
  EXPECT_TRUE(reader_.key().skip_load);
  EXPECT_EQ(reader_.key().engine_computed_tokens, 48U);

  configs.clear();
  writer.map(1);
  writer.text("lmcache.hint.engine_computed_tokens"), writer.text("48");
  key.configs = configs;
  EXPECT_NE(error_of(key).find("engine_computed_tokens"), std::string::npos);
}

TEST_F(KeyTest, NamesFieldValueAndRemedyOfWhatItRefuses) {
  KeySample key = sample();
  key.world_size = 256;
  EXPECT_EQ(error_of(key), "key.world_size is 256; it must be an integer from 1 to 255");
  key = sample();
  key.worker = 1;
  EXPECT_EQ(error_of(key), "key.worker_id is 1; it must be below key.world_size, 1");
  for (const std::string_view salt :
       std::vector<std::string_view>{"a@b", "a/b", "a\\b", {"a\0b", 3}}) {
    key = sample();
    key.salt = salt;
    EXPECT_NE(error_of(key).find("key.cache_salt is text"), std::string::npos);
  }
  key = sample();
  key.salt.clear();
  for (std::size_t i = 0; i < limits::kSaltCharacters; ++i) key.salt += "\xC3\xA4";
  EXPECT_TRUE(read(key));
  key.salt += 'a';
  EXPECT_NE(error_of(key).find("128 characters"), std::string::npos);
  key = sample();
  key.model = std::string(limits::kModelBytes + 1, 'm');
  EXPECT_NE(error_of(key).find("key.model_name"), std::string::npos);
  key = sample();
  key.request_id = "\xC3(";
  EXPECT_NE(error_of(key).find("key.request_id"), std::string::npos);

  Bytes frame = make_key(sample());
  frame.push_back(std::byte{0});
  EXPECT_FALSE(read(frame));
  EXPECT_EQ(reader_.error().to_string(),
            "the key is followed by 1 more bytes; it must be one MessagePack value a frame");
}

TEST_F(KeyTest, SaysWhichTokenIsWrong) {
  // The 20th token becomes 2^32, the last one a float.
  for (const auto& [index, wrong] :
       {std::pair{20U, "cf0000000100000000"}, std::pair{66U, "ca3f800000"}}) {
    Bytes frame;
    MsgpackWriter writer{frame};
    writer.map(1);
    writer.text("token_ids"), writer.array(67);
    for (std::uint32_t i = 0; i < 67; ++i) {
      if (i != index) {
        writer.integer(i);
        continue;
      }
      const Bytes bytes = from_hex(wrong);
      frame.insert(frame.end(), bytes.begin(), bytes.end());
    }
    EXPECT_FALSE(read(frame));
    EXPECT_EQ(reader_.error().field, "key.token_ids[" + std::to_string(index) + "]");
  }
}

TEST_F(KeyTest, RefusesWhatIsMissingOrGivenTwice) {
  const auto without = [](std::string_view name) {
    Bytes frame = make_key(sample());
    const Bytes text = [&] {
      Bytes bytes;
      MsgpackWriter{bytes}.text(name);
      return bytes;
    }();
    const auto found = std::ranges::search(frame, text);
    EXPECT_FALSE(found.empty()) << name;
    *(found.begin() + 1) = std::byte{'X'};  // Now an unknown field.
    return frame;
  };
  for (const std::string name :
       {"model_name", "world_size", "worker_id", "start", "end", "request_id", "token_ids"}) {
    EXPECT_FALSE(read(without(name))) << name;
    EXPECT_NE(reader_.error().field.find("key."), std::string::npos);
    EXPECT_EQ(reader_.error().value, "missing") << name;
  }
  for (const std::string name : {"cache_salt", "request_configs", "num_kv_readers"}) {
    EXPECT_TRUE(read(without(name))) << name;
  }
  Bytes twice;
  MsgpackWriter writer{twice};
  writer.map(2);
  writer.text("start"), writer.integer(1);
  writer.text("start"), writer.integer(1);
  EXPECT_FALSE(read(twice));
  EXPECT_EQ(reader_.error().value, "given twice");
}

TEST_F(KeyTest, ChecksTransfers) {
  KeySample key = sample();
  ASSERT_TRUE(read(key));
  EXPECT_TRUE(check_transfer_key(reader_.key(), kChunkTokens));
  const auto refused = [&](const KeySample& wrong) {
    EXPECT_TRUE(read(wrong));
    const auto status = check_transfer_key(reader_.key(), kChunkTokens);
    return status ? std::string{} : status.error().to_string();
  };
  key.start = 4;
  EXPECT_EQ(refused(key), "key.start is 4; it must be a multiple of the chunk of 16");
  key = sample();
  key.end = 30;
  EXPECT_EQ(refused(key), "key.end is 30; it must be a multiple of the chunk of 16");
  key.end = 80;
  EXPECT_EQ(refused(key), "key.end is 80; it must be at most the 64 tokens sent");
  key = sample();
  key.start = 48;
  key.end = 32;
  EXPECT_EQ(refused(key), "key.start is 48; it must be at most key.end");
  key = sample();
  key.worker = -1;
  EXPECT_EQ(refused(key), "key.worker_id is nil; it must be a worker's number");
}

TEST_F(KeyTest, WorksInPiecesAndInTurns) {
  KeySample key = sample();
  key.tokens.resize(1000);
  std::iota(key.tokens.begin(), key.tokens.end(), 60'000U);
  key.end = 1000;
  KeySample other = key;
  other.form = TokenForm::kBytes;
  const Bytes a = make_key(key);
  const Bytes b = make_key(other);
  KeyReader second{memo_, hasher_};
  reader_.start(a);
  second.start(b);
  int pieces = 0;
  while (reader_.state() == KeyReader::State::kMore || second.state() == KeyReader::State::kMore) {
    reader_.advance(1);
    second.advance(1);
    memo_.check_invariants();
    ++pieces;
  }
  EXPECT_GE(pieces, 62);  // A piece of the smallest size is one chunk.
  ASSERT_EQ(reader_.state(), KeyReader::State::kDone);
  ASSERT_EQ(second.state(), KeyReader::State::kDone);
  ASSERT_EQ(reader_.hashes().size(), 62U);
  EXPECT_TRUE(std::ranges::equal(reader_.hashes(), second.hashes()));
}

/// Random prompts that share prefixes, in both forms, through a memo that is too small for them:
/// always the hashes of a newly computed chain.
TEST_F(KeyTest, NeverAnswersWithOtherHashesThanTheChain) {
  constexpr std::uint64_t kSeed = 41;
  SCOPED_TRACE(kSeed);
  Random random{kSeed};
  HashMemo small{{.bytes_max = 20'000, .chunk_tokens = kChunkTokens, .seed = 1}};
  KeyReader reader{small, hasher_};
  ChunkHasher fresh{kChunkTokens};
  std::uint64_t known = 0;
  for (int i = 0; i < 2000; ++i) {
    KeySample key;
    key.form = random.one_in(3) ? TokenForm::kBytes : TokenForm::kIds;
    const std::uint64_t count = random.below(200);
    std::uint32_t family = static_cast<std::uint32_t>(random.below(3)) * 70'000;
    for (std::uint64_t k = 0; k < count; ++k) {
      if (random.one_in(60)) family += 1;
      key.tokens.push_back(family + static_cast<std::uint32_t>(k));
    }
    key.end = random.below(250);
    const Bytes frame = make_key(key);
    reader.start(frame);
    while (reader.advance(1 + random.below(100)) == KeyReader::State::kMore) {
    }
    ASSERT_EQ(reader.state(), KeyReader::State::kDone) << reader.error().to_string();
    const Bytes packed = pack(key.tokens);
    ChunkHash hash = no_chunk_hash();
    ASSERT_EQ(reader.hashes().size(), std::min(count, key.end) / kChunkTokens);
    for (std::size_t chunk = 0; chunk < reader.hashes().size(); ++chunk) {
      constexpr std::size_t kChunkBytes = kChunkTokens * kTokenBytes;
      hash = fresh.hash(hash, std::span{packed}.subspan(chunk * kChunkBytes, kChunkBytes));
      ASSERT_EQ(hex(reader.hashes()[chunk]), hex(hash));
    }
    known += reader.known_chunks();
    if (i % 100 == 0) small.check_invariants();
  }
  EXPECT_GT(known, 1000U);
  EXPECT_GT(small.statistics().evicted_total, 0U);
}

}  // namespace
}  // namespace larder::wire
