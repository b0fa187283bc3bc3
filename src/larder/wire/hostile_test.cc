// Every cut and every changed byte of valid messages: a decoder answers or refuses, reads nothing
// beyond the frame (ASan) and allocates no more than the message's size warrants.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "larder/wire/key.h"
#include "larder/wire/request.h"
#include "larder/wire/wire_test_support.h"

namespace {

std::atomic<std::size_t> largest_allocation{0};

void* allocate(std::size_t bytes) {
  std::size_t before = largest_allocation.load();
  while (before < bytes && !largest_allocation.compare_exchange_weak(before, bytes)) {
  }
  if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc{};
}

}  // namespace

// For the whole test program.
void* operator new(std::size_t bytes) {
  return allocate(bytes);
}
void* operator new[](std::size_t bytes) {
  return allocate(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace larder::wire {
namespace {

constexpr std::uint32_t kChunkTokens = 16;
constexpr std::size_t kAllocationMax = 64 << 10;  ///< The messages here are of some 100 bytes.

struct Message {
  Operation operation;
  std::vector<Bytes> arguments;
};

std::vector<Message> good_messages() {
  KeySample key;
  key.tokens.resize(40);
  std::iota(key.tokens.begin(), key.tokens.end(), 60'000U);
  key.tokens[3] = 5;
  key.tokens[9] = 200;
  key.start = 16;
  key.end = 32;
  key.configs = from_hex("81b16c6d63616368652e736b69705f6c6f6164c3");
  const Bytes ids = make_key(key);
  key.form = TokenForm::kBytes;
  key.worker = -1;
  const Bytes packed = make_key(key);
  const Bytes group = from_hex(
      "84aa6e756d5f6c617965727301af68696464656e5f64696d5f73697a6508a964747970655f737472a7666c6f6174"
      "3136b0746f6b656e735f7065725f626c6f636b04");
  Bytes registration = from_hex(
      "8aab696e7374616e63655f6964cf1a5a000000000001aa6d6f64656c5f6e616d65ae676f6c64656e2f6d6f64656c"
      "2d31aa776f726c645f73697a6501aa626c6f636b5f73697a6504aa6e756d5f6c617965727302af68696464656e5f"
      "64696d5f73697a6508a964747970655f737472a7666c6f61743136a77573655f6d6c61c2b26e756d5f7068797369"
      "63616c5f736c6f747310ad67726f75705f6c61796f75747391");
  registration.insert(registration.end(), group.begin(), group.end());
  const Bytes one = from_hex("01");
  const Bytes text = from_hex("a3722d31");
  KvCacheSample cache;
  cache.hints = {{"tokens_per_block", 4}, {"other", 1}};
  cache.groups = {{.layers = {0}, .tokens_per_block = 4},
                  {.id = 1, .layers = {1}, .window = 8, .is_recurrent = true}};
  using enum Operation;
  return {{kRegisterKvCache, make_kv_cache(cache)},
          {kStore, {ids, one, from_hex("91940904071e"), from_hex("c40173")}},
          {kRetrieve, {packed, one, from_hex("940904071e"), from_hex("c400"), from_hex("04")}},
          {kLookup, {packed, one}},
          {kFreeLookupLocks, {packed, one, from_hex("9292203092000a")}},
          {kPrepareStore, {ids, one, from_hex("9290920103")}},
          {kCommitStore, {packed, one, from_hex("c40180")}},
          {kRegisterEngineDriven, {registration}},
          {kQueryPrefetchStatus, {text}},
          {kWaitPrefetchStatus, {text, from_hex("cb3ff0000000000000")}},
          {kClear, {from_hex("92a178c0")}},
          {kPing, {from_hex("cf1a5a000000000001")}},
          {kSubscribeKvEvents, {one, text, one, one}}};
}

class HostileTest : public ::testing::Test {
 protected:
  /// True when the message decodes, key and all. Frames are copied to memory of their exact size.
  bool decodes(Operation operation, const std::vector<Bytes>& arguments) {
    const std::vector<Bytes> exact(arguments);
    const std::vector<Frame> frames(exact.begin(), exact.end());
    largest_allocation = 0;
    const auto decoded = decode_arguments(operation, frames);
    bool is_good = decoded.has_value();
    if (decoded) {
      std::visit(
          [&](const auto& request) {
            if constexpr (requires { request.key; }) is_good = reads_key(request.key);
          },
          *decoded);
    } else {
      EXPECT_LT(decoded.error().to_string().size(), 2000U);
    }
    EXPECT_LE(largest_allocation.load(), kAllocationMax);
    return is_good;
  }

 private:
  bool reads_key(Frame frame) {
    reader_.start(frame);
    while (reader_.advance(1) == KeyReader::State::kMore) {
    }
    if (reader_.state() == KeyReader::State::kFailed) {
      EXPECT_FALSE(reader_.error().field.empty());
      return false;
    }
    const Key& key = reader_.key();
    EXPECT_LE(reader_.hashes().size(), key.tokens / kChunkTokens);
    static_cast<void>(check_transfer_key(key, kChunkTokens));
    return true;
  }

  HashMemo memo_{{.bytes_max = 20'000, .chunk_tokens = kChunkTokens, .seed = 1}};
  ChunkHasher hasher_{kChunkTokens};
  KeyReader reader_{memo_, hasher_};
};

TEST_F(HostileTest, GoodMessagesDecode) {
  for (const Message& message : good_messages()) {
    EXPECT_TRUE(decodes(message.operation, message.arguments)) << info(message.operation).name;
  }
}

TEST_F(HostileTest, NoCutMessageDecodes) {
  for (const Message& message : good_messages()) {
    for (std::size_t frame = 0; frame < message.arguments.size(); ++frame) {
      for (std::size_t bytes = 0; bytes < message.arguments[frame].size(); ++bytes) {
        auto arguments = message.arguments;
        arguments[frame].resize(bytes);
        arguments[frame].shrink_to_fit();
        EXPECT_FALSE(decodes(message.operation, arguments))
            << info(message.operation).name << ", frame " << frame << " cut to " << bytes;
      }
    }
  }
}

TEST_F(HostileTest, EveryChangedByteIsSurvived) {
  std::size_t refused = 0;
  std::size_t taken = 0;
  for (const Message& message : good_messages()) {
    for (std::size_t frame = 0; frame < message.arguments.size(); ++frame) {
      for (std::size_t at = 0; at < message.arguments[frame].size(); ++at) {
        auto arguments = message.arguments;
        for (unsigned change = 1; change < 256; ++change) {
          arguments[frame][at] = message.arguments[frame][at] ^ static_cast<std::byte>(change);
          decodes(message.operation, arguments) ? ++taken : ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 10'000U);
  EXPECT_GT(taken, 10'000U);  // Other tokens, names and numbers.
}

TEST_F(HostileTest, ClaimedSizesAllocateNothing) {
  // Counts and lengths up to 2^32 - 1, with almost nothing after them.
  for (const char* const head : {"ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff",
                                 "c9ffffffff00", "dcffff", "deffff"}) {
    const Bytes frame = from_hex(std::string{head} + "0000");
    using enum Operation;
    for (const OperationInfo& each : operations()) {
      const std::vector<Bytes> arguments(each.arguments_max, frame);
      decodes(each.operation, arguments);
    }
    Bytes key = from_hex("81a9746f6b656e5f696473");
    key.insert(key.end(), frame.begin(), frame.end());
    EXPECT_FALSE(decodes(kLookup, {key, from_hex("01")}));
  }
}

}  // namespace
}  // namespace larder::wire
