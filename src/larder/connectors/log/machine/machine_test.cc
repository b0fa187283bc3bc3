// A store while the kernel blocks its thread: a device that does not return stands for the kernel.
#include "larder/connectors/log/machine/machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <list>
#include <thread>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "tests/support/temporary_directory.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::size_t kValueBytes = 8192;
constexpr std::uint64_t kPatienceNs = 60'000'000'000;

enum class Place : std::uint8_t { kNowhere, kReap, kWait };

/// A queue of the operating system that blocks its driving thread on command.
class KeepingQueue final : public io::TransferQueue {
 public:
  explicit KeepingQueue(std::unique_ptr<io::TransferQueue> queue) : queue_(std::move(queue)) {}

  /// From now on, or from the next transfer on.
  void keep(Place place) {
    const MutexLock lock{mutex_};
    keeps_ = place;
  }
  void keep_after_next_submit(Place place) {
    const MutexLock lock{mutex_};
    next_ = place;
  }
  void let_go() {
    const MutexLock lock{mutex_};
    keeps_ = next_ = Place::kNowhere;
    changed_.notify_all();
  }
  bool is_keeping() {
    const MutexLock lock{mutex_};
    return is_keeping_;
  }

  void submit(io::Request& request) noexcept override {
    {
      const MutexLock lock{mutex_};
      if (next_ != Place::kNowhere) keeps_ = std::exchange(next_, Place::kNowhere);
    }
    queue_->submit(request);
  }
  std::size_t reap(std::span<io::Request*> done) noexcept override {
    stay(Place::kReap);
    return queue_->reap(done);
  }
  void wait(std::uint64_t until_ns) noexcept override {
    stay(Place::kWait);
    queue_->wait(until_ns);
  }
  void wake() noexcept override { queue_->wake(); }

 private:
  void stay(Place place) noexcept {
    const MutexLock lock{mutex_};
    is_keeping_ = keeps_ == place;
    while (keeps_ == place) changed_.wait(mutex_);
    is_keeping_ = false;
  }

  const std::unique_ptr<io::TransferQueue> queue_;
  Mutex mutex_;
  CondVar changed_;
  Place keeps_ LARDER_GUARDED_BY(mutex_) = Place::kNowhere;
  Place next_ LARDER_GUARDED_BY(mutex_) = Place::kNowhere;
  bool is_keeping_ LARDER_GUARDED_BY(mutex_) = false;
};

/// A batch of one key that counts how often it came back.
struct Operation {
  std::string key;
  std::vector<std::byte> memory;
  Slice slice;
  Item item;
  Batch batch;
  int returns = 0;
};

class LogMachineTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kOff);
    open();
  }
  void open() {
    machine_.reset();
    io::DeviceOptions device_options;
    device_options.directory = directory_.path();
    auto opened = io::open_device(device_options);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    auto queue = std::make_unique<KeepingQueue>(std::move(opened->queue));
    queue_ = queue.get();
    opened->queue = std::move(queue);
    PathOptions options;
    options.capacity_bytes = 64 * kMiB;
    options.segment_bytes = kMiB;
    options.value_bytes_max = 64U << 10;
    options.has_file_thread = true;
    options.stall_ns = 500'000'000;  // More than a busy machine keeps a store waiting.
    options.depth = 2;
    options.coalesce_bytes = 1;  // A transfer for each store.
    auto path = LogPath::open(options, *opened->directory, *queue_, RealClock::instance(),
                              directory_.path());
    ASSERT_TRUE(path.has_value()) << path.error().text;
    machine_ = std::make_unique<LogMachine>(std::move(*opened), std::move(*path));
  }
  void TearDown() override {
    if (queue_ != nullptr) queue_->let_go();
    if (machine_ != nullptr) machine_->stop(kNever).ignore("kNever waits to the end");
    if (machine_ != nullptr) reap();
    machine_.reset();
    for (const Operation& operation : operations_) EXPECT_EQ(operation.returns, 1) << operation.key;
  }
  Operation& submit(Op op, const std::string& key) {
    Operation& operation = operations_.emplace_back();
    operation.key = key;
    operation.item.key = std::as_bytes(std::span{operation.key});
    if (op == Op::kGet || op == Op::kSet) {
      operation.memory.resize(kValueBytes);
      operation.slice = {.data = operation.memory.data(), .bytes = kValueBytes};
      operation.item.value = {&operation.slice, 1};
    }
    operation.batch.items = {&operation.item, 1};
    operation.batch.op = op;
    operation.batch.user_data = &operation;
    const Status submitted = machine_->path().intake().submit(operation.batch);
    EXPECT_TRUE(submitted.has_value());
    return operation;
  }
  void reap() {
    std::array<Batch*, 64> done{};
    while (const std::size_t count = machine_->path().intake().reap(done)) {
      for (const Batch* batch : std::span{done}.first(count)) {
        ++static_cast<Operation*>(batch->user_data)->returns;
      }
    }
  }
  std::uint64_t answered_while_down() const {
    Report report;
    machine_->path().intake().append_report(report);
    return report.batches_answered_while_down;
  }
  void until(const char* what, const std::function<bool()>& is_true) {
    const std::uint64_t until_ns = RealClock::instance().now_ns() + kPatienceNs;
    for (reap(); !is_true(); reap()) {
      ASSERT_LT(RealClock::instance().now_ns(), until_ns) << "this did not happen: " << what;
      std::this_thread::yield();
    }
  }
  Outcome run(Op op, const std::string& key) {
    const Operation& operation = submit(op, key);
    until("an answer", [&] { return operation.returns > 0; });
    return operation.item.outcome;
  }
  Outcome probe(const std::string& key) {
    Item item;
    item.key = std::as_bytes(std::span{key});
    machine_->path().probe({&item, 1});
    return item.outcome;
  }
  std::size_t count_back() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        operations_, [](const Operation& operation) { return operation.returns > 0; }));
  }

  testing::TemporaryDirectory directory_;
  std::list<Operation> operations_;
  KeepingQueue* queue_ = nullptr;  ///< The machine's.
  std::unique_ptr<LogMachine> machine_;
};

TEST_P(LogMachineTest, WhatComesWhileItsThreadIsKeptIsAnsweredAndThePathComesBack) {
  ASSERT_TRUE(machine_->start().has_value());
  ASSERT_EQ(run(Op::kSet, "there"), Outcome::kDone);
  EXPECT_EQ(probe("there"), Outcome::kHit);
  queue_->keep(GetParam());
  until("the thread is kept", [&] { return queue_->is_keeping(); });

  EXPECT_EQ(run(Op::kGet, "there"), Outcome::kMiss);  // Waits for the watcher to notice.
  EXPECT_TRUE(machine_->path().is_blocked());
  EXPECT_EQ(machine_->path().health().health(), Health::kDown);
  EXPECT_EQ(run(Op::kSet, "new"), Outcome::kFailed);
  EXPECT_NE(operations_.back().item.error.to_string().find("does not answer"), std::string::npos);
  EXPECT_EQ(run(Op::kDelete, "there"), Outcome::kFailed);
  EXPECT_EQ(run(Op::kTouch, "there"), Outcome::kMiss);
  EXPECT_EQ(run(Op::kSet, ""), Outcome::kFailed);
  EXPECT_EQ(operations_.back().item.error.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(probe("there"), Outcome::kMiss);
  const auto page = machine_->scan({}, 10);
  EXPECT_EQ(page ? ErrorCode::kNone : page.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(answered_while_down(), 5U);
  EXPECT_EQ(machine_->stop(0).error().code(), ErrorCode::kUnavailable) << "nothing is torn away";
  EXPECT_TRUE(queue_->is_keeping());
}

TEST_P(LogMachineTest, ItComesBackByItselfWithWhatItHad) {
  ASSERT_TRUE(machine_->start().has_value());
  ASSERT_EQ(run(Op::kSet, "there"), Outcome::kDone);
  queue_->keep(GetParam());
  EXPECT_EQ(run(Op::kGet, "absent"), Outcome::kMiss);
  until("the intake answers for it", [&] { return machine_->path().intake().is_down(); });
  queue_->let_go();
  until("it is back", [&] { return !machine_->path().intake().is_down(); });
  EXPECT_EQ(machine_->path().health().health(), Health::kDegraded);
  EXPECT_GE(machine_->path().counters().stalls_total.value(), 1U);
  EXPECT_EQ(run(Op::kGet, "there"), Outcome::kHit);
  EXPECT_EQ(run(Op::kSet, "new"), Outcome::kDone);
  EXPECT_EQ(run(Op::kGet, "new"), Outcome::kHit);
}

TEST_P(LogMachineTest, WhatItHadQueuedIsAnsweredWithoutItAndWhatItHadBegunComesBackWithIt) {
  // After a clean end the head is there: the first transfer is a store's.
  ASSERT_TRUE(machine_->start().has_value());
  ASSERT_EQ(run(Op::kSet, "there"), Outcome::kDone);
  open();
  operations_.clear();
  constexpr std::size_t kStores = 40;
  for (std::size_t i = 0; i < kStores; ++i) submit(Op::kSet, "key-" + std::to_string(i));
  queue_->keep_after_next_submit(GetParam());
  ASSERT_TRUE(machine_->start().has_value());
  until("the watcher has answered", [&] { return count_back() >= kStores - 6; });
  EXPECT_TRUE(queue_->is_keeping());
  const std::size_t back = count_back();
  EXPECT_LT(back, kStores) << "a buffer that the kernel may read stays with it";
  queue_->let_go();
  until("all are back", [&] { return count_back() == kStores; });
  const auto done = static_cast<std::size_t>(std::ranges::count(
      operations_, Outcome::kDone, [](const Operation& one) { return one.item.outcome; }));
  EXPECT_GT(done, 0U);
  EXPECT_LE(done,
            kStores - back);  // A batch that only waited for a transfer may have been refused.
}

// Callers see the health at once, and the intake hears of it at the end of a turn: no lookup may
// find a key in between.
TEST_P(LogMachineTest, ALookupMissesFromTheMomentOnThatTheHealthIsDown) {
  ASSERT_TRUE(machine_->start().has_value());
  ASSERT_EQ(run(Op::kSet, "there"), Outcome::kDone);
  ASSERT_TRUE(machine_->stop(kNever).has_value());  // No turn tells the intake.

  machine_->path().note_blocked();

  EXPECT_FALSE(machine_->path().intake().is_down());
  EXPECT_EQ(machine_->path().health().health(), Health::kDown);
  EXPECT_EQ(probe("there"), Outcome::kMiss);
}

INSTANTIATE_TEST_SUITE_P(Places, LogMachineTest, ::testing::Values(Place::kReap, Place::kWait),
                         [](const auto& parameter) {
                           return parameter.param == Place::kReap ? "Reap" : "Wait";
                         });

}  // namespace
}  // namespace larder::log_store
