#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "larder/connector/metrics.h"
#include "larder/connector/worker_pool.h"
#include "tests/support/eventually.h"
#include "tests/support/scripted_backend.h"

namespace larder::testing_support {

using Pool = WorkerPool<ScriptedBackend>;

inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kPatience = 20'000 * kMillisecond;
inline constexpr Error kGone{ErrorCode::kUnavailable, "script", "the peer is gone"};

inline std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

inline std::vector<std::string> keys(int count) {
  std::vector<std::string> result;
  result.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) result.push_back("key" + std::to_string(100 + i));
  return result;
}

/// A pool over a script; its destructor opens the gate, so that no failed test hangs.
class WorkerPoolTest : public ::testing::Test {
 protected:
  WorkerPoolTest() {
    options_.scheduler.workers = {1, 1, 1};
    options_.reconnect = {.initial_ns = kMillisecond, .max_ns = 4 * kMillisecond};
  }
  ~WorkerPoolTest() override {
    gate_->open();
    pool_.reset();
    EXPECT_EQ(script_->connections_alive, 0);
    EXPECT_EQ(script_->foreign_thread_uses, 0);
  }
  WorkerPoolTest(const WorkerPoolTest&) = delete;
  WorkerPoolTest& operator=(const WorkerPoolTest&) = delete;

  /// Ends the pool; the next one has a new script and gate.
  void reset() {
    gate_->open();
    pool_.reset();
    script_ = std::make_shared<Script>();
    gate_ = std::make_unique<Gate>();
  }
  void make_pool() {
    auto pool = Pool::create(ScriptedBackend{script_}, options_, *pool_clock_);
    ASSERT_TRUE(pool) << pool.error().text;
    pool_ = std::move(*pool);
  }
  /// Calls with this operation wait at gate_->
  void block(Op blocked) {
    script_->on_call = [this, blocked](Op op, const std::string&) {
      if (op == blocked) gate_->wait();
      return Status{};
    };
  }
  void store(const std::vector<std::string>& stored) {
    const MutexLock lock{script_->mutex};
    for (const auto& key : stored) script_->values[key] = "1234";
  }
  void submit(TestBatch& batch) { ASSERT_TRUE(pool_->submit(batch.batch)); }
  /// The next batch that comes back, or nullptr after kPatience.
  Batch* reap() {
    std::array<Batch*, 1> done{};
    while (pool_->reap(done) == 0) {
      pollfd entry{pool_->event_fd(), POLLIN, 0};
      if (::poll(&entry, 1, static_cast<int>(kPatience / kMillisecond)) != 1) return nullptr;
    }
    return done[0];
  }
  void run(TestBatch& batch) {
    submit(batch);
    ASSERT_EQ(reap(), &batch.batch);
  }
  bool has_nothing_to_reap() {
    std::array<Batch*, 1> done{};
    return pool_->reap(done) == 0;
  }
  Report report() const {
    Report result;
    pool_->append_report(result);
    return result;
  }
  std::uint64_t counter(std::string_view name) const {
    const auto value = metric_value(report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }
  WorkerPoolOptions options_;
  ManualClock manual_clock_;
  const Clock* pool_clock_ = &RealClock::instance();  ///< Or manual_clock_, before make_pool().
  std::shared_ptr<Script> script_ = std::make_shared<Script>();
  // What a script refers to must outlive the pool's threads, so it is here and not in the test.
  std::unique_ptr<Gate> gate_ = std::make_unique<Gate>();
  std::atomic<bool> flag_ = false;
  std::atomic<std::uint64_t> calls_ = 0;
  std::atomic<std::uint64_t> attempted_at_ns_ = 0;
  std::unique_ptr<Pool> pool_;
};

}  // namespace larder::testing_support
