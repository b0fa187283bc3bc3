#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "larder/connector/intake.h"
#include "larder/connector/metrics.h"

namespace larder::intake_test {

inline constexpr std::uint64_t kSecond = 1'000'000'000;
inline constexpr LaneNumber kLookups = 0;
inline constexpr LaneNumber kLoads = 1;
inline constexpr LaneNumber kStores = 2;

/// A batch of `keys` keys, whose values have `bytes` bytes each.
struct Sent {
  Sent(Op op, std::size_t keys, Urgency urgency = Urgency::kDemand, std::size_t bytes = 8)
      : memory(bytes), names(keys), slice{.data = memory.data(), .bytes = bytes}, items(keys) {
    for (std::size_t i = 0; i < keys; ++i) {
      names[i] = "key" + std::to_string(i);
      items[i].key = std::as_bytes(std::span{names[i]});
      if (op == Op::kGet || op == Op::kSet) items[i].value = {&slice, 1};
    }
    batch.items = items;
    batch.op = op;
    batch.urgency = urgency;
  }

  std::vector<std::byte> memory;
  std::vector<std::string> names;
  Slice slice;
  std::vector<Item> items;
  Batch batch;
};

class IntakeTest : public ::testing::Test, protected IntakeOwner {
 protected:
  void make(BatchLimitOptions limits = {}) {
    IntakeOptions options;
    options.limits = limits;
    make(options);
  }
  void make(const IntakeOptions& options) {
    intake_ = std::make_unique<Intake>(options, clock_);
    intake_->set_owner(this);
  }
  void submit(Sent& sent) { ASSERT_TRUE(intake_->submit(sent.batch)); }
  /// The batches that are back.
  std::vector<Batch*> reap() {
    std::array<Batch*, 64> done{};
    const std::size_t count = intake_->reap(done);
    return {done.begin(), done.begin() + static_cast<std::ptrdiff_t>(count)};
  }
  bool is_back(const Sent& sent) { return reap() == std::vector<Batch*>{batch_of(sent)}; }
  static Batch* batch_of(const Sent& sent) { return const_cast<Batch*>(&sent.batch); }
  void work_off(const Ticket& ticket, Outcome outcome, const Status& status = {}) {
    for (Item& item : ticket.items) {
      if (!intake_->begin(*ticket.batch, item)) continue;
      item.outcome = outcome;
      intake_->end(*ticket.batch, item, status);
    }
    intake_->finish(ticket);
  }
  void work_off_all(Outcome outcome) {
    for (const LaneNumber lane : {kLookups, kLoads, kStores}) {
      while (const Ticket ticket = intake_->take(lane)) work_off(ticket, outcome);
    }
  }
  std::uint64_t counter(const std::string& name) const {
    Report report;
    intake_->append_report(report);
    const auto value = metric_value(report, name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }

  void on_submitted(Op /*op*/) noexcept override { ++submitted_; }  // Any thread.
  void on_cancelled() noexcept override { ++cancelled_; }

  ManualClock clock_;
  std::atomic<int> submitted_ = 0;
  std::atomic<int> cancelled_ = 0;
  std::unique_ptr<Intake> intake_;
};

}  // namespace larder::intake_test
