// kill -9 under load, again and again on one store. A writer process works on it over the public
// contract and reports what it does; it is killed at a moment from the seed, the next writer opens
// the store and tells what every key is, and the model judges that.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "larder/base/random.h"
#include "larder/base/size_text.h"
#include "tests/crash/disk_evidence.h"
#include "tests/crash/model.h"
#include "tests/crash/writer_process.h"
#include "tests/support/nested_spec.h"
#include "tests/support/temporary_directory.h"

namespace larder::crash {
namespace {

using Clock = WriterProcess::Clock;

constexpr std::uint64_t kKiB = 1024;
constexpr auto kPatience = std::chrono::seconds{60};

std::uint64_t seed() {
  const char* const text = std::getenv("LARDER_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

struct Scenario {
  int kills = 0;          ///< Under load.
  int kills_at_open = 0;  ///< While the store is opened, or just after.
  std::uint64_t segments = 0;
  std::uint64_t segment_bytes = 0;  ///< Of the capacity.
  std::uint64_t grains = 0;         ///< Of its file.
  std::uint64_t value_bytes_max = 0;
  std::uint64_t value_bytes_min = 16;
  std::uint64_t operations_max = 500;  ///< That come back before a kill.
  bool leaves_early = false;           ///< eviction=worth.
  const char* more = "";               ///< Parameters.
  const char* before = "";             ///< What stands before the store: all but its spec.
};

struct KillCounts {
  int kills = 0;
  int with_writes = 0;  ///< At least one Set or Delete had been submitted and was not back.
  int in_seal = 0;      ///< By the files, or as the writer last saw it.
  int in_seal_by_files = 0;
  int in_reclaim = 0;  ///< As the writer last saw it.
  int in_seal_or_reclaim = 0;
  int at_open = 0;
  int before_open = 0;  ///< Of those: before the writer had the store.
};

class CrashTest : public ::testing::Test {
 protected:
  void run(const Scenario& scenario) {
    scenario_ = scenario;
    content_.value_bytes_min = scenario.value_bytes_min;
    content_.value_bytes_max = scenario.value_bytes_max;
    ring_ = {.segments = static_cast<std::uint32_t>(scenario.segments),
             .segment_bytes = scenario.grains * 4 * kKiB,
             .record_bytes_max = 0,
             .leaves_early = scenario.leaves_early};
    ring_.record_bytes_max = ring_.bytes_of(Op::kSet, scenario.value_bytes_max, 100);
    model_ = std::make_unique<Model>(content_, ring_);
    int opens = scenario.kills_at_open;
    for (int i = 0; i < scenario.kills && !HasFailure(); ++i) {
      if (opens > 0 && random_.one_in(static_cast<std::uint64_t>(scenario.kills - i))) {
        --opens;
        live_until_open();
      }
      // Every other kill waits for a seal or a reclaim, by turns; the others take what comes.
      const Aim aim = i % 4 == 1 ? Aim::kSeal : i % 4 == 3 ? Aim::kReclaim : Aim::kAnything;
      live(shows_segments() ? aim : Aim::kAnything);
    }
    for (; opens > 0 && !HasFailure(); --opens) live_until_open();
    if (!HasFailure()) live_to_the_end();
    if (!HasFailure()) live_to_the_end();  // What a clean close left is the same once more.
    print();
  }

  enum class Aim : std::uint8_t { kAnything = 0, kSeal, kReclaim };

  /// The report is that of the store itself.
  bool shows_segments() const { return *scenario_.before == '\0'; }

  std::string spec() const {
    return *scenario_.before == '\0' ? store_spec()
                                     : scenario_.before + testing::nested_spec(store_spec());
  }
  std::string store_spec() const {
    return "log:" + store_ + "?min_free=0&capacity=" +
           format_bytes_exact(scenario_.segments * scenario_.segment_bytes) +
           "&segment=" + format_bytes_exact(scenario_.segment_bytes) +
           "&max_value=" + format_bytes_exact(scenario_.value_bytes_max) +
           (scenario_.leaves_early ? "" : "&eviction=oldest") + scenario_.more;
  }

  std::unique_ptr<WriterProcess> start(bool is_last) {
    model_->begin_life();
    ++life_;
    ended_ = 0;
    has_opened_ = has_told_all_ = has_closed_ = false;
    auto process = WriterProcess::start(
        {spec(), std::to_string(seed()), is_last ? "-" : std::to_string(life_),
         std::to_string(content_.hot_keys), std::to_string(content_.filler_keys),
         std::to_string(content_.value_bytes_min), std::to_string(content_.value_bytes_max)});
    EXPECT_TRUE(process.has_value()) << process.error().text;
    return process ? std::move(*process) : nullptr;
  }

  void take(const Message& message) {
    if (message.kind == Kind::kOpened) has_opened_ = true;
    if (message.kind == Kind::kAllFound) has_told_all_ = true;
    if (message.kind == Kind::kClosed) has_closed_ = true;
    if (message.kind == Kind::kEnded) ++ended_;
    const std::string wrong = model_->take(message);
    if (!wrong.empty()) {
      ADD_FAILURE() << "life " << life_ << ": " << wrong << " (LARDER_SEED=" << seed() << ")";
    }
  }

  /// Takes the writer's report until `is_enough`, which is asked after each message, and every
  /// `look_every` where it is about the shared page. False when the writer ended by itself.
  template <class Condition>
  bool pump_until(WriterProcess& process, Clock::time_point until, Condition&& is_enough,
                  Clock::duration look_every = kPatience) {
    while (!is_enough() && Clock::now() < until) {
      const auto look_again = std::min(until, Clock::now() + look_every);
      if (!process.pump(look_again, [&](const Message& m) { take(m); })) {
        ADD_FAILURE() << "life " << life_ << ": the writer ended by itself, status "
                      << process.wait() << " (LARDER_SEED=" << seed() << ")";
        return false;
      }
    }
    return true;
  }

  void kill(WriterProcess& process) {
    process.kill();
    const auto late = Clock::now() + kPatience;
    while (process.pump(late, [&](const Message& m) { take(m); })) {
      ASSERT_LT(Clock::now(), late) << "the report of a dead writer does not end";
    }
  }

  /// A life under load, from open to kill.
  void live(Aim aim) {
    const auto process = start(false);
    if (process == nullptr) return;
    const std::uint64_t operations = random_.below(scenario_.operations_max) + 1;
    const auto late = Clock::now() + kPatience;
    if (!pump_until(*process, late, [&] { return has_told_all_ && ended_ >= operations; })) return;
    ASSERT_GE(ended_, operations) << "life " << life_ << " took too long";
    const SharedPage& page = process->page();
    const auto is_at_it = [&] {
      return aim == Aim::kSeal      ? page.segments_sealing > 0
             : aim == Aim::kReclaim ? page.segments_reclaiming > 0
                                    : false;
    };
    // A moment that is not that of a message: up to 3 ms on.
    const auto moment = Clock::now() + std::chrono::microseconds{random_.below(3000)};
    constexpr auto kLookEvery = std::chrono::microseconds{50};
    if (!pump_until(*process, aim == Aim::kAnything ? moment : late, is_at_it, kLookEvery)) return;
    kill(*process);

    ++kills_.kills;
    // The writer is one thread: of two batches on their way one was submitted.
    if (model_->write_batches_in_flight() >= 2) ++kills_.with_writes;
    const bool is_proven = died_in_a_seal(store_);
    const bool in_seal = is_proven || page.segments_sealing > 0;
    const bool in_reclaim = page.segments_reclaiming > 0;
    kills_.in_seal_by_files += is_proven ? 1 : 0;
    kills_.in_seal += in_seal ? 1 : 0;
    kills_.in_reclaim += in_reclaim ? 1 : 0;
    kills_.in_seal_or_reclaim += in_seal || in_reclaim ? 1 : 0;
    model_->end_life();
  }

  /// Killed somewhere between its start and the end of its first reads.
  void live_until_open() {
    const auto process = start(false);
    if (process == nullptr) return;
    const auto moment = Clock::now() + std::chrono::microseconds{random_.below(40'000)};
    if (!pump_until(*process, moment, [&] { return has_told_all_; })) return;
    kill(*process);
    ++kills_.at_open;
    if (!has_opened_) ++kills_.before_open;
    model_->end_life();
  }

  void live_to_the_end() {
    const auto process = start(true);
    if (process == nullptr) return;
    const auto late = Clock::now() + kPatience;
    if (!pump_until(*process, late, [&] { return has_closed_; })) return;
    ASSERT_TRUE(has_closed_) << "life " << life_ << " took too long";
    EXPECT_EQ(process->wait(), 0);
    model_->end_life();
  }

  void print() const {
    const ModelCounts& counts = model_->counts();
    std::printf(
        "seed %llu: %d kills, %d of them with writes in flight, %d in a seal or reclaim (%d in a "
        "seal, %d of them proven by the files, %d in a reclaim), and %d while opening (%d before "
        "the store was open); %llu sets and %llu deletes acknowledged, %llu refused\n"
        "read after the kills: %llu acknowledged values that had to be there, %llu deletes that "
        "had to hold, %llu keys whose last write had not come back, %llu that may have been "
        "evicted (%llu were); %llu gets under load\n",
        as_printed(seed()), kills_.kills, kills_.with_writes, kills_.in_seal_or_reclaim,
        kills_.in_seal, kills_.in_seal_by_files, kills_.in_reclaim, kills_.at_open,
        kills_.before_open, as_printed(counts.sets_acknowledged),
        as_printed(counts.deletes_acknowledged), as_printed(counts.refused),
        as_printed(counts.kept_values), as_printed(counts.kept_deletes),
        as_printed(counts.unsettled), as_printed(counts.evictable), as_printed(counts.evicted),
        as_printed(counts.gets_checked));
  }
  static unsigned long long as_printed(std::uint64_t number) { return number; }

  /// The kills hit what they were to hit, and there was much to lose. Of a hundred kills 80 hit
  /// writes; of fewer, chance allows no such bound.
  void expect_met_everything() const {
    const int share_with_writes = kills_.kills >= 100 ? 80 : 70;
    EXPECT_GE(kills_.kills, scenario_.kills);
    EXPECT_GE(kills_.with_writes * 100, kills_.kills * share_with_writes);
    if (shows_segments()) {
      EXPECT_GE(kills_.in_seal_or_reclaim * 5, kills_.kills);
      EXPECT_GT(kills_.in_seal_by_files, 0);
      EXPECT_GT(kills_.in_reclaim, 0);
    }
    const auto kills = static_cast<std::uint64_t>(kills_.kills);
    EXPECT_GE(model_->counts().kept_values, 10 * kills);
    EXPECT_GE(model_->counts().kept_deletes, kills);
    EXPECT_GE(model_->counts().unsettled, kills);
    EXPECT_GT(model_->counts().evicted, 0U);
    EXPECT_GT(model_->counts().sets_acknowledged, 10 * model_->counts().refused);
  }

  /// What is left to meet where every record may be evicted.
  void expect_met_deletes_and_evictions() const {
    const auto kills = static_cast<std::uint64_t>(kills_.kills);
    EXPECT_GE(kills_.kills, scenario_.kills);
    EXPECT_GE(model_->counts().kept_deletes + model_->counts().evictable, 10 * kills);
    EXPECT_GT(model_->counts().evicted, 0U);
    EXPECT_GT(model_->counts().sets_acknowledged, 10 * model_->counts().refused);
  }

  const testing::TemporaryDirectory directory_;
  const std::string store_ = directory_.path() + "/store";
  Scenario scenario_;
  Content content_;
  RingBound ring_;
  std::unique_ptr<Model> model_;
  Random random_{seed()};
  std::uint64_t life_ = 0;
  std::uint64_t ended_ = 0;
  bool has_opened_ = false;
  bool has_told_all_ = false;
  bool has_closed_ = false;
  KillCounts kills_;
};

/// The smallest segments there are, 48 grains each, so that one is sealed every dozen of stores.
constexpr Scenario kSmall{.kills = 0,
                          .segments = 64,
                          .segment_bytes = 256 * kKiB,
                          .grains = 48,
                          .value_bytes_max = 24 * kKiB};

TEST_F(CrashTest, AHundredKillsUnderLoadLoseNothingThatWasAcknowledged) {
  Scenario scenario = kSmall;
  scenario.kills = 100;
  scenario.kills_at_open = 10;
  run(scenario);
  expect_met_everything();
}

// By worth anything may leave a full store, so that only what is bad may not come back is known.
TEST_F(CrashTest, KillsWhileRecordsLeaveByWorthBringNothingOlderBack) {
  Scenario scenario = kSmall;
  scenario.kills = 40;
  scenario.kills_at_open = 4;
  scenario.leaves_early = true;
  run(scenario);
  expect_met_deletes_and_evictions();
}

TEST_F(CrashTest, KillsWithSyncedBatchesLoseNothingThatWasAcknowledged) {
  Scenario scenario = kSmall;
  scenario.kills = 40;
  scenario.kills_at_open = 4;
  scenario.more = "&sync=batch";
  run(scenario);
  expect_met_everything();
}

TEST_F(CrashTest, KillsOverTheThreadBackendLoseNothingThatWasAcknowledged) {
  const char* const before = std::getenv("LARDER_IO");
  ::setenv("LARDER_IO", "threads", 1);
  Scenario scenario = kSmall;
  scenario.kills = 30;
  scenario.kills_at_open = 3;
  run(scenario);
  if (before == nullptr) ::unsetenv("LARDER_IO");
  expect_met_everything();
}

// L1 is small, so that values leave it and come back, and the log's promise must hold through it.
TEST_F(CrashTest, KillsWithL1BeforeTheStoreLoseNothingThatWasAcknowledged) {
  Scenario scenario = kSmall;
  scenario.kills = 40;
  scenario.kills_at_open = 4;
  scenario.before = "tiered:?l1=1MiB&l2=";
  run(scenario);
  expect_met_everything();
}

// Values that are written in several transfers, the header last, and hashed by a thread.
TEST_F(CrashTest, KillsWithinLongValuesLoseNothingThatWasAcknowledged) {
  content_.hot_keys = 8;
  content_.filler_keys = 150;
  run({.kills = 20,
       .kills_at_open = 2,
       .segments = 32,
       .segment_bytes = 4096 * kKiB,
       .grains = 1008,
       .value_bytes_max = 700 * kKiB,
       .operations_max = 250,
       .more = "&io_bytes=256KiB"});
  expect_met_everything();
}

}  // namespace
}  // namespace larder::crash
