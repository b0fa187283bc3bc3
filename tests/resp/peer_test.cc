#include <algorithm>
#include <array>
#include <atomic>

#include "larder/base/mutex.h"
#include "tests/resp/resp_test_support.h"

namespace larder::resp {
namespace {

using testing::ScriptedPeer;
using Answer = ScriptedPeer::Answer;
using Words = ScriptedPeer::Words;

std::string bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string{bytes} + "\r\n";
}

/// One connection for values, so that its order is seen; failures are forgotten at once.
std::string peer_spec(const ScriptedPeer& peer, const std::string& more = "") {
  return redis_spec(peer.port(), "connections=1&miss_after_failure=1ms" + more);
}

TEST(RespPeerTest, AnAnswerOneByteAtATimeIsAnAnswer) {
  const ScriptedPeer peer{[](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "GET") return Answer{.bytes = bulk_of(words[1], 3000), .one_by_one = true};
    if (words[0] == "SET") return Answer{.bytes = "+OK\r\n", .one_by_one = true};
    if (words[0] == "STRLEN") return Answer{.bytes = ":3000\r\n", .one_by_one = true};
    return std::nullopt;
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "a", 3000), ErrorCode::kNone);
  EXPECT_TRUE(is_hit(client, "a", 3000));
  EXPECT_EQ(*client.exists("a").value(), 3000U);
}

/// The first GET ends in a reset after `cut` bytes of its answer; the second one is answered.
void expect_a_retry_after(std::size_t cut) {
  std::atomic<int> gets = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "GET" || words[1] != "key") return std::nullopt;
    const std::string whole = bulk_of(words[1], 100'000);
    if (gets.fetch_add(1) > 0) return Answer{.bytes = whole};
    return Answer{.bytes = whole.substr(0, cut), .resets = true};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_hit(client, "key", 100'000));
  EXPECT_EQ(gets.load(), 2);
  EXPECT_EQ(counter_of(*connector, "retries_total"), 1U);
}

TEST(RespPeerTest, AResetBeforeInsideAndAfterTheHeaderIsRetriedOnce) {
  for (const std::size_t cut : {0U, 1U, 4U, 9U}) expect_a_retry_after(cut);
}

TEST(RespPeerTest, AResetInsideAndAtTheEndOfThePayloadIsRetriedOnce) {
  for (const std::size_t cut : {10U, 70'000U, 100'009U, 100'010U}) expect_a_retry_after(cut);
}

TEST(RespPeerTest, ASecondResetIsTheKeysFailure) {
  const ScriptedPeer peer{[](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "GET" && words[1] == "bad") return Answer{.bytes = "$5\r\nab", .resets = true};
    if (words[0] == "GET") return Answer{.bytes = bulk_of(words[1], 5)};
    return std::nullopt;
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_EQ(get_code(client, "bad", 5), ErrorCode::kUnavailable);
  EXPECT_TRUE(eventually([&] { return is_hit(client, "good", 5); }));
}

TEST(RespPeerTest, AMissAfterAHalfReadValueIsNoMiss) {
  std::atomic<int> gets = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "GET" || words[1] != "key") return std::nullopt;
    if (gets.fetch_add(1) > 0) return Answer{.bytes = "$-1\r\n"};
    return Answer{.bytes = "$5\r\nab", .resets = true};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  // The buffer was written to, which a miss would deny.
  EXPECT_EQ(get_code(client, "key", 5), ErrorCode::kUnavailable);
}

TEST(RespPeerTest, AStoreWhoseAnswerIsLostFailsAndIsNotSentAgain) {
  std::atomic<int> sets = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "SET") return std::nullopt;
    if (sets.fetch_add(1) > 0) return Answer{.bytes = "+OK\r\n"};
    return Answer{.bytes = "+O", .resets = true};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "key", 100), ErrorCode::kUnavailable);
  EXPECT_EQ(sets.load(), 1);
  EXPECT_EQ(set_code(client, "key", 100), ErrorCode::kNone);
}

TEST(RespPeerTest, GarbageAndAnswersOfAnotherKindCloseTheConnection) {
  for (const std::string garbage :
       {"HTTP/1.1 400 Bad Request\r\n\r\n", ":1\r\n", "+OK\r\n", "*1\r\n$1\r\na\r\n", "$-2\r\n",
        "$5\r\nabcdefg\r\n", "$99999999999999999999\r\n", "\r\n", "*-1\n"}) {
    std::atomic<int> last_connection = 0;
    const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
      if (words[0] != "GET") return std::nullopt;
      last_connection.store(connection);
      if (words[1] == "bad") return Answer{.bytes = garbage};
      return Answer{.bytes = bulk_of(words[1], 5)};
    }};
    const Opened connector{peer_spec(peer)};
    BlockingClient client{*connector};
    EXPECT_TRUE(is_hit(client, "before", 5)) << garbage;
    const int before = last_connection.load();
    EXPECT_EQ(get_code(client, "bad", 5), ErrorCode::kUnavailable) << garbage;
    EXPECT_TRUE(is_hit(client, "after", 5)) << garbage;
    EXPECT_GT(last_connection.load(), before) << garbage;
  }
}

TEST(RespPeerTest, AValueOfAnotherSizeIsReadToItsEnd) {
  // It looks like answers to what comes next.
  const std::string crafted =
      "$5\r\nYYYYY\r\n+OK\r\n:1\r\n$-1\r\n-ERR\r\n" + std::string(70'000, '$');
  std::atomic<int> connections = 0;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    if (words[0] == "SET") return Answer{.bytes = "+OK\r\n"};
    if (words[0] != "GET") return std::nullopt;
    connections.store(connection);
    return Answer{.bytes = words[1] == "large" ? bulk(crafted) : bulk_of(words[1], 5)};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_hit(client, "first", 5));
  const int before = connections.load();
  for (const std::size_t room : {std::size_t{5}, std::size_t{10'000}, crafted.size() + 1}) {
    std::vector<std::byte> buffer(room);
    const auto got = client.get_into("large", buffer);
    ASSERT_FALSE(got.has_value());
    EXPECT_EQ(got.error().code(), ErrorCode::kSizeMismatch);
    EXPECT_TRUE(is_hit(client, "next" + std::to_string(room), 5));
  }
  EXPECT_EQ(connections.load(), before);
}

TEST(RespPeerTest, BothSizesOfAMismatchAreTold) {
  const ScriptedPeer peer{[](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "GET") return Answer{.bytes = bulk(std::string(1234, 'x'))};
    return std::nullopt;
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  std::vector<std::byte> memory(1000);
  const Slice slice{memory.data(), memory.size()};
  Item item;
  item.key = bytes_of_text("key");
  item.value = {&slice, 1};
  Batch batch;
  batch.items = {&item, 1};
  ASSERT_TRUE(client.run(batch).has_value());
  EXPECT_EQ(item.error.code(), ErrorCode::kSizeMismatch);
  EXPECT_EQ(item.value_bytes, 1234U);
}

TEST(RespPeerTest, EveryErrorReplyIsTheKeysOwnAndKeepsTheConnectionInStep) {
  struct Case {
    const char* reply;
    ErrorCode code;
  };
  for (const Case& one :
       {Case{"-LOADING Redis is loading the dataset in memory", ErrorCode::kUnavailable},
        Case{"-BUSY Redis is busy running a script.", ErrorCode::kUnavailable},
        Case{"-OOM command not allowed when used memory > 'maxmemory'.",
             ErrorCode::kResourceExhausted},
        Case{"-MISCONF Redis is configured to save", ErrorCode::kUnavailable},
        Case{"-MOVED 3999 127.0.0.1:6381", ErrorCode::kUnimplemented},
        Case{"-ASK 3999 127.0.0.1:6381", ErrorCode::kUnimplemented},
        Case{"-NOPERM this user has no permissions", ErrorCode::kUnavailable},
        Case{"-WRONGTYPE Operation against a key", ErrorCode::kCorruption},
        Case{"-ERR whatever", ErrorCode::kIo}, Case{"-", ErrorCode::kIo}}) {
    std::atomic<int> connections = 0;
    const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
      if (words[0] != "GET" && words[0] != "SET") return std::nullopt;
      connections.store(connection);
      if (words[1] == "bad") return Answer{.bytes = std::string{one.reply} + "\r\n"};
      return Answer{.bytes = words[0] == "SET" ? "+OK\r\n" : bulk_of(words[1], 5)};
    }};
    const Opened connector{peer_spec(peer)};
    BlockingClient client{*connector};
    EXPECT_TRUE(is_hit(client, "before", 5)) << one.reply;
    const int before = connections.load();
    EXPECT_EQ(set_code(client, "bad", 5), one.code) << one.reply;
    EXPECT_EQ(set_code(client, "good", 5), ErrorCode::kNone) << one.reply;
    EXPECT_EQ(get_code(client, "bad", 5), one.code) << one.reply;
    EXPECT_TRUE(is_hit(client, "after", 5)) << one.reply;
    EXPECT_EQ(set_code(client, "after", 5), ErrorCode::kNone) << one.reply;
    EXPECT_EQ(connections.load(), before) << one.reply;
    // What was refused is over, and shows as failures of the last minute only.
    for (const std::string& reason : connector->report().reasons) {
      EXPECT_NE(reason.find("of the last minute failed"), std::string::npos) << reason;
    }
  }
}

TEST(RespPeerTest, ARefusalShowsInTheReportUntilSomethingWorks) {
  std::atomic<bool> is_loading = true;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "SET") return std::nullopt;
    return Answer{.bytes = is_loading ? "-LOADING Redis is loading\r\n" : "+OK\r\n"};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kUnavailable);
  EXPECT_EQ(connector->report().health, Health::kDown);
  EXPECT_NE(text_of_report(*connector).find("LOADING"), std::string::npos);
  is_loading = false;
  EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kNone);
  const Report report = connector->report();
  ASSERT_EQ(report.reasons.size(), 1U) << text_of_report(*connector);
  EXPECT_TRUE(report.reasons[0].starts_with("1 of 2 stores of the last minute failed"));
}

TEST(RespPeerTest, ALateAnswerIsDroppedAndTheNextOneIsFound) {
  std::atomic<int> gets = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "GET") return std::nullopt;
    // The first key's answer comes together with the second's.
    if (gets.fetch_add(1) == 0) return Answer{};
    return Answer{.bytes = bulk_of("late", 5) + bulk_of(words[1], 5)};
  }};
  const Opened connector{peer_spec(peer)};
  BlockingClient hasty{*connector, 100 * kMillisecondNs};
  BlockingClient client{*connector};
  EXPECT_EQ(get_code(hasty, "late", 5), ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(is_hit(client, "next", 5));
}

TEST(RespPeerTest, AfterADeadlineInsideOfAValueItsMemoryIsTheCallersAgain) {
  std::atomic<int> gets = 0;
  const std::string whole = bulk_of("half", 100'000);
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "GET") return std::nullopt;
    if (gets.fetch_add(1) == 0) return Answer{.bytes = whole.substr(0, 50'000)};
    return Answer{.bytes = whole.substr(50'000) + bulk_of(words[1], 5)};
  }};
  const Opened connector{peer_spec(peer, "&pipeline=1MiB")};
  std::vector<std::byte> memory(100'000);
  BlockingClient hasty{*connector, 100 * kMillisecondNs};
  const auto got = hasty.get_into("half", memory);
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code(), ErrorCode::kDeadlineExceeded);
  const std::vector<std::byte> mark(memory.size(), std::byte{0xEE});
  memory = mark;
  BlockingClient client{*connector};
  EXPECT_TRUE(is_hit(client, "next", 5));
  EXPECT_EQ(memory, mark);
}

TEST(RespPeerTest, AServerThatNeverAnswersIsLeftAfterTheTimeout) {
  std::atomic<int> connections = 0;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    if (words[0] == "GET") connections.store(connection);
    return std::nullopt;
  }};
  const Opened connector{peer_spec(peer, "&timeout=100ms")};
  BlockingClient client{*connector};
  EXPECT_EQ(get_code(client, "key", 5), ErrorCode::kUnavailable);
  EXPECT_GT(connections.load(), 1);  // 0 and 1 came first: it was tried on another one.
}

TEST(RespPeerTest, AServerThatDoesNotGreetIsDown) {
  const ScriptedPeer peer{[](const Words&, int) -> std::optional<Answer> { return Answer{}; }};
  const Opened connector{peer_spec(peer, "&connect_timeout=100ms")};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_missed_as_down(client, "key", 5));
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
}

TEST(RespPeerTest, SmallOperationsDoNotWaitForValues) {
  const ScriptedPeer peer{[](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "STRLEN") return Answer{.bytes = ":7\r\n"};
    if (words[0] == "UNLINK") return Answer{.bytes = ":1\r\n"};
    return std::nullopt;  // GET is never answered.
  }};
  const Opened connector{peer_spec(peer)};
  std::vector<std::byte> memory(5);
  const Slice slice{memory.data(), memory.size()};
  std::vector<Item> items(100);
  for (Item& item : items) {
    item.key = bytes_of_text("key");
    item.value = {&slice, 1};
  }
  Batch batch;
  batch.items = items;
  ASSERT_TRUE(connector->submit(batch).has_value());
  {
    // Not through a client: the Gets come back in between when they are cancelled at the end.
    Item small;
    small.key = bytes_of_text("key");
    Batch exists;
    exists.op = Op::kExists;
    exists.items = {&small, 1};
    ASSERT_TRUE(connector->submit(exists).has_value());
    std::array<Batch*, 2> done{};
    ASSERT_TRUE(eventually([&] { return connector->reap(done) == 1; }));
    EXPECT_EQ(done[0], &exists);
    EXPECT_EQ(small.value_bytes, 7U);
  }
  connector->cancel(batch);
  std::array<Batch*, 1> done{};
  ASSERT_TRUE(eventually([&] { return connector->reap(done) == 1; }));
  for (const Item& item : items) EXPECT_EQ(item.error.code(), ErrorCode::kCancelled);
}

TEST(RespPeerTest, TheGreetingSaysWhoAndWhere) {
  Mutex mutex;
  std::vector<Words> greeting;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    const MutexLock lock{mutex};
    if (connection == 0 && words[0] != "INFO") greeting.push_back(words);
    return std::nullopt;
  }};
  const Opened connector{
      redis_spec(peer.port(), "username=me&password=secret%20word&database=7&connections=1")};
  ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 2; }));
  const MutexLock lock{mutex};
  EXPECT_EQ(greeting, (std::vector<Words>{{"AUTH", "me", "secret word"},
                                          {"SELECT", "7"},
                                          {"CLIENT", "SETNAME", "larder"},
                                          {"PING"}}));
}

TEST(RespPeerTest, AnErrorReplyThatRepeatsThePasswordShowsItToNobody) {
  const ScriptedPeer peer{[](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "AUTH") return std::nullopt;
    return Answer{.bytes = "-ERR unknown command 'AUTH', with args beginning with: '" +
                           words.back() + "'\r\n"};
  }};
  const Opened connector{peer_spec(peer, "&password=tell-nobody")};
  BlockingClient client{*connector};
  const auto stored = client.set("key", value_of("key", 5));
  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().to_string().find("tell-nobody"), std::string::npos);
  EXPECT_NE(stored.error().to_string().find("AUTH"), std::string::npos)
      << stored.error().to_string();
  EXPECT_EQ(text_of_report(*connector).find("tell-nobody"), std::string::npos);
}

constexpr int kLoads = 16;
constexpr std::size_t kLoadBytes = std::size_t{1} << 20;

/// kLoads Gets in one batch.
struct Loads {
  explicit Loads(std::size_t bytes) {
    for (int i = 0; i < kLoads; ++i) {
      keys.push_back("load" + std::to_string(i));
      memory.emplace_back(bytes);
      slices.push_back({memory.back().data(), bytes});
    }
    for (std::size_t i = 0; i < kLoads; ++i) {
      items[i].key = bytes_of_text(keys[i]);
      items[i].value = std::span{slices}.subspan(i, 1);
    }
    batch.items = items;
  }
  bool are_hits() const {
    return std::ranges::all_of(items,
                               [](const Item& item) { return item.outcome == Outcome::kHit; });
  }

  std::vector<std::string> keys;
  std::vector<std::vector<std::byte>> memory;
  std::vector<Slice> slices;
  std::array<Item, kLoads> items;
  Batch batch;
};

TEST(RespPeerTest, LoadsUseAllConnectionsWhileThereAreNoLookups) {
  std::atomic<int> loading = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "GET" || words[1] == "larder:probe") return std::nullopt;
    ++loading;
    // All eight are here together, or this fails.
    EXPECT_TRUE(eventually([&] { return loading.load() >= 8; }));
    return Answer{.bytes = bulk_of(words[1], kLoadBytes)};
  }};
  const Opened connector{redis_spec(peer.port())};
  BlockingClient client{*connector};
  Loads loads{kLoadBytes};
  ASSERT_TRUE(client.run(loads.batch).has_value());
  EXPECT_TRUE(loads.are_hits());
}

TEST(RespPeerTest, OfLoadsThatTakeAServerLongFewAreBeforeAnyLookup) {
  constexpr std::size_t kLongBytes = std::size_t{4} << 20;
  std::atomic<int> asked = 0;
  std::atomic<bool> may_answer = false;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "STRLEN" && words[1] == "key") return Answer{.bytes = ":5\r\n"};
    if (words[0] != "GET" || words[1] == "larder:probe") return std::nullopt;
    ++asked;
    EXPECT_TRUE(eventually([&] { return may_answer.load(); }));
    return Answer{.bytes = bulk_of(words[1], kLongBytes)};
  }};
  const Opened connector{redis_spec(peer.port())};
  Loads loads{kLongBytes};
  ASSERT_TRUE(connector->submit(loads.batch).has_value());
  ASSERT_TRUE(eventually([&] { return asked.load() >= 2; }));
  // Round trips, in which the other connections would have asked as well.
  BlockingClient client{*connector};
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(client.exists("key").has_value());
  EXPECT_EQ(asked.load(), 2);
  may_answer = true;
  std::array<Batch*, 1> done{};
  EXPECT_TRUE(eventually([&] { return connector->reap(done) == 1; }));
  EXPECT_TRUE(loads.are_hits());
}

TEST(RespPeerTest, ALookupHasNoMoreThanOneLargeLoadBeforeIt) {
  std::atomic<bool> is_looked_up = false;
  std::atomic<int> loading = 0;
  std::atomic<int> loading_most = 0;
  std::atomic<int> loaded = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "STRLEN" && words[1] == "key") {
      is_looked_up = true;
      // Answered after all loads, so they are all beside it.
      EXPECT_TRUE(eventually([&] { return loaded.load() == kLoads; }));
      return Answer{.bytes = ":5\r\n"};
    }
    if (words[0] != "GET" || words[1] == "larder:probe") return std::nullopt;
    raise_to(loading_most, ++loading);
    const std::string bytes = bulk_of(words[1], kLoadBytes);
    --loading;
    ++loaded;
    return Answer{.bytes = bytes};
  }};
  const Opened connector{redis_spec(peer.port())};
  Item lookup;
  lookup.key = bytes_of_text("key");
  Batch lookups;
  lookups.op = Op::kExists;
  lookups.items = std::span{&lookup, 1};
  ASSERT_TRUE(connector->submit(lookups).has_value());
  ASSERT_TRUE(eventually([&] { return is_looked_up.load(); }));
  Loads loads{kLoadBytes};
  ASSERT_TRUE(connector->submit(loads.batch).has_value());
  std::array<Batch*, 2> done{};
  std::size_t count = 0;
  EXPECT_TRUE(eventually([&] {
    count += connector->reap(std::span{done}.subspan(count));
    return count == done.size();
  }));
  EXPECT_EQ(lookup.outcome, Outcome::kHit);
  EXPECT_TRUE(loads.are_hits());
  EXPECT_EQ(loading_most.load(), 1);
}

}  // namespace
}  // namespace larder::resp
