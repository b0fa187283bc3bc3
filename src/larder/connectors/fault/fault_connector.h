#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/completion_queue.h"
#include "larder/connector/connector.h"
#include "larder/connector/failed_keys.h"
#include "larder/connector/outcome_window.h"
#include "larder/connector/registry.h"
#include "larder/connectors/fault/fault_plan.h"

namespace larder::fault {

/// Another connector, with faults on purpose: so that what stands above can be tested.
///
/// error    The item fails as kIo and nothing reaches the inner connector; a key whose Get failed
/// so
///          is a miss until it is stored again (C6).
/// delay    The batch is carried out at once and given back `delay` later, or failed at its
/// deadline. stall    The batch is not carried out. It comes back failed: at its deadline, when it
/// is
///          cancelled, at stop(), or after `stall` as kUnavailable, whichever is first.
/// drop     BREAKS THE CONTRACT: a Set is answered as done and was not stored, a Get as a miss.
/// corrupt  BREAKS THE CONTRACT: a Get is a hit with one bit flipped. Whatever shows these bytes to
/// a
///          user believed this connector; capabilities() then says that it has no integrity.
///
/// Without drop and corrupt it keeps C1 to C8 as far as the inner connector does.
///
/// Ownership: the inner connector, and a copy of every batch while the inner connector has it.
/// Threads: as the contract says; one thread of its own reaps the inner connector and ends delays.
/// Cost: an allocation per batch and a copy of its items; meant for tests, not for speed.
/// Invariant: a batch is in flights_ from submit() until it is pushed to completions_.
class FaultConnector final : public Connector {
 public:
  static SetupResult<std::unique_ptr<Connector>> create(std::unique_ptr<Connector> inner,
                                                        const FaultOptions& options,
                                                        const BatchLimitOptions& limits);
  ~FaultConnector() override;
  FaultConnector(const FaultConnector&) = delete;
  FaultConnector& operator=(const FaultConnector&) = delete;

  Status submit(Batch& batch) noexcept override LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Batch*> done) noexcept override;
  int event_fd() const noexcept override { return completions_.event_fd(); }
  void cancel(Batch& batch) noexcept override LARDER_EXCLUDES(mutex_);
  /// Not disturbed by faults, but it knows of the keys whose Get failed here.
  bool probe(std::span<Item> items) const noexcept override;
  Capabilities capabilities() const noexcept override;
  Report report() const override LARDER_EXCLUDES(mutex_);
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;
  Result<EventPage> events(EventCursor from, std::size_t events_max) const override;
  Status stop(std::uint64_t deadline_ns) noexcept override LARDER_EXCLUDES(mutex_);

 private:
  struct Flight;
  /// The items of a batch that go to the inner connector together.
  struct Part {
    Flight* flight = nullptr;
    Batch batch;
    std::vector<Item> items;
    std::vector<std::size_t> places;  ///< Of the items in the outer batch.
    bool is_out = false;              ///< The inner connector has it.
  };
  struct Flight {
    Batch* outer = nullptr;
    /// Items as they are, and Sets of failed keys, which must replace what the inner one still has.
    std::array<Part, 2> parts;
    std::vector<std::size_t> corrupted;
    std::uint64_t held_until_ns = 0;
    bool is_stalled = false;
    bool is_cancelled = false;
    bool is_waiting = false;  ///< Back from the inner connector, held until its time.

    bool is_out() const noexcept { return parts[0].is_out || parts[1].is_out; }
  };
  enum class Fate : std::uint8_t { kForward = 0, kReplace, kFail, kMiss, kDropGet, kDropSet };

  FaultConnector(std::unique_ptr<Connector> inner, const FaultOptions& options,
                 const BatchLimitOptions& limits, EventFd wake);

  Status accept(Batch& batch, std::uint64_t now_ns) LARDER_REQUIRES(mutex_);
  void plan(Flight& flight, std::vector<Fate>& fates, std::uint64_t now_ns) LARDER_REQUIRES(mutex_);
  Fate fate_of(Flight& flight, std::size_t place, std::uint64_t number, std::uint64_t now_ns)
      LARDER_REQUIRES(mutex_);
  Status forward(Part& part) LARDER_REQUIRES(mutex_);
  void answer(Item& item, Fate fate) LARDER_REQUIRES(mutex_);

  void run() LARDER_EXCLUDES(mutex_);
  void reap_inner() LARDER_REQUIRES(mutex_);
  /// Gives back what is due. The next time to look, or kNever.
  std::uint64_t release_due(std::uint64_t now_ns) LARDER_REQUIRES(mutex_);
  void take_back(Part& part) LARDER_REQUIRES(mutex_);
  void finish_or_hold(Flight& flight) LARDER_REQUIRES(mutex_);
  void finish(Flight& flight) LARDER_REQUIRES(mutex_);
  void fail_all(Flight& flight, const Error& error) LARDER_REQUIRES(mutex_);
  void corrupt(const Item& item, std::size_t place) LARDER_REQUIRES(mutex_);
  void count(FaultKind kind) LARDER_REQUIRES(mutex_);

  const std::unique_ptr<Connector> inner_;
  const FaultOptions options_;
  FailedKeys failed_keys_;
  BatchLimits limits_;
  OutcomeWindow outcomes_;
  CompletionQueue completions_;
  EventFd wake_;

  mutable Mutex mutex_;  ///< Held over calls of the inner submit(), reap() and cancel().
  CondVar idle_;         ///< flights_ became empty.
  std::unordered_map<const Batch*, std::unique_ptr<Flight>> flights_ LARDER_GUARDED_BY(mutex_);
  std::array<std::uint64_t, 8> items_seen_ LARDER_GUARDED_BY(mutex_){};    ///< By Op.
  std::array<std::uint64_t, 8> batches_seen_ LARDER_GUARDED_BY(mutex_){};  ///< By Op.
  std::array<std::uint64_t, kFaultKindCount> injected_ LARDER_GUARDED_BY(mutex_){};
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;

  Thread thread_;  ///< Last: it uses everything above.
};

const ConnectorType& connector_type();
/// LMCache's name and parameters for failing loads.
const ConnectorType& inject_connector_type();

}  // namespace larder::fault
