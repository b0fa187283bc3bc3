// A peer that misbehaves at random, from a seed, under a load with deadlines and cancellations.
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/random.h"
#include "tests/resp/resp_test_support.h"
#include "tests/support/scripted_peer.h"

namespace larder::resp {
namespace {

using testing::ScriptedPeer;
using Answer = ScriptedPeer::Answer;
using Words = ScriptedPeer::Words;

constexpr std::uint64_t kKeys = 40;
constexpr std::size_t kJobs = 24;
constexpr std::size_t kItemsMax = 12;

std::uint64_t seed() {
  const char* const text = std::getenv("LARDER_SEED");
  return text == nullptr ? 20'260'101 : std::strtoull(text, nullptr, 10);
}

std::string key_of(std::uint64_t number) {
  return "key " + std::to_string(number);
}
std::size_t size_of(std::uint64_t number) {
  constexpr std::array<std::size_t, 8> kSizes{0, 1, 100, 5000, 16'384, 70'000, 200'000, 1'000'000};
  return kSizes.at(number % kSizes.size());
}

/// Keeps what it is given and answers rightly, or as it likes while `is_wild`.
class Chaos {
 public:
  explicit Chaos(std::uint64_t number) : random_(number) {}

  std::atomic<bool> is_wild = true;
  std::atomic<std::uint64_t> misdeeds = 0;

  std::optional<Answer> operator()(const Words& words, int connection) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    Answer answer;
    if (silent_.contains(connection)) return answer;
    answer.bytes = right_answer(words);
    if (answer.bytes.empty()) return std::nullopt;
    if (!is_wild || !random_.one_in(12)) return answer;
    ++misdeeds;
    switch (random_.below(7)) {
      case 0:
        answer.bytes.resize(random_.below(answer.bytes.size() + 1));
        answer.resets = true;
        break;
      case 1:
        answer.one_by_one = answer.bytes.size() < 300;
        break;
      case 2:
        answer.bytes = "-LOADING not yet\r\n";
        break;
      case 3:
        answer.bytes = "?";
        break;
      case 4:  // Another size, which looks like answers.
        answer.bytes = words[0] == "GET" ? "$14\r\n+OK\r\n:1\r\n$-1\r\n\r\n" : ":7\r\n";
        break;
      case 5:  // Never again one here: an answer that is left out would give the next to the wrong.
        silent_.insert(connection);
        answer.bytes.clear();
        break;
      default:
        answer.bytes = "*1\r\n" + answer.bytes;
        break;
    }
    return answer;
  }

 private:
  std::string right_answer(const Words& words) LARDER_REQUIRES(mutex_) {
    if (words.size() < 2) return "";
    const auto found = values_.find(words[1]);
    const bool is_there = found != values_.end();
    if (words[0] == "GET") {
      if (!is_there) return "$-1\r\n";
      return "$" + std::to_string(found->second.size()) + "\r\n" + found->second + "\r\n";
    }
    if (words[0] == "SET") {
      if (is_there && words.back() == "NX") return "$-1\r\n";
      values_[words[1]] = words[2];
      return "+OK\r\n";
    }
    if (words[0] == "STRLEN") {
      return ":" + std::to_string(is_there ? found->second.size() : 0) + "\r\n";
    }
    if (words[0] == "EXISTS") {
      std::size_t count = 0;
      for (std::size_t i = 1; i < words.size(); ++i) count += values_.count(words[i]);
      return ":" + std::to_string(count) + "\r\n";
    }
    if (words[0] == "UNLINK") return ":" + std::to_string(values_.erase(words[1])) + "\r\n";
    if (words[0] == "TOUCH") return is_there ? ":1\r\n" : ":0\r\n";
    return "";
  }

  Mutex mutex_;
  Random random_ LARDER_GUARDED_BY(mutex_);
  std::map<std::string, std::string> values_ LARDER_GUARDED_BY(mutex_);
  std::set<int> silent_ LARDER_GUARDED_BY(mutex_);  ///< Connections.
};

/// A batch with its memory, which is marked while it is not in flight: nobody may write to it then.
struct Job {
  static constexpr std::byte kMark{0xEE};

  std::deque<std::string> keys;
  std::vector<std::vector<std::byte>> memory;
  std::vector<Slice> slices;
  std::vector<Item> items;
  Batch batch;
  bool is_in_flight = false;

  void prepare(Random& random) {
    for (const auto& bytes : memory) {
      EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == kMark; }))
          << "memory was written to after its batch came back";
    }
    constexpr std::array kOps{Op::kSet, Op::kSet,    Op::kGet,   Op::kGet,
                              Op::kGet, Op::kExists, Op::kTouch, Op::kDelete};
    const std::size_t count = 1 + random.below(kItemsMax);
    batch.op = kOps.at(random.below(kOps.size()));
    batch.set_mode = random.one_in(2) ? SetMode::kReplace : SetMode::kIfAbsent;
    batch.deadline_ns =
        random.one_in(2) ? kNever : RealClock::instance().now_ns() + random.below(30'000'000);
    keys.clear();
    memory.assign(count, {});
    slices.assign(count, {});
    items.assign(count, {});
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t number = random.below(kKeys);
      keys.push_back(key_of(number));
      items[i].key = bytes_of_text(keys.back());
      if (batch.op == Op::kSet) memory[i] = value_of(keys.back(), size_of(number));
      if (batch.op == Op::kGet) memory[i].assign(size_of(number), kMark);
      slices[i] = {memory[i].data(), memory[i].size()};
      if (batch.op == Op::kSet || batch.op == Op::kGet) items[i].value = {&slices[i], 1};
    }
    batch.items = items;
  }

  void check() {
    is_in_flight = false;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      EXPECT_NE(item.outcome, Outcome::kPending);
      if (batch.op == Op::kGet && item.outcome == Outcome::kHit) {
        EXPECT_TRUE(memory[i] == value_of(keys[i], memory[i].size())) << "a hit has other bytes";
      }
      if (batch.op == Op::kGet && item.outcome == Outcome::kMiss) {
        EXPECT_TRUE(std::ranges::all_of(memory[i], [](std::byte b) { return b == kMark; }))
            << "a miss has touched its buffer";
      }
      std::ranges::fill(memory[i], kMark);
    }
  }
};

void reap_all(Connector& connector, std::map<const Batch*, Job*>& jobs, std::size_t& in_flight) {
  std::array<Batch*, 8> done{};
  for (;;) {
    const std::size_t count = connector.reap(done);
    for (const Batch* const batch : std::span{done}.first(count)) {
      ASSERT_TRUE(jobs.at(batch)->is_in_flight) << "a batch came back twice";
      jobs.at(batch)->check();
      --in_flight;
    }
    if (count == 0) return;
  }
}

TEST(RespChaosTest, EveryBatchComesBackOnceWithRightBytesAndItsMemoryIsLeftAlone) {
  SCOPED_TRACE("LARDER_SEED=" + std::to_string(seed()));
  Random random{seed()};
  Chaos chaos{seed() + 1};
  const ScriptedPeer peer{
      [&](const Words& words, int connection) { return chaos(words, connection); }};
  std::deque<Job> jobs(kJobs);  // Outlives the connector.
  const Opened connector{redis_spec(peer.port(),
                                    "connections=3&pipeline=256KiB&timeout=100ms&connect_timeout=5s"
                                    "&miss_after_failure=1ms&info_interval=50ms")};
  std::map<const Batch*, Job*> by_batch;
  for (Job& job : jobs) by_batch[&job.batch] = &job;
  std::size_t in_flight = 0;
  const std::uint64_t give_up_ns = RealClock::instance().now_ns() + kPatienceNs;
  for (int submitted = 0; submitted < 1000;) {
    for (Job& job : jobs) {
      if (job.is_in_flight) {
        if (random.one_in(50)) connector->cancel(job.batch);
        continue;
      }
      // Left alone for a while, so that a late write would be seen.
      if (random.one_in(2)) continue;
      job.prepare(random);
      ASSERT_TRUE(connector->submit(job.batch).has_value());
      job.is_in_flight = true;
      ++in_flight;
      ++submitted;
    }
    pollfd waited{connector->event_fd(), POLLIN, 0};
    ::poll(&waited, 1, 5);
    reap_all(*connector, by_batch, in_flight);
    ASSERT_LT(RealClock::instance().now_ns(), give_up_ns);
  }
  EXPECT_TRUE(eventually([&] {
    reap_all(*connector, by_batch, in_flight);
    return in_flight == 0;
  }));
  EXPECT_GT(chaos.misdeeds.load(), 50U);
  EXPECT_GT(counter_of(*connector, "hits_total"), 100U);
  EXPECT_GT(counter_of(*connector, "connections_lost_total"), 10U);

  // And then it serves as if nothing had been.
  chaos.is_wild = false;
  BlockingClient client{*connector};
  for (std::uint64_t number = 0; number < kKeys; ++number) {
    EXPECT_TRUE(eventually(
        [&] { return set_code(client, key_of(number), size_of(number)) == ErrorCode::kNone; }));
    EXPECT_TRUE(is_hit(client, key_of(number), size_of(number)));
  }
}

}  // namespace
}  // namespace larder::resp
