#include "tests/faults/fault_client.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/hash.h"
#include "larder/base/random.h"
#include "larder/connector/metrics.h"

namespace larder::faults {
namespace {

constexpr int kPollMs = 5;

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

}  // namespace

FaultClient::~FaultClient() {
  EXPECT_TRUE(connector_->stop(now_ns() + kPatienceNs).has_value()) << text_of(report());
  for (Operation& operation : operations_) {
    if (!operation.is_back) wait(operation);
  }
}

void FaultClient::fill(const std::string& key, std::span<std::byte> out) const {
  Random{hash64(std::as_bytes(std::span{key}))}.fill(out);
}

Operation& FaultClient::start(Op op, const std::string& key, std::uint64_t timeout_ns) {
  Operation& operation = operations_.emplace_back();
  operation.key = key;
  operation.item.key = std::as_bytes(std::span{operation.key});
  if (op == Op::kGet || op == Op::kSet) {
    auto memory = AlignedBuffer::create(value_bytes_, 4096);
    LARDER_CHECK(memory.has_value());
    operation.memory = std::move(*memory);
    operation.slice = {.data = operation.memory.data(), .bytes = value_bytes_};
    operation.item.value = {&operation.slice, 1};
    if (op == Op::kSet) fill(key, operation.memory.span());
  }
  operation.batch.items = {&operation.item, 1};
  operation.batch.op = op;
  operation.batch.set_mode = set_mode_;
  operation.batch.deadline_ns = now_ns() + timeout_ns;
  operation.batch.user_data = &operation;
  const Status submitted = connector_->submit(operation.batch);
  EXPECT_TRUE(submitted.has_value()) << submitted.error().to_string();
  operation.is_back = !submitted.has_value();
  return operation;
}

void FaultClient::reap() {
  std::array<Batch*, 64> done{};
  const std::size_t count = connector_->reap(done);
  for (std::size_t i = 0; i < count; ++i) {
    Operation& operation = *static_cast<Operation*>(done[i]->user_data);
    operation.is_back = true;
    if (operation.is_hit() && operation.batch.op == Op::kGet) {
      std::vector<std::byte> expected(value_bytes_);
      fill(operation.key, expected);
      EXPECT_TRUE(std::ranges::equal(operation.memory.span(), expected))
          << "wrong bytes of " << operation.key;
    }
    operation.memory = {};
  }
}

bool FaultClient::wait(Operation& operation) {
  const std::uint64_t until_ns = now_ns() + kPatienceNs;
  while (!operation.is_back && now_ns() < until_ns) {
    pollfd waits{connector_->event_fd(), POLLIN, 0};
    ::poll(&waits, 1, kPollMs);
    reap();
  }
  EXPECT_TRUE(operation.is_back) << operation.key << " has no answer; " << text_of(report());
  return operation.is_back;
}

Operation& FaultClient::run(Op op, const std::string& key, std::uint64_t timeout_ns) {
  Operation& operation = start(op, key, timeout_ns);
  wait(operation);
  return operation;
}

bool FaultClient::until(const std::string& what, const std::function<bool()>& is_true,
                        const std::function<void()>& step) {
  const std::uint64_t until_ns = now_ns() + kPatienceNs;
  while (!is_true()) {
    if (now_ns() >= until_ns || ::testing::Test::HasFailure()) {
      ADD_FAILURE() << "this did not happen: " << what << "; " << text_of(report());
      return false;
    }
    if (step) {
      step();
    } else {
      ::poll(nullptr, 0, kPollMs);
    }
  }
  return true;
}

bool FaultClient::until_health(Health health, const std::function<void()>& step) {
  return until("health " + name_of(health), [&] { return this->health() == health; }, step);
}

std::string FaultClient::reasons() const {
  std::string text;
  for (const std::string& reason : report().reasons) text += reason + "\n";
  return text;
}

std::uint64_t FaultClient::counter(const std::string& name) const {
  const Report now = report();
  const auto value = metric_value(now, name);
  EXPECT_TRUE(value.has_value()) << name;
  return value.value_or(0);
}

std::string text_of(const Report& report) {
  std::string text = "health " + name_of(report.health) + ":";
  for (const std::string& reason : report.reasons) text += " " + reason + ";";
  return text;
}

}  // namespace larder::faults
