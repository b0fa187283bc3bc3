#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/connector.h"
#include "larder/connector/registry.h"
#include "larder/connector/worker_pool.h"

namespace larder::mock {

struct MockOptions {
  std::uint64_t capacity_bytes = 0;         ///< Of values.
  std::uint64_t bandwidth_bytes_per_s = 0;  ///< Of loads together, and of stores together.
};

/// LMCache's mock: values in memory, and every transfer takes as long as it would at the given
/// bandwidth. Nothing is evicted: a value that does not fit is refused (LMCache reports it as
/// stored).
///
/// A WorkerPool's backend. Ownership: the values. Threads: as a backend's. Cost: a copy, a mutex,
/// and the simulated time; a transfer that would miss its deadline fails at the deadline.
class MockBackend {
 public:
  struct Connection {};

  explicit MockBackend(const MockOptions& options) : state_(std::make_unique<State>(options)) {}

  Result<Connection> connect() { return Connection{}; }
  Status get(Connection& connection, Item& item, const CallOptions& options);
  Status set(Connection& connection, Item& item, const CallOptions& options);
  Status exists(Connection& connection, Item& item, const CallOptions& options);
  Status remove(Connection& connection, Item& item, const CallOptions& options);
  Status touch(Connection& connection, Item& item, const CallOptions& options);

  /// Ends the transfers that are under way. Any thread.
  void stop() noexcept;
  void append_report(Report& report) const;
  ScanPage scan(ScanCursor from, std::size_t keys_max) const;

 private:
  struct Value {
    std::shared_ptr<const std::vector<std::byte>> bytes;
    std::uint64_t age = 0;
  };
  using Values = std::unordered_map<std::string, Value>;
  struct State {
    explicit State(const MockOptions& given) : options(given) {}

    const MockOptions options;
    mutable Mutex mutex;
    CondVar stopped;
    bool is_stopping LARDER_GUARDED_BY(mutex) = false;
    Values values LARDER_GUARDED_BY(mutex);
    std::map<std::uint64_t, const std::string*> by_age LARDER_GUARDED_BY(mutex);
    std::uint64_t last_age LARDER_GUARDED_BY(mutex) = 0;
    std::uint64_t bytes_used LARDER_GUARDED_BY(mutex) = 0;
    std::uint64_t refused_total LARDER_GUARDED_BY(mutex) = 0;
  };

  Status transfer(std::uint64_t bytes, std::uint64_t deadline_ns);

  std::unique_ptr<State> state_;
};

class MockConnector final : public PooledConnector<MockBackend> {
 public:
  static SetupResult<std::unique_ptr<Connector>> create(const MockOptions& options,
                                                        const BatchLimitOptions& limits);

  Capabilities capabilities() const noexcept override;
  Report report() const override;
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;
  Status stop(std::uint64_t deadline_ns) noexcept override;

 private:
  MockConnector(std::unique_ptr<WorkerPool<MockBackend>> pool, const MockOptions& options)
      : PooledConnector(std::move(pool)), options_(options) {}

  const MockOptions options_;
};

const ConnectorType& connector_type();

}  // namespace larder::mock
