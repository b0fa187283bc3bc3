#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/connector/connector.h"

namespace larder::faults {

/// Longer than anything here takes on a busy machine.
inline constexpr std::uint64_t kPatienceNs = 60'000'000'000;

/// One key's operation and the memory it points to.
struct Operation {
  std::string key;
  AlignedBuffer memory;
  Slice slice;
  Item item;
  Batch batch;
  bool is_back = false;

  bool is_hit() const { return is_back && item.outcome == Outcome::kHit; }
  bool is_miss() const { return is_back && item.outcome == Outcome::kMiss; }
  bool is_done() const { return is_back && item.outcome == Outcome::kDone; }
  bool has_failed() const { return is_back && item.outcome == Outcome::kFailed; }
  std::string error() const { return item.error.to_string(); }
};

/// Drives an open store while its disk misbehaves: operations are begun, and waited for one by one.
/// Values are a function of their key, and every hit is compared.
///
/// Threads: one.
class FaultClient {
 public:
  FaultClient(std::unique_ptr<Connector> connector, std::size_t value_bytes)
      : connector_(std::move(connector)), value_bytes_(value_bytes) {}
  /// The disk must work again: everything is waited for.
  ~FaultClient();
  FaultClient(const FaultClient&) = delete;
  FaultClient& operator=(const FaultClient&) = delete;

  /// With `timeout_ns` as its deadline.
  Operation& start(Op op, const std::string& key, std::uint64_t timeout_ns = kPatienceNs);
  /// True when it came back, which it must: otherwise the test fails and it is false.
  bool wait(Operation& operation);
  /// start() and wait(). A hit with wrong bytes fails the test.
  Operation& run(Op op, const std::string& key, std::uint64_t timeout_ns = kPatienceNs);
  Operation& set(int number) { return run(Op::kSet, key_of(number)); }
  Operation& get(int number) { return run(Op::kGet, key_of(number)); }

  /// Calls `step` (which may use this client) until `is_true`, and fails the test when that takes
  /// too long.
  bool until(const std::string& what, const std::function<bool()>& is_true,
             const std::function<void()>& step = {});
  bool until_health(Health health, const std::function<void()>& step = {});

  /// Of stores from here on; kReplace at first.
  void use(SetMode mode) { set_mode_ = mode; }

  static std::string key_of(int number) { return "key-" + std::to_string(number); }
  Report report() const { return connector_->report(); }
  Health health() const { return report().health; }
  std::string reasons() const;
  std::uint64_t counter(const std::string& name) const;
  Connector& connector() { return *connector_; }

 private:
  void reap();
  void fill(const std::string& key, std::span<std::byte> out) const;

  std::unique_ptr<Connector> connector_;
  const std::size_t value_bytes_;
  SetMode set_mode_ = SetMode::kReplace;
  std::list<Operation> operations_;
};

/// "health down: reason; reason", for messages.
std::string text_of(const Report& report);

}  // namespace larder::faults
