#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/connector/connector.h"
#include "larder/connector/fan_out.h"
#include "larder/connector/intake.h"
#include "larder/connector/reactor.h"
#include "larder/connector/registry.h"
#include "larder/connectors/fault/fault_plan.h"

namespace larder::fault {

/// Another connector, with faults on purpose: so that what stands above can be tested.
///
/// error    The item fails as kIo and nothing reaches the inner connector; a key whose Get failed
///          so is a miss until it is stored again (C6).
/// delay    The batch is carried out at once and given back `delay` later, or failed at its
///          deadline.
/// stall    The batch is not carried out. It comes back failed: at its deadline, when it is
///          cancelled, at stop(), or after `stall` as kUnavailable, whichever is first.
/// drop     BREAKS THE CONTRACT: a Set is answered as done and was not stored, a Get as a miss.
/// corrupt  BREAKS THE CONTRACT: a Get is a hit with one bit flipped. A component that shows these
///          bytes to a user relied on this connector; capabilities() says that it has no integrity.
///
/// Without drop and corrupt it keeps C1 to C8 as far as the inner connector does.
///
/// Ownership: the inner connector. Threads: as the contract says; one of its own.
/// Cost: a copy of each item, and two thread switches a batch; meant for tests, not for speed.
/// Invariant: a batch that was taken is in flights_ until it is finished.
class FaultConnector final : public Connector, private Machine {
 public:
  static SetupResult<std::unique_ptr<Connector>> create(std::unique_ptr<Connector> inner,
                                                        const FaultOptions& options,
                                                        const BatchLimitOptions& limits);
  ~FaultConnector() override = default;
  FaultConnector(const FaultConnector&) = delete;
  FaultConnector& operator=(const FaultConnector&) = delete;

  Status submit(Batch& batch) noexcept override { return intake_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake_.reap(done); }
  int event_fd() const noexcept override { return intake_.event_fd(); }
  void cancel(Batch& batch) noexcept override { intake_.cancel(batch); }
  /// Unaffected by faults, but it knows the keys whose Get failed here.
  bool probe(std::span<Item> items) const noexcept override;
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return intake_.load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override;
  Report report() const override;
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;
  Result<EventPage> events(EventCursor from, std::size_t events_max) const override;
  Status stop(std::uint64_t deadline_ns) noexcept override;

 private:
  enum class Fate : std::uint8_t { kEnded = 0, kForward, kFail, kDrop };
  struct Flight {
    Batch* outer = nullptr;
    Split split;
    std::vector<Fate> fates;  ///< Numbers of the items.
    std::vector<std::size_t> corrupted;
    std::uint64_t held_until_ns = 0;
    bool is_stalled = false;
    bool is_cancelled = false;  ///< The inner connector knows.
  };

  FaultConnector(std::unique_ptr<Connector> inner, const FaultOptions& options,
                 const BatchLimitOptions& limits, EventFd wake);

  void turn() noexcept override;
  std::uint64_t next_timer_ns() const noexcept override { return next_timer_ns_; }
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { wake_.signal(); }
  void begin_stop() noexcept override { is_ending_ = true; }
  bool is_idle() const noexcept override { return flights_.empty(); }
  void close() noexcept override {}

  void start(Batch& batch) noexcept;
  void plan(Flight& flight);
  Fate fate_of(Flight& flight, std::size_t place, std::uint64_t number);
  void end_own(Flight& flight) noexcept;
  /// Whether the batch comes back now, and with which error where one keeps it from its own end.
  bool is_due(const Flight& flight, std::uint64_t now_ns, Error& error) const noexcept;
  void finish(Flight& flight, const Error& error) noexcept;
  void corrupt(const Item& item, std::size_t place) noexcept;
  void count(FaultKind kind) noexcept;

  const std::unique_ptr<Connector> inner_;
  const FaultOptions options_;
  Intake intake_;
  FanOut fan_out_;
  EventFd wake_;

  // The reactor's.
  std::list<Flight> flights_;
  std::array<std::uint64_t, kOpCount + 1> items_seen_{};    ///< By Op.
  std::array<std::uint64_t, kOpCount + 1> batches_seen_{};  ///< By Op.
  std::uint64_t next_timer_ns_ = kNever;
  bool is_ending_ = false;

  std::array<std::atomic<std::uint64_t>, kFaultKindCount> injected_{};
  Reactor reactor_;  ///< Last: it uses everything above.
};

const ConnectorType& connector_type();
/// LMCache's name and parameters for failing loads.
const ConnectorType& inject_connector_type();

}  // namespace larder::fault
