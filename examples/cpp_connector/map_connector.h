#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/connector/connector.h"
#include "larder/connector/intake.h"
#include "larder/connector/reactor.h"
#include "larder/connector/registry.h"

namespace larder::example {

/// A connector that is a state machine: the kind to write where the storage answers later, as a
/// device or a socket does. Here a map stands for the device: it is asked in one turn and answers
/// in a later one.
///
/// The Intake does what callers see of the contract: limits, queues, urgency, deadlines,
/// cancellation, keys whose load failed, the way back. The Reactor has the thread. What is left to
/// write is turn().
///
/// Threads: as the contract says. The map and what is in flight belong to the reactor's thread.
class MapConnector final : public Connector, private Machine {
 public:
  static SetupResult<std::unique_ptr<Connector>> open(const BatchLimitOptions& limits);

  Status submit(Batch& batch) noexcept override { return intake_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake_.reap(done); }
  int event_fd() const noexcept override { return intake_.event_fd(); }
  void cancel(Batch& batch) noexcept override { intake_.cancel(batch); }
  bool probe(std::span<Item> /*items*/) const noexcept override { return false; }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return intake_.load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override;
  Report report() const override;
  Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) override {
    return Error{ErrorCode::kUnimplemented, "map", "keys are not listed by this connector"};
  }
  Status stop(std::uint64_t deadline_ns) noexcept override { return reactor_.stop(deadline_ns); }

 private:
  static constexpr std::size_t kInFlightMax = 8;

  MapConnector(const IntakeOptions& options, EventFd wake);

  void turn() noexcept override;
  std::uint64_t next_timer_ns() const noexcept override;
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { wake_.signal(); }
  void begin_stop() noexcept override {}
  bool is_idle() const noexcept override { return asked_.empty(); }
  void close() noexcept override {}

  Status run(const Batch& batch, Item& item);

  Intake intake_;
  std::atomic<std::uint64_t> keys_ = 0;  ///< For report().
  std::atomic<std::uint64_t> bytes_ = 0;
  EventFd wake_;
  std::map<std::string, std::vector<std::byte>, std::less<>> values_;
  std::deque<Ticket> asked_;
  Reactor reactor_;  // Last: its thread uses the others.
};

/// `map:`, for a Registry.
const ConnectorType& map_connector_type();

}  // namespace larder::example
