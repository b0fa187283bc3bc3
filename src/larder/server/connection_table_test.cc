#include "larder/server/connection_table.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

constexpr std::uint64_t kMuch = 1000 << 20;

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
  EXPECT_EQ(table.unfinished_bytes(7, kMuch, true), kMuch);  // Nothing was ever delivered.
  EXPECT_EQ(table.unfinished_bytes(8, kMuch, true), 0U);

  table.on_message(kMade, 7, kMuch);
  EXPECT_EQ(table.unfinished_bytes(7, 3 * kMuch, true), 2 * kMuch);
}

TEST(ConnectionTableTest, DoesNotTakeWaitingMessagesForUnfinishedOnes) {
  ConnectionTable table;
  table.on_accepted(7);
  table.on_message(kMade, 7, 10);
  EXPECT_EQ(table.unfinished_bytes(7, kMuch, false), 0U);
  // A connection whose messages had ended would have delivered one since.
  EXPECT_EQ(table.unfinished_bytes(7, kMuch, false), kMuch - 10);
}

TEST(ConnectionTableTest, ExpectsTheLargestMessageOfAllThatWereAnnounced) {
  ConnectionTable table;
  table.on_accepted(7);
  const ConnectionId connection = table.on_message(kMade, 7, 10);
  EXPECT_EQ(table.expected_bytes(7), 0U);
  table.expect(connection, kMuch);
  table.expect(connection, 5);
  EXPECT_EQ(table.expected_bytes(7), kMuch);
  table.on_disconnected(7);
  table.expect(connection, kMuch);
  table.on_accepted(7);
  EXPECT_EQ(table.expected_bytes(7), 0U);
}

TEST(ConnectionTableTest, CountsNothingMoreOfASocketThatWasShut) {
  ConnectionTable table;
  table.on_accepted(7);
  table.note_shut(7);
  EXPECT_EQ(table.unfinished_bytes(7, kMuch, true), 0U);
}

TEST(ConnectionTableTest, DoesNotAddUpWhatIsOfNoMessage) {
  ConnectionTable table;
  table.on_accepted(7);
  std::uint64_t received = 0;
  for (int i = 0; i < 5000; ++i) {
    received += 10 + (1 << 20);
    table.on_message(kMade, 7, 10);
    ASSERT_EQ(table.unfinished_bytes(7, received, true), 0U);
  }
  // A begun message is different: nothing is delivered meanwhile.
  received += 1 << 20;
  EXPECT_EQ(table.unfinished_bytes(7, received, true), 1U << 20);
  received += 1 << 20;
  EXPECT_EQ(table.unfinished_bytes(7, received, true), 2U << 20);
}

}  // namespace
}  // namespace larder::server
