#include "larder/server/router.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "larder/server/router_test_support.h"
#include "larder/wire/limits.h"
#include "tests/support/eventually.h"
#include "tests/support/temporary_directory.h"

namespace larder::server::testing {
namespace {

TEST(RouterTest, EchoesUidAndOperationByteForByte) {
  RouterHost host;
  Dealer client{host.router().port()};
  const std::string uid{"\0\xFFuid", 5};
  client.send({uid, std::string{"\x93\0", 2}, "argument"});
  std::optional<Frames> reply;
  ASSERT_TRUE(host.run_until([&] { return (reply = client.receive()).has_value(); }));
  EXPECT_EQ(*reply, (Frames{uid, std::string{"\x93\0", 2}, "x"}));
  ASSERT_EQ(host.received.size(), 1U);
  EXPECT_EQ(host.received[0].frames, (Frames{uid, std::string{"\x93\0", 2}, "argument"}));
}

TEST(RouterTest, AnswersWhatWasThereWhenItWasAskedForInput) {
  RouterHost host;
  Dealer client{host.router().port()};
  client.send({"uid", "operation"});
  ASSERT_TRUE(larder::testing::eventually([&] { return host.router().has_input(); }));
  std::optional<Frames> reply;
  ASSERT_TRUE(host.run_until([&] { return (reply = client.receive()).has_value(); }));
  EXPECT_EQ(*reply, (Frames{"uid", "operation", "x"}));
}

TEST(RouterTest, LeavesTheThirdFrameOut) {
  RouterHost host;
  host.has_payload = false;
  Dealer client{host.router().port()};
  client.send({"uid", "operation"});
  std::optional<Frames> reply;
  ASSERT_TRUE(host.run_until([&] { return (reply = client.receive()).has_value(); }));
  EXPECT_EQ(*reply, (Frames{"uid", "operation"}));
}

TEST(RouterTest, KeepsFramesInPlaceWhileTheMessageLives) {
  class Keeper final : public Router::Handler {
   public:
    void on_message(ConnectionId /*connection*/, std::unique_ptr<Message> message) override {
      kept.push_back(std::move(message));
    }
    void on_closed(ConnectionId /*connection*/) override {}
    std::vector<std::unique_ptr<Message>> kept;
  };
  RouterHost host;
  Dealer client{host.router().port()};
  const std::string large(541'618, 't');
  for (int i = 0; i < 20; ++i) client.send({std::to_string(i), large});
  Keeper keeper;
  ASSERT_TRUE(host.run_until([&] {
    while (host.router().receive(keeper, 64)) {
    }
    return keeper.kept.size() + host.received.size() == 20;
  }));
  int number = static_cast<int>(host.received.size());
  for (const auto& message : keeper.kept) {
    ASSERT_EQ(message->frames().size(), 2U);
    EXPECT_EQ(as_text(message->frames()[0]).size(), number < 10 ? 1U : 2U);
    EXPECT_EQ(as_text(message->frames()[1]), large);
    ++number;
  }
}

TEST(RouterTest, NumbersConnectionsAndSaysWhenOneCloses) {
  RouterHost host;
  auto first = std::make_unique<Dealer>(host.router().port());
  ASSERT_TRUE(is_answered(host, *first));
  Dealer second{host.router().port()};
  ASSERT_TRUE(is_answered(host, second));
  ASSERT_TRUE(is_answered(host, *first));
  const ConnectionId id = host.received[0].connection;
  EXPECT_NE(host.received[1].connection, id);
  EXPECT_EQ(host.received[2].connection, id);
  EXPECT_EQ(host.router().connections(), 2U);

  first.reset();
  ASSERT_TRUE(host.run_until([&] { return !host.closed.empty(); }));
  EXPECT_EQ(host.closed, std::vector{id});
  EXPECT_EQ(host.router().connections(), 1U);
  EXPECT_TRUE(is_answered(host, second));
}

TEST(RouterTest, GivesAnotherNumberAfterAReconnect) {
  for (const std::string identity : {"", "chosen by the client"}) {
    RouterHost host;
    for (int i = 0; i < 3; ++i) {
      auto client = std::make_unique<Dealer>(host.router().port(), identity);
      ASSERT_TRUE(is_answered(host, *client));
      client.reset();
      ASSERT_TRUE(host.run_until([&] { return host.router().connections() == 0; }));
    }
    ASSERT_TRUE(host.run_until([&] { return host.closed.size() == 3; }));
    const std::set<ConnectionId> numbers{host.closed.begin(), host.closed.end()};
    EXPECT_EQ(numbers.size(), 3U);
  }
}

TEST(RouterTest, CountsRepliesToWhoIsGone) {
  RouterHost host;
  auto client = std::make_unique<Dealer>(host.router().port());
  ASSERT_TRUE(is_answered(host, *client));
  client.reset();
  ASSERT_TRUE(host.run_until([&] { return !host.closed.empty(); }));
  host.router().send(host.closed[0], {}, {}, nullptr);
  EXPECT_EQ(host.router().replies_dropped(), 1U);
  host.router().send(ConnectionId{12345}, {}, {}, nullptr);
  EXPECT_EQ(host.router().replies_dropped(), 2U);
}

TEST(RouterTest, ShowsOneFrameMoreThanMayBe) {
  RouterHost host;
  Dealer client{host.router().port()};
  client.send(Frames(wire::limits::kFrames + 5, "frame"));
  ASSERT_TRUE(host.run_until_received(1));
  EXPECT_EQ(host.received[0].frames, Frames(wire::limits::kFrames + 1, "frame"));
  client.send({"uid"});
  ASSERT_TRUE(host.run_until_received(2));
  EXPECT_EQ(host.received[1].frames, Frames{"uid"});
}

TEST(RouterTest, HandsOutNoMoreThanItIsAskedFor) {
  class Counter final : public Router::Handler {
   public:
    void on_message(ConnectionId /*connection*/, std::unique_ptr<Message> /*message*/) override {
      ++count;
    }
    void on_closed(ConnectionId /*connection*/) override {}
    std::size_t count = 0;
  };
  RouterHost host;
  Dealer client{host.router().port()};
  ASSERT_TRUE(is_answered(host, client));
  for (int i = 0; i < 10; ++i) client.send({"uid", "operation"});
  Counter counter;
  std::size_t before = 0;
  ASSERT_TRUE(host.run_until([&] {
    before = counter.count;
    host.router().receive(counter, 3);
    EXPECT_LE(counter.count - before, 3U);
    return counter.count + host.received.size() == 11;
  }));
}

TEST(RouterTest, ListensAtAnIPv6Address) {
  RouterHost host{{.host = "[::1]", .port = 0}};
  Dealer client{"tcp://[::1]:" + std::to_string(host.router().port())};
  EXPECT_TRUE(is_answered(host, client));
}

TEST(RouterTest, ListensAtAName) {
  RouterHost host{{.host = "localhost", .port = 0}};
  Dealer client{host.router().port()};
  EXPECT_TRUE(is_answered(host, client));
}

TEST(RouterTest, NamesAPortInUse) {
  RouterHost host;
  const std::uint16_t port = host.router().port();
  const auto second = Router::open({.host = "127.0.0.1", .port = port});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text,
            "cannot listen at tcp://127.0.0.1:" + std::to_string(port) + ": port " +
                std::to_string(port) + " is in use; `ss -ltnp 'sport = :" + std::to_string(port) +
                "'` shows by which process. Stop that process, or choose another port with --port");
}

TEST(RouterTest, NamesAnAddressOfAnotherMachine) {
  const auto router = Router::open({.host = "192.0.2.1", .port = 0});
  ASSERT_FALSE(router);
  EXPECT_NE(router.error().text.find("this machine has no such address"), std::string::npos)
      << router.error().text;
}

TEST(RouterTest, ListensAtAUnixSocketOfItsUserOnly) {
  const larder::testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/larder.sock";
  {
    RouterHost host{{.host = "127.0.0.1", .port = 0, .ipc_path = path}};
    struct ::stat made{};
    ASSERT_EQ(::stat(path.c_str(), &made), 0);
    EXPECT_EQ(made.st_mode & 07777U, 0600U);
    auto client = std::make_unique<Dealer>("ipc://" + path);
    ASSERT_TRUE(is_answered(host, *client));
    Dealer by_tcp{host.router().port()};
    ASSERT_TRUE(is_answered(host, by_tcp));
    host.router().look_for_floods(true);
    client.reset();
    EXPECT_TRUE(host.run_until([&] { return host.router().connections() == 1; }));
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace larder::server::testing
