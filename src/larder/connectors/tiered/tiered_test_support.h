#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/random.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/builtin.h"
#include "larder/connectors/tiered/tiered_connector.h"

namespace larder::tiered {

using Bytes = std::vector<std::byte>;

inline std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}
inline std::uint64_t in_ms(std::uint64_t ms) {
  return now_ns() + ms * 1'000'000;
}

inline Bytes value_of(std::uint64_t seed, std::size_t bytes = 1000) {
  Bytes value(bytes);
  Random{seed}.fill(value);
  return value;
}
inline std::string key_of(std::uint64_t number) {
  return "key-" + std::to_string(number);
}

/// A batch with its memory.
class Many {
 public:
  explicit Many(Op op) { batch.op = op; }
  Many& add(std::string key, Bytes value = {}) {
    keys_.push_back(std::move(key));
    values_.push_back(std::move(value));
    return *this;
  }
  Batch& prepare() {
    slices_.clear();
    items.assign(keys_.size(), {});
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      slices_.push_back({values_[i].data(), values_[i].size()});
      items[i].key = std::as_bytes(std::span{keys_[i]});
      if (batch.op == Op::kGet || batch.op == Op::kSet) items[i].value = {&slices_[i], 1};
    }
    batch.items = items;
    return batch;
  }
  const Bytes& value(std::size_t i) const { return values_[i]; }

  std::vector<Item> items;
  Batch batch;

 private:
  std::deque<std::string> keys_;
  std::deque<Bytes> values_;
  std::deque<Slice> slices_;
};

/// A tiered connector over real ones. The tests see L2 through its own report.
class TieredFixture : public testing::Test {
 protected:
  void open_with(const TieredOptions& options, std::vector<std::unique_ptr<Connector>> tiers) {
    for (const auto& tier : tiers) inner.push_back(tier.get());
    auto made = TieredConnector::create(options, std::move(tiers));
    ASSERT_TRUE(made.has_value()) << made.error().text;
    connector = std::move(made).value();
  }
  /// The tiers by their specs.
  void open(TieredOptions options, const std::vector<std::string>& specs) {
    std::vector<std::unique_ptr<Connector>> tiers;
    for (const std::string& spec : specs) {
      auto tier = builtin_registry().open(spec);
      ASSERT_TRUE(tier.has_value()) << tier.error().text;
      tiers.push_back(std::move(tier).value());
    }
    options.tiers.resize(tiers.size());
    open_with(options, std::move(tiers));
  }
  void TearDown() override {
    if (!connector) return;
    EXPECT_TRUE(connector->stop(in_ms(60'000)).has_value());
    Batch* done = nullptr;
    EXPECT_EQ(connector->reap({&done, 1}), 0U);
    connector->machine().check_invariants();
  }

  void wait_for(const Batch& batch) {
    for (;;) {
      pollfd waited{connector->event_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&waited, 1, 30'000), 1) << "it never came back";
      Batch* done = nullptr;
      if (connector->reap({&done, 1}) == 1 && done == &batch) return;
    }
  }
  /// So many of them, in any order.
  void wait_for_batches(std::size_t count) {
    for (std::size_t back = 0; back < count;) {
      pollfd waited{connector->event_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&waited, 1, 30'000), 1) << back << " of " << count << " are back";
      Batch* done = nullptr;
      while (connector->reap({&done, 1}) == 1) ++back;
    }
  }
  void run(Many& many) {
    const Status submitted = connector->submit(many.prepare());
    ASSERT_TRUE(submitted.has_value()) << submitted.error().to_string();
    wait_for(many.batch);
  }
  /// Keys `from` to `to`, each with its value.
  void store(std::uint64_t from, std::uint64_t to, std::size_t bytes = 1000,
             SetMode mode = SetMode::kIfAbsent) {
    Many many{Op::kSet};
    many.batch.set_mode = mode;
    for (std::uint64_t i = from; i < to; ++i) many.add(key_of(i), value_of(i, bytes));
    run(many);
    for (const Item& item : many.items) {
      EXPECT_EQ(item.outcome, Outcome::kDone) << item.error.to_string();
    }
  }
  /// The outcomes; a hit is checked byte for byte.
  std::vector<Outcome> load(std::uint64_t from, std::uint64_t to, std::size_t bytes = 1000,
                            std::uint64_t deadline_ns = kNever) {
    Many many{Op::kGet};
    many.batch.deadline_ns = deadline_ns;
    for (std::uint64_t i = from; i < to; ++i) many.add(key_of(i), Bytes(bytes));
    run(many);
    std::vector<Outcome> outcomes;
    for (std::size_t i = 0; i < many.items.size(); ++i) {
      outcomes.push_back(many.items[i].outcome);
      if (outcomes.back() == Outcome::kHit) {
        EXPECT_EQ(many.value(i), value_of(from + i, bytes)) << key_of(from + i);
      }
    }
    return outcomes;
  }
  std::size_t hits(std::uint64_t from, std::uint64_t to, std::size_t bytes = 1000) {
    return static_cast<std::size_t>(std::ranges::count(load(from, to, bytes), Outcome::kHit));
  }
  std::uint64_t counter(std::string_view name) const {
    const auto value = metric_value(connector->report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }
  /// Values in the tier.
  std::uint64_t keys_in(std::size_t tier) const { return inner[tier]->report().keys; }
  /// Until L1 holds no value that a tier is still to get.
  void wait_until_written() {
    const std::uint64_t give_up_ns = in_ms(30'000);
    for (;;) {
      Many nothing{Op::kExists};  // The numbers are those of the last batch that ended.
      nothing.add("nothing");
      run(nothing);
      if (counter("values_unwritten") == 0) return;
      ASSERT_LT(now_ns(), give_up_ns) << "the tiers never got everything";
    }
  }

  std::vector<Connector*> inner;
  std::unique_ptr<TieredConnector> connector;
};

}  // namespace larder::tiered
