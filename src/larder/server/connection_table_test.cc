#include "larder/server/connection_table.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

constexpr std::uint64_t kMax = 1000 << 20;

const std::string kMade{"\0made", 5};  // As libzmq makes them.
const std::string kMadeLater{"\0late", 5};
using Ids = std::vector<ConnectionId>;

TEST(ConnectionTableTest, KnowsAPeerAgain) {
  ConnectionTable table;
  table.on_accepted(7);
  table.on_accepted(8);
  const ConnectionId first = table.on_message(kMade, 7, 10);
  const ConnectionId second = table.on_message("chosen", 8, 10);
  EXPECT_NE(first, second);
  EXPECT_EQ(table.on_message(kMade, 7, 10), first);
  EXPECT_EQ(table.on_message("chosen", 8, 10), second);
  EXPECT_EQ(*table.identity(first), kMade);
  EXPECT_EQ(table.sockets(), 2U);
}

TEST(ConnectionTableTest, ForgetsWhatHasClosed) {
  ConnectionTable table;
  table.on_accepted(7);
  const ConnectionId first = table.on_message(kMade, 7, 10);
  table.on_disconnected(7);
  EXPECT_EQ(table.identity(first), nullptr);
  EXPECT_EQ(table.closed(), 1U);
  EXPECT_EQ(table.take_closed(), Ids{first});
  EXPECT_EQ(table.take_closed(), Ids{});
  EXPECT_FALSE(table.knows(kMade));
  EXPECT_EQ(table.sockets(), 0U);
}

TEST(ConnectionTableTest, DeliversTheLastMessagesOfAClosedSocketAsItsOwn) {
  ConnectionTable table;
  table.on_accepted(7);
  const ConnectionId first = table.on_message(kMade, 7, 10);
  table.on_disconnected(7);
  EXPECT_EQ(table.on_message(kMade, 7, 10), first);
  table.on_accepted(7);  // By another peer.
  EXPECT_EQ(table.on_message(kMade, 7, 10), first);
  EXPECT_EQ(table.take_closed(), Ids{first});
}

TEST(ConnectionTableTest, TellsAPeerWithAChosenIdentityThatHasComeBack) {
  ConnectionTable table;
  table.on_accepted(7);
  const ConnectionId first = table.on_message("chosen", 7, 10);
  table.on_disconnected(7);
  table.on_accepted(7);
  const ConnectionId second = table.on_message("chosen", 7, 10);
  EXPECT_NE(second, first);
  EXPECT_EQ(table.identity(first), nullptr);
  EXPECT_EQ(table.take_closed(), Ids{first});
  EXPECT_EQ(table.on_message("chosen", 7, 10), second);

  table.on_accepted(9);
  const ConnectionId third = table.on_message("chosen", 9, 10);
  EXPECT_NE(third, second);
  EXPECT_EQ(table.take_closed(), Ids{second});
}

TEST(ConnectionTableTest, ClosesASocketThatEndedWithoutAWord) {
  ConnectionTable table;
  table.on_accepted(7);
  const ConnectionId first = table.on_message(kMade, 7, 10);
  table.on_accepted(7);
  EXPECT_EQ(table.take_closed(), Ids{first});
  EXPECT_EQ(table.sockets(), 1U);
}

TEST(ConnectionTableTest, KeepsNothingOfMessagesThatAreReadLate) {
  ConnectionTable table;
  table.on_accepted(7);
  table.on_disconnected(7);
  const ConnectionId late = table.on_message(kMade, 7, 10);
  EXPECT_EQ(table.take_closed(), Ids{late});

  // The descriptor is another peer's already.
  table.on_accepted(7);
  const ConnectionId later = table.on_message(kMadeLater, 7, 10);
  const ConnectionId right = table.on_message(kMade, 7, 10);
  EXPECT_EQ(table.take_closed(), Ids{});
  table.on_disconnected(7);
  EXPECT_EQ(table.take_closed(), (Ids{later, right}));
  EXPECT_FALSE(table.knows(kMade));
  EXPECT_FALSE(table.knows(kMadeLater));
}

TEST(ConnectionTableTest, SeesAMessageThatDoesNotEnd) {
  ConnectionTable table;
  table.on_accepted(7);
  EXPECT_FALSE(table.has_unfinished(7, kMax, kMax));
  EXPECT_TRUE(table.has_unfinished(7, kMax + 1, kMax));  // Of a peer that delivered nothing ever.
  EXPECT_FALSE(table.has_unfinished(8, kMax + 1, kMax));

  table.on_message(kMade, 7, kMax);
  EXPECT_FALSE(table.has_unfinished(7, 2 * kMax, kMax));
  EXPECT_TRUE(table.has_unfinished(7, 2 * kMax + 1, kMax));
}

TEST(ConnectionTableTest, DoesNotAddUpWhatIsOfNoMessage) {
  ConnectionTable table;
  table.on_accepted(7);
  std::uint64_t received = 0;
  for (int i = 0; i < 5000; ++i) {
    received += 10 + (1 << 20);
    table.on_message(kMade, 7, 10);
    ASSERT_FALSE(table.has_unfinished(7, received, kMax));
  }
  // A message that has begun is not of that kind: nothing is delivered meanwhile.
  bool is_seen = false;
  for (int i = 0; i < 1100 && !is_seen; ++i) {
    received += 1 << 20;
    is_seen = table.has_unfinished(7, received, kMax);
  }
  EXPECT_TRUE(is_seen);
}

}  // namespace
}  // namespace larder::server
