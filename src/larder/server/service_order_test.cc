#include <gtest/gtest.h>

#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

// ---- Requests that are worked off after others of their connection, or after its end.

class SlowRequestTest : public ServiceFixture {
 protected:
  /// Like key(), with so many tokens after the range that hashing takes several turns.
  wire::KeySample slow_key(std::string request, std::uint32_t prompt, std::uint64_t end) {
    wire::KeySample sample = key(std::move(request), prompt, 0, end);
    sample.tokens = tokens_of(prompt, 400'000);
    return sample;
  }
};

TEST_F(SlowRequestTest, LocksOfALookupEndSoonWhereTheConnectionClosedBeforeIt) {
  register_worker();
  store(key("r", 1, 0, 32));
  wire::KeySample sample = slow_key("s", 1, 32);
  sample.worker = -1;
  send(Operation::kLookup, {make_key(sample), number(1)});
  service().on_closed(ConnectionId{1});
  ASSERT_EQ(status().keys_waiting, 1U);
  turn();
  ASSERT_EQ(status().keys_waiting, 0U);
  EXPECT_GT(status().engine.locked_bytes, 0U);
  pass(6 * kSecond);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_EQ(status().engine.sessions, 0U);
}

TEST_F(SlowRequestTest, ATransferOfAClosedConnectionDoesNotHoldTheInstance) {
  register_worker();
  send(Operation::kPrepareStore, {make_key(slow_key("r", 1, 32)), number(7)}, 2);
  service().on_closed(ConnectionId{2});
  ASSERT_EQ(status().keys_waiting, 1U);
  turn();
  EXPECT_EQ(register_worker({}, 3).error(), "");
}

TEST_F(SlowRequestTest, ATransferOfAClosedConnectionDoesNotMoveTheInstanceBack) {
  register_worker();
  send(Operation::kPrepareStore, {make_key(slow_key("r", 1, 32)), number(7)}, 2);
  service().on_closed(ConnectionId{2});
  ping(4, 7);
  turn();
  pass(12 * kSecond);
  ASSERT_EQ(status().instances.size(), 1U);
  EXPECT_EQ(status().instances[0].connection, 4U);
}

TEST_F(SlowRequestTest, ARegistrationDoesNotOvertakeTheWorkersTransfers) {
  options.engine.write_ttl_ns = 10 * kSecond;
  register_worker();
  store(key("r", 1, 0, 32));
  replies.clear();
  send(Operation::kPrepareRetrieve, {make_key(slow_key("s", 1, 32)), number(7)}, 2);
  send(Operation::kRegisterEngineDriven, {make_registration({})}, 2);
  turn();
  ASSERT_EQ(replies.size(), 2U);
  // Transfers that the worker gave up with its registration are not open in the new one.
  turn(11 * kSecond);
  EXPECT_EQ(status().engine.reads_open, 0U);
}

// ---- Requests of two engines with one id (E6, E7).

class SameIdTest : public ServiceFixture {
 protected:
  /// Connection 1 has looked up two chunks as "r", and has not asked for the result.
  void look_up_first() {
    register_worker();
    store(key("a", 1, 0, 32));
    ask(Operation::kLookup, {make_key(key("r", 1, 0, 32, -1)), number(1)}, 1);
  }
};

TEST_F(SameIdTest, ALookupOfAnUnknownModelEndsNoOtherSession) {
  look_up_first();
  wire::KeySample other = key("r", 2, 0, 32, -1);
  other.model = "not registered";
  ask(Operation::kLookup, {make_key(other), number(1)}, 5);
  EXPECT_EQ(query("r", 1), 2U);
}

TEST_F(SameIdTest, ALookupThatShallNotLoadEndsAndTakesNothingOfAnother) {
  look_up_first();
  wire::KeySample other = key("r", 2, 0, 32, -1);
  other.configs = encoded([](wire::MsgpackWriter& writer) {
    writer.map(1);
    writer.text("lmcache.skip_load"), writer.boolean(true);
  });
  EXPECT_EQ(lookup(other, 5), 0U);
  EXPECT_EQ(query("r", 1), 2U);
}

TEST_F(SameIdTest, ALookupOfAnUnknownModelEndsTheSessionThatHadItsKey) {
  look_up_first();
  wire::KeySample other = key("r", 2, 0, 32);
  other.model = "not registered";
  EXPECT_EQ(lookup(other, 1), 0U);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
}

}  // namespace
}  // namespace larder::server
