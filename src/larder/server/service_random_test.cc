// Random requests of several clients, valid and broken ones, with the required answer to each:
// every request gets one reply, and every slot of a retrieve holds the bytes of its chunk.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

struct SlotSeen {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// The content of a reply to prepare_store or prepare_retrieve. Fails the test where it is none.
struct SlotsSeen {
  bool success = true;
  std::vector<SlotSeen> slots;
  std::vector<std::uint64_t> chunks;
  std::vector<std::uint64_t> groups;  ///< Of the slots; all 0 if the reply has none.
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

SlotSeen read_slot(wire::MsgpackReader& reader) {
  SlotSeen slot;
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string_view name = as_text(reader.next()->bytes);
    std::size_t values = 100;
    if (name == "offset") {
      slot.offset = reader.next()->integer.bits;
    } else if (name == "length") {
      slot.bytes = reader.next()->integer.bits;
    } else {
      EXPECT_TRUE(reader.skip(values));
    }
  }
  return slot;
}

void read_context(wire::MsgpackReader& reader, SlotsSeen& seen) {
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string_view name = as_text(reader.next()->bytes);
    const std::uint32_t count = reader.next()->count;
    for (std::uint32_t j = 0; j < count; ++j) {
      if (name == "slots") {
        seen.slots.push_back(read_slot(reader));
      } else {
        std::vector<std::uint64_t>& list = name == "group_ids" ? seen.groups : seen.chunks;
        list.push_back(reader.next()->integer.bits);
      }
    }
  }
  seen.groups.resize(seen.slots.size());
}

SlotsSeen read_slots(const wire::Bytes& payload) {
  SlotsSeen seen;
  wire::MsgpackReader reader{payload};
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string_view name = as_text(reader.next()->bytes);
    if (name == "context") {
      read_context(reader, seen);
    } else if (name == "success") {
      seen.success = reader.next()->boolean;
    } else {
      reader.next();
    }
  }
  EXPECT_TRUE(reader.at_end());
  return seen;
}

class ServiceRandomTest : public ServiceFixture, public ::testing::WithParamInterface<int> {
 protected:
  static constexpr int kRequests = 600;
  static constexpr std::uint32_t kChunksMax = 6;

  std::uint64_t below(std::uint64_t limit) { return random_.below(limit); }
  bool chance(std::uint64_t percent) { return below(100) < percent; }

  void run() {
    for (std::uint64_t each = 7; each < 10; ++each) {
      ++sent_;
      ServiceFixture::send(Operation::kRegisterEngineDriven,
                           {make_registration(registration(each))}, each - 6);
    }
    for (int i = 0; i < kRequests && !HasFailure(); ++i) {
      step();
      if (chance(20)) settle();
    }
    settle();
  }

  // ---- What is sent.
  void step() {
    switch (below(16)) {
      case 0:
        return send_one(Operation::kRegisterEngineDriven,
                        {make_registration(registration(instance()))});
      case 1:
        if (!chance(20)) return;
        return send_one(Operation::kUnregisterEngineDriven, {number(instance())});
      case 2:
      case 3:
        return send_one(Operation::kLookup, {make_key(sample(-1)), number(1)});
      case 4:
        return send_one(Operation::kQueryPrefetchStatus, {text(request())});
      case 5:
        return send_one(Operation::kWaitPrefetchStatus, {text(request()), number(below(3))});
      case 6:
        return send_one(Operation::kFreeLookupLocks, {make_key(sample(-1)), number(1)});
      case 7:
        return send_one(Operation::kEndSession, {text(request())});
      case 8:
      case 9:
      case 10:
        return store();
      case 11:
      case 12:
      case 13:
        return retrieve();
      case 14:
        if (chance(10)) send_one(Operation::kClear, {number(below(2))});
        return;
      default:
        return send_one(Operation::kPing, {chance(50) ? nil() : number(instance())});
    }
  }
  std::uint64_t instance() { return 7 + below(3); }
  std::uint64_t connection() { return 1 + below(3); }
  std::string request() { return "r" + std::to_string(below(4)); }
  /// Perhaps of another layout.
  RegistrationSample registration(std::uint64_t id) {
    RegistrationSample sample;
    sample.instance = id;
    sample.world_size = ranks_;
    if (chance(3)) sample.num_layers = 3;
    for (const std::uint64_t window : windows_) sample.groups.push_back({.window_chunks = window});
    if (!windows_.empty() && chance(3)) sample.groups.pop_back();
    return sample;
  }
  wire::KeySample sample(std::int64_t worker) {
    wire::KeySample sample;
    sample.request_id = request();
    // Prompts share their beginnings.
    const auto prompt = static_cast<std::uint32_t>(below(3));
    const auto shared = static_cast<std::uint32_t>(below(2)) * 2 * kChunk;
    sample.tokens = tokens_of(0, shared);
    const auto rest = tokens_of(prompt, kChunksMax * kChunk - shared);
    sample.tokens.insert(sample.tokens.end(), rest.begin(), rest.end());
    const std::uint64_t begin = below(kChunksMax);
    sample.start = begin * kChunk;
    sample.end = (begin + 1 + below(kChunksMax - begin)) * kChunk;
    if (chance(10)) sample.end += below(kChunk);
    if (chance(2)) {  // So long that it takes several turns.
      const auto more = tokens_of(9, 100'000);
      sample.tokens.insert(sample.tokens.end(), more.begin(), more.end());
    }
    sample.world_size = ranks_;
    sample.worker = worker < 0 ? worker : static_cast<std::int64_t>(below(ranks_));
    sample.form = chance(50) ? wire::TokenForm::kIds : wire::TokenForm::kBytes;
    if (chance(20)) sample.salt = "tenant";
    sample.kv_readers = below(3);
    return sample;
  }
  /// Sends, perhaps with a broken argument.
  void send_one(Operation operation, std::vector<wire::Bytes> arguments) {
    if (chance(6)) {
      wire::Bytes& broken = arguments[below(arguments.size())];
      if (!broken.empty()) broken[below(broken.size())] = static_cast<std::byte>(below(256));
    } else if (chance(3)) {
      arguments.pop_back();
    }
    ++sent_;
    ServiceFixture::send(operation, std::move(arguments), connection());
  }

  // ---- Workers, which do their part at once or leave it.
  std::uint64_t stamp_of(const wire::KeySample& sample, std::uint64_t chunk,
                         std::uint64_t group) const {
    std::string name =
        sample.salt + "/" + std::to_string(sample.worker) + "/" + std::to_string(group) + "/";
    for (std::uint64_t i = 0; i < (chunk + 1) * kChunk; ++i) {
      name += std::to_string(sample.tokens[i]) + ",";
    }
    return std::hash<std::string>{}(name);
  }
  std::byte* memory(const SlotSeen& slot) { return arena().base() + slot.offset; }

  void store() {
    const wire::KeySample stored = sample(0);
    const std::uint64_t by = instance();
    const std::uint64_t over = connection();
    const Reply reply = ask_now(Operation::kPrepareStore, {make_key(stored), number(by)}, over);
    const SlotsSeen seen = read_slots(*reply.payload);
    ASSERT_EQ(seen.slots.size(), seen.chunks.size());
    for (std::size_t i = 0; i < seen.slots.size(); ++i) {
      const std::uint64_t stamp =
          stamp_of(stored, stored.start / kChunk + seen.chunks[i], seen.groups[i]);
      for (std::uint64_t at = 0; at < seen.slots[i].bytes; at += sizeof stamp) {
        std::memcpy(memory(seen.slots[i]) + at, &stamp, sizeof stamp);
      }
    }
    if (chance(15)) return;  // It dies, or comes back later.
    ask_now(Operation::kCommitStore, {make_key(stored), number(by), binary("")}, over);
    stored_.push_back(stored);
  }
  void retrieve() {
    wire::KeySample wanted = sample(0);
    if (!stored_.empty() && chance(70)) {
      wanted = stored_[below(stored_.size())];
      wanted.request_id = request();
    }
    const std::uint64_t by = instance();
    const std::uint64_t over = connection();
    const Reply reply = ask_now(Operation::kPrepareRetrieve, {make_key(wanted), number(by)}, over);
    const SlotsSeen seen = read_slots(*reply.payload);
    if (seen.success) {
      ++retrieved_;
      const auto expected = slots_expected((wanted.end - wanted.start) / kChunk, seen);
      ASSERT_EQ(seen.slots.size(), expected.size());
      for (std::size_t i = 0; i < seen.slots.size(); ++i) {
        const auto [group, chunk] = expected[i];
        if (!windows_.empty()) {
          ASSERT_EQ(std::pair(seen.groups[i], seen.chunks[i]), expected[i]);
        }
        const std::uint64_t stamp = stamp_of(wanted, wanted.start / kChunk + chunk, group);
        for (std::uint64_t at = 0; at < seen.slots[i].bytes; at += sizeof stamp) {
          ASSERT_EQ(std::memcmp(memory(seen.slots[i]) + at, &stamp, sizeof stamp), 0);
        }
      }
    }
    if (chance(15)) return;
    ask_now(Operation::kCommitRetrieve, {make_key(wanted), number(by)}, over);
  }
  /// Group and chunk of each slot of a retrieve, as LMCache's client checks them.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> slots_expected(std::uint64_t chunks,
                                                                      const SlotsSeen& seen) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> expected;
    const std::uint64_t groups = seen.groups.empty() ? 1 : seen.groups.back() + 1;
    for (std::uint64_t group = 0; group < groups; ++group) {
      const std::uint64_t window = windows_.empty() ? 0 : windows_[group];
      const std::uint64_t first = window == 0 || window > chunks ? 0 : chunks - window;
      for (std::uint64_t chunk = first; chunk < chunks; ++chunk) {
        expected.emplace_back(group, chunk);
      }
    }
    return expected;
  }
  /// One reply, behind whatever else was sent.
  Reply ask_now(Operation operation, std::vector<wire::Bytes> arguments, std::uint64_t over) {
    ++sent_;
    const std::size_t before = replies.size();
    ServiceFixture::send(operation, std::move(arguments), over);
    if (replies.size() == before) turn();
    EXPECT_GT(replies.size(), before);
    return replies.back();
  }

  void finish_tiers() {
    for (cache::ScriptedTier* const tier : scripted) {
      tier->holds = false;
      tier->finish_all();
    }
  }

  /// Time passes until no answer is pending; then every request has one reply.
  void settle() {
    for (cache::ScriptedTier* const tier : scripted) tier->holds = chance(30);
    turn(chance(3) ? 6 * kSecond : 3'000'000);
    if (chance(3)) pass(11 * kSecond);
    if (chance(5)) service().on_closed(ConnectionId{connection()});
    if (chance(70)) finish_tiers();
    for (int i = 0; i < 20 && replies.size() < sent_; ++i) {
      finish_tiers();
      turn(200'000'000);
    }
    EXPECT_EQ(replies.size(), sent_);
    service().check_invariants();
  }
  /// The server ends, and so do its clients.
  void end() {
    service().drain(now_ns + kSecond);
    finish_tiers();
    for (int i = 0; i < 20 && !service().drain(now_ns + kSecond); ++i) turn(100'000'000);
    EXPECT_EQ(status().engine.lookups_running, 0U);
    EXPECT_EQ(status().engine.l2_batches, 0U);
    for (std::uint64_t each = 1; each < 4; ++each) {
      ServiceFixture::send(Operation::kUnregisterEngineDriven, {number(each + 6)}, each);
      service().on_closed(ConnectionId{each});
    }
    pass(30 * kSecond);
    const cache::EngineStats left = status().engine;
    EXPECT_EQ(left.sessions + left.owners + left.reads_open + left.writes_open, 0U);
    EXPECT_EQ(left.locked_bytes + left.quarantine_bytes + left.orphan_bytes, 0U);
    EXPECT_EQ(left.writing_bytes + left.loading_bytes, 0U);
  }

  std::uint64_t ranks_ = 1;
  std::vector<std::uint64_t> windows_;  ///< By group; empty: one group, as LMCache 0.5.6 has it.
  Random random_{static_cast<std::uint64_t>(GetParam())};
  std::size_t sent_ = 0;
  std::size_t retrieved_ = 0;
  std::vector<wire::KeySample> stored_;
};

TEST_P(ServiceRandomTest, EveryRequestIsAnsweredAndEveryByteIsRight) {
  capacity_bytes = 20 * 4096;
  options.engine.write_ttl_ns = 10 * kSecond;
  if (chance(50)) add_tier().copies = true;
  run();
  EXPECT_GT(retrieved_, 0U);
  end();
}

TEST_P(ServiceRandomTest, SoItIsForSeveralRanksGroupsAndTiers) {
  capacity_bytes = (20 + below(100)) * 4096;
  options.engine.write_ttl_ns = 10 * kSecond;
  ranks_ = 2;
  windows_ = {0, 1, 2};
  for (std::uint64_t tiers = below(3); tiers-- > 0;) {
    cache::ScriptedTier& tier = add_tier();
    tier.copies = true;
    tier.has_probe = chance(50);
    if (chance(30)) tier.locality = Locality::kMemory;
  }
  if (chance(50)) options.engine.promote = cache::Promote::kRetain;
  run();
  end();
}

INSTANTIATE_TEST_SUITE_P(Seeds, ServiceRandomTest, ::testing::Range(1, 41));

}  // namespace
}  // namespace larder::server
