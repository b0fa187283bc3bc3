// A node's time-outs, back-off and deadlines under a clock that the test moves. The sockets are
// real; no test here waits for real time.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "larder/connectors/resp/node.h"
#include "larder/connectors/resp/options.h"
#include "larder/connectors/resp/secret_files.h"
#include "tests/support/temporary_directory.h"

namespace larder::resp {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;

/// A batch of one key.
struct Sent {
  explicit Sent(Op op) {
    item.key = std::as_bytes(std::span{name});
    if (op == Op::kGet || op == Op::kSet) item.value = {&slice, 1};
    batch.items = {&item, 1};
    batch.op = op;
  }

  std::string name = "key";
  std::array<std::byte, 5> memory{};
  Slice slice{.data = memory.data(), .bytes = memory.size()};
  Item item;
  Batch batch;
};

class NodeTimeTest : public ::testing::Test {
 protected:
  NodeTimeTest() {
    options_.endpoint.path = directory_.path() + "/server.sock";
    options_.connections = 1;
    options_.connect_timeout_ns = 1'000 * kMillisecond;
    options_.timeout_ns = 2'000 * kMillisecond;
    options_.reconnect = {.initial_ns = 100 * kMillisecond, .max_ns = 400 * kMillisecond};
  }
  ~NodeTimeTest() override {
    if (node_ == nullptr) return;
    intake_->stop();
    node_->close(clock_.now_ns());
    EXPECT_TRUE(node_->is_idle());
    reap();
  }
  NodeTimeTest(const NodeTimeTest&) = delete;
  NodeTimeTest& operator=(const NodeTimeTest&) = delete;

  void make() {
    epoll_ = UniqueFd{::epoll_create1(EPOLL_CLOEXEC)};
    auto answered = EventFd::create();
    ASSERT_TRUE(answered);
    answered_ = std::make_shared<EventFd>(std::move(*answered));
    resolver_ = std::make_unique<Resolver>(options_.endpoint, answered_);
    auto secrets = SecretFiles::open(options_, answered_);
    ASSERT_TRUE(secrets);
    secrets_ = std::move(*secrets);
    view_ = std::make_unique<NodeView>(0, 1024, clock_);
    IntakeOptions intake;
    intake.lane_of = lane_of;
    intake_ = std::make_unique<Intake>(intake, clock_);
    node_ = std::make_unique<Node>(options_, *resolver_, *secrets_, *view_, *intake_, epoll_.get(),
                                   clock_.now_ns());
  }

  /// A server that is reachable, whose connections the test answers.
  void listen() {
    listener_ = UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = options_.endpoint.path;
    ASSERT_LT(path.size(), sizeof(address.sun_path));
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
  }
  /// Takes the next connection and answers its greeting.
  UniqueFd welcome() {
    UniqueFd accepted{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    EXPECT_TRUE(accepted);
    const std::string greeting = "+OK\r\n+PONG\r\n";
    EXPECT_EQ(::send(accepted.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(greeting.size()));
    return accepted;
  }

  /// Everything that can be done at this moment.
  void turn() {
    for (int quiet = 0; quiet < 2;) {
      std::array<epoll_event, 8> events{};
      const int count =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        node_->on_io(event.data.u64, event.events, clock_.now_ns());
      }
      node_->turn(clock_.now_ns());
      quiet = count > 0 ? 0 : quiet + 1;
    }
  }
  void advance(std::uint64_t by_ns) {
    clock_.advance_ns(by_ns);
    turn();
  }
  std::size_t reap() {
    std::array<Batch*, 8> done{};
    return intake_->reap(done);
  }
  bool is_back(const Sent& sent) {
    std::array<Batch*, 8> done{};
    return intake_->reap(done) == 1 && done[0] == &sent.batch;
  }
  std::uint64_t failures() const { return view_->peers[kLarge].failures_total(); }

  testing::TemporaryDirectory directory_;
  ManualClock clock_;
  RespOptions options_;
  UniqueFd epoll_;
  UniqueFd listener_;
  std::shared_ptr<EventFd> answered_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<SecretFiles> secrets_;
  std::unique_ptr<NodeView> view_;
  std::unique_ptr<Intake> intake_;
  std::unique_ptr<Node> node_;
};

TEST_F(NodeTimeTest, AttemptsToConnectWaitLongerAndLongerUpToTheMaximum) {
  make();
  turn();
  std::uint64_t tried = failures();
  EXPECT_EQ(tried, 1U);
  std::uint64_t wait_ns = options_.reconnect.initial_ns;
  for (int attempt = 0; attempt < 6; ++attempt) {
    // Each wait is shortened by up to a half.
    advance(wait_ns / 2 - 1);
    EXPECT_EQ(failures(), tried) << "attempt " << attempt;
    advance(wait_ns / 2 + 1);
    EXPECT_EQ(failures(), ++tried) << "attempt " << attempt;
    wait_ns = std::min(2 * wait_ns, options_.reconnect.max_ns);
  }
}

TEST_F(NodeTimeTest, WhileNoServerIsThereReadsAreMissesAndSayWhy) {
  make();
  Sent get{Op::kGet};
  Sent exists{Op::kExists};
  Sent set{Op::kSet};
  for (Sent* const sent : {&get, &exists, &set}) ASSERT_TRUE(intake_->submit(sent->batch));
  turn();
  EXPECT_EQ(reap(), 3U);
  for (const Sent* const sent : {&get, &exists}) {
    EXPECT_EQ(sent->item.outcome, Outcome::kMiss);
    EXPECT_EQ(sent->item.miss_reason, MissReason::kDown);
  }
  EXPECT_EQ(set.item.error.code(), ErrorCode::kUnavailable);
  const std::string reason{set.item.error.what()};
  EXPECT_NE(reason.find("socket"), std::string::npos) << reason;

  listen();
  advance(options_.reconnect.initial_ns);
  const UniqueFd lookups = welcome();
  const UniqueFd values = welcome();
  turn();
  ASSERT_TRUE(intake_->submit(get.batch));
  turn();
  EXPECT_EQ(reap(), 0U) << "it is asked for: what was a miss while down is no failed key";
  const std::string answer = "$5\r\nvalue\r\n";
  ASSERT_EQ(::send(values.get(), answer.data(), answer.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(answer.size()));
  turn();
  ASSERT_TRUE(is_back(get));
  EXPECT_EQ(get.item.outcome, Outcome::kHit);
}

TEST_F(NodeTimeTest, AServerThatAcceptsAndDoesNotAnswerIsGivenUpAfterTheConnectTimeout) {
  listen();
  make();
  turn();
  advance(options_.connect_timeout_ns - 1);
  EXPECT_EQ(failures(), 0U);
  advance(1);
  EXPECT_EQ(failures(), 1U);
}

TEST_F(NodeTimeTest, WhatWaitsForAConnectionComesBackAtItsDeadline) {
  listen();
  make();
  turn();
  Sent get{Op::kGet};
  get.batch.deadline_ns = clock_.now_ns() + 10 * kMillisecond;
  ASSERT_TRUE(intake_->submit(get.batch));
  turn();
  EXPECT_EQ(node_->next_time_ns(), get.batch.deadline_ns);
  advance(10 * kMillisecond - 1);
  EXPECT_EQ(reap(), 0U);
  advance(1);
  ASSERT_TRUE(is_back(get));
  EXPECT_EQ(get.item.error.code(), ErrorCode::kDeadlineExceeded);
}

TEST_F(NodeTimeTest, WhatTheServerHasComesBackAtItsDeadlineAndTheAnswerIsDropped) {
  listen();
  make();
  turn();
  const UniqueFd lookups = welcome();
  const UniqueFd values = welcome();
  turn();
  Sent late{Op::kGet};
  late.batch.deadline_ns = clock_.now_ns() + 10 * kMillisecond;
  ASSERT_TRUE(intake_->submit(late.batch));
  turn();
  advance(10 * kMillisecond);
  ASSERT_TRUE(is_back(late));
  EXPECT_EQ(late.item.error.code(), ErrorCode::kDeadlineExceeded);
  Sent other{Op::kGet};
  other.name = "other";
  other.item.key = std::as_bytes(std::span{other.name});
  ASSERT_TRUE(intake_->submit(other.batch));
  turn();
  const std::string answers = "$5\r\nfirst\r\n$5\r\nother\r\n";
  ASSERT_EQ(::send(values.get(), answers.data(), answers.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(answers.size()));
  turn();
  ASSERT_TRUE(is_back(other));
  EXPECT_EQ(std::memcmp(other.memory.data(), "other", 5), 0);
  EXPECT_EQ(late.memory[0], std::byte{0}) << "its memory is the caller's again";
}

TEST_F(NodeTimeTest, AServerThatFallsSilentLosesItsConnectionAfterTheTimeout) {
  listen();
  make();
  turn();
  const UniqueFd lookups = welcome();
  const UniqueFd values = welcome();
  turn();
  Sent set{Op::kSet};
  ASSERT_TRUE(intake_->submit(set.batch));
  turn();
  advance(options_.timeout_ns - 1);
  EXPECT_EQ(reap(), 0U);
  advance(1);
  ASSERT_TRUE(is_back(set));
  EXPECT_EQ(set.item.error.code(), ErrorCode::kUnavailable);
  EXPECT_EQ(view_->counters.connections_lost.load(), 2U) << "INFO has had no answer either";
}

}  // namespace
}  // namespace larder::resp
