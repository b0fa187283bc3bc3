#pragma once

#include <memory>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connector/intake.h"
#include "larder/connector/reactor.h"
#include "larder/connector/registry.h"
#include "larder/connectors/tiered/options.h"
#include "larder/connectors/tiered/tiered_machine.h"

namespace larder::tiered {

/// L1 in this process's memory before one to four other connectors, by the cache engine (E35).
///
/// When a Set is done: `through`, when at least one tier has it, and L1 is only a faster copy;
///   `back`, when L1 has it, and the tiers get it behind. In L1 alone a value does not survive the
///   process, so only `through` has survives_restart. A value that is on its way to a tier is never
///   evicted from L1: if L1 is full of such values, a Set goes through.
/// Replacing and deleting remove the key from every tier, also from those without stores, and fail
///   if one of them cannot: its old value might be found again.
/// A tier that does not answer makes no Get or Exists fail that another one can answer.
/// Limits of keys, slices and values: those that all tiers have.
/// Ownership: the tiers. Threads: as the contract says; one of its own, which copies the values
///   that go into and out of L1.
/// Cost: a batch is two thread switches, but a lookup where Lookups can answer, which is done when
///   it was submitted.
class TieredConnector final : public Connector {
 public:
  static SetupResult<std::unique_ptr<TieredConnector>> create(
      const TieredOptions& options, std::vector<std::unique_ptr<Connector>> tiers);
  ~TieredConnector() override = default;
  TieredConnector(const TieredConnector&) = delete;
  TieredConnector& operator=(const TieredConnector&) = delete;

  Status submit(Batch& batch) noexcept override {
    return is_answered_at_once(batch) ? machine_.lookups().look_up(batch) : intake_.submit(batch);
  }
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake_.reap(done); }
  int event_fd() const noexcept override { return intake_.event_fd(); }
  void cancel(Batch& batch) noexcept override {
    if (!is_answered_at_once(batch)) intake_.cancel(batch);
  }
  bool probe(std::span<Item> items) const noexcept override {
    return machine_.lookups().probe(items);
  }
  /// L1's copies one after the other, and the tiers beside each other.
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override;
  Capabilities capabilities() const noexcept override { return capabilities_; }
  Report report() const override;
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;
  /// First L1 is written to the tiers, for `drain` or three quarters of the available time;
  /// report() gives the number of values that were not written in `values_unwritten`.
  Status stop(std::uint64_t deadline_ns) noexcept override;

  /// For tests, after stop().
  const TieredMachine& machine() const noexcept { return machine_; }

 private:
  TieredConnector(const TieredOptions& options, std::unique_ptr<cache::Arena> arena,
                  std::vector<std::unique_ptr<Connector>> tiers, EventFd wake);

  bool is_answered_at_once(const Batch& batch) const noexcept {
    return batch.op == Op::kExists && machine_.lookups().can_answer();
  }
  void append_tiers(Report& report) const;
  void append_counters(Report& report, const cache::EngineStats& stats) const;

  const TieredOptions options_;
  const Capabilities capabilities_;
  Intake intake_;
  TieredMachine machine_;
  Reactor reactor_;  ///< Last: it uses everything above.
};

const ConnectorType& connector_type();

}  // namespace larder::tiered
