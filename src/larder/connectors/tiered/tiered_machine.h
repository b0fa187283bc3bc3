#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"
#include "larder/connector/reactor.h"
#include "larder/connectors/tiered/key_table.h"
#include "larder/connectors/tiered/lookups.h"
#include "larder/connectors/tiered/operations.h"
#include "larder/connectors/tiered/options.h"
#include "larder/connectors/tiered/tier_port.h"

namespace larder::tiered {

/// The engine, the tiers and the operations under one thread.
///
/// Ownership: owns all of it. The intake outlives it.
/// Threads: one, as Machine says; stats(), l1_counters() and the tiers' own reports are for any.
class TieredMachine final : public Machine, private cache::Listener, private cache::KeyNames {
 public:
  TieredMachine(const TieredOptions& options, Intake& intake, std::unique_ptr<cache::Arena> arena,
                std::vector<std::unique_ptr<Connector>> tiers, EventFd wake);
  ~TieredMachine() override = default;

  void turn() noexcept override;
  std::uint64_t next_timer_ns() const noexcept override { return next_timer_ns_; }
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { wake_.signal(); }
  void begin_stop() noexcept override;
  bool is_idle() const noexcept override { return is_ending_ && is_drained_; }
  void close() noexcept override;

  /// Until when stop() lets the tiers take L1's remaining values. Before begin_stop().
  void set_drain_deadline(std::uint64_t deadline_ns) noexcept {
    drain_deadline_ns_.store(deadline_ns, std::memory_order_release);
  }

  std::span<const std::unique_ptr<TierPort>> tiers() const noexcept { return tiers_; }
  Lookups& lookups() noexcept { return *lookups_; }
  const Lookups& lookups() const noexcept { return *lookups_; }
  /// As of the last turn: everything returned before is in them.
  cache::EngineStats stats() const LARDER_EXCLUDES(mutex_);
  const L1Counters& l1_counters() const noexcept { return operations_->counters(); }
  const CopyTimes& copy_times() const noexcept { return operations_->copy_times(); }
  /// For tests, when the machine's thread has ended: see Engine::check_invariants().
  void check_invariants() const { engine_->check_invariants(); }

 private:
  void on_result(cache::Ticket /*ticket*/, std::optional<std::uint32_t> /*hit*/) override {}
  void on_get(cache::Ticket ticket, std::span<const cache::GetOutcome> outcomes) override {
    operations_->on_get(ticket, outcomes);
  }
  void on_column(cache::ColumnEvent event, cache::SpaceId space,
                 const cache::ChunkHash& chunk) override;
  std::size_t write_key(const cache::CellName& cell,
                        std::span<std::byte, kKeyBytesMax> out) const noexcept override;

  std::vector<cache::Tier> make_faces();
  bool reap();
  void show_arrived();
  void publish() noexcept LARDER_EXCLUDES(mutex_);
  void drain() noexcept;

  const TieredOptions options_;
  Intake& intake_;
  EventFd wake_;
  std::vector<pollfd> waits_for_;
  KeyTable keys_;
  std::vector<std::unique_ptr<TierPort>> tiers_;
  const std::unique_ptr<cache::Arena> arena_;
  std::unique_ptr<cache::Engine> engine_;
  std::unique_ptr<Operations> operations_;
  std::unique_ptr<Lookups> lookups_;
  cache::SpaceId space_{};
  std::vector<cache::ChunkHash> arrived_;  ///< In L1, and not shown to other threads yet.
  std::vector<Call*> ended_calls_;         ///< Scratch.
  std::uint64_t next_timer_ns_ = kNever;
  bool is_ending_ = false;
  bool is_drained_ = false;
  std::atomic<std::uint64_t> drain_deadline_ns_ = 0;  ///< 0: begin_stop() sets it.

  mutable Mutex mutex_;
  cache::EngineStats stats_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::tiered
