#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/connector/peer_state.h"
#include "larder/connectors/resp/own_writes.h"
#include "larder/connectors/resp/reply_error.h"
#include "larder/connectors/resp/server_info.h"

namespace larder::resp {

/// Numbers that only grow, beside those of the intake. Written by the reactor, read by any thread.
struct NodeCounters {
  std::atomic<std::uint64_t> size_mismatches = 0;
  std::atomic<std::uint64_t> values_too_large = 0;
  std::atomic<std::uint64_t> error_replies = 0;
  std::atomic<std::uint64_t> connections_lost = 0;
  std::atomic<std::uint64_t> connections_renewed = 0;  ///< To find where the name leads now.
  std::atomic<std::uint64_t> retries = 0;
  std::atomic<std::uint64_t> sets_over_capacity = 0;
  std::atomic<std::uint64_t> audited = 0;
  std::atomic<std::uint64_t> audited_gone = 0;
};

inline void add_one(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

/// The part of a node's state that others may see: its part of a report. Any thread reads; the
/// reactor writes.
class NodeView {
 public:
  NodeView(std::uint64_t capacity_bytes, std::size_t keys_max,
           const Clock& clock = RealClock::instance());

  NodeCounters counters;
  /// By lane: a lane that cannot serve values is down, whatever happens to lookups.
  std::array<PeerState, 2> peers{PeerState{"connections for lookups"},
                                 PeerState{"connections for values"}};
  OwnWrites stored;

  /// An attempt to connect has ended, one way or the other, and `peers` has how. Until then the
  /// server's state is unknown, and the report says so.
  void note_attempt() noexcept { was_tried_.store(true, std::memory_order_release); }
  /// True: the server may have lost keys since the last time.
  bool note_info(const ServerInfo& info) LARDER_EXCLUDES(mutex_);
  /// Stays in the report until an operation works, or none was refused for a minute.
  void note_refusal(const ReplyError& refusal) noexcept;
  /// An operation worked: the earlier refusal is over.
  void note_success(bool is_write) noexcept;

  /// The health and its reasons alone.
  void append_health(Report& report) const LARDER_EXCLUDES(mutex_);
  /// append_health(), the server's properties and the counters.
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

 private:
  /// The last refusal that no success has followed. The rows are never freed.
  struct Refusal {
    std::atomic<const ReplyError*> row = nullptr;
    std::atomic<std::uint64_t> at_ns = 0;
  };
  static void end(Refusal& refusal) noexcept;

  const Clock& clock_;
  std::atomic<bool> was_tried_ = false;
  Refusal server_refusal_;
  Refusal write_refusal_;
  mutable Mutex mutex_;
  ServerInfo info_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::resp
