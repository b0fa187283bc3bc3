#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/random.h"
#include "larder/base/result.h"
#include "larder/connector/report.h"

namespace larder {

/// The wait before the next attempt to reach a peer.
struct ReconnectOptions {
  std::uint64_t initial_ns = 10'000'000;  ///< Before the second attempt.
  std::uint64_t max_ns = 5'000'000'000;   ///< The wait doubles up to this.

  SetupStatus validate() const;
};

/// When to try again to reach a peer: waits that double, each shortened at random by up to a half
/// so that many workers do not come back in one moment. One thread at a time.
class ReconnectBackoff {
 public:
  ReconnectBackoff(const ReconnectOptions& options, std::uint64_t seed) noexcept
      : options_(options), random_(seed) {}

  void note_failure(std::uint64_t now_ns) noexcept;
  /// Connected: the next attempt need not wait, but the next failure waits longer until reset().
  void note_connected() noexcept { retry_at_ns_ = kNever; }
  /// The peer has answered: the next failure is the first one again.
  void reset() noexcept;
  /// kNever: no attempt is due.
  std::uint64_t retry_at_ns() const noexcept { return retry_at_ns_; }

 private:
  const ReconnectOptions options_;
  Random random_;
  std::uint64_t wait_ns_ = 0;  ///< The last wait, before jitter.
  std::uint64_t retry_at_ns_ = kNever;
};

/// The state of a peer as all workers of a pool see it. Any thread; locks only when a connection
/// comes or goes.
class PeerState {
 public:
  enum class Link : std::uint8_t {
    kIdle = 0,   ///< No connection, and none was missed.
    kGreeted,    ///< Connected, and not used yet: says nothing about the peer.
    kConnected,  ///< The peer serves.
    kDown,       ///< The peer does not serve: it cannot be reached, or does not answer.
  };

  /// `workers` names them in a report; a literal.
  explicit PeerState(const char* workers = "workers") noexcept : name_(workers) {}

  void add_worker() noexcept LARDER_EXCLUDES(mutex_);
  /// One worker's link changed its state.
  void change(Link from, Link to) noexcept LARDER_EXCLUDES(mutex_);
  void note_failure(const Error& error) noexcept LARDER_EXCLUDES(mutex_);
  /// append_health(), and the two counters.
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);
  /// Down when some workers are down and the peer serves none; degraded when it serves others.
  void append_health(Report& report) const LARDER_EXCLUDES(mutex_);
  /// How many have a connection.
  std::uint64_t connections() const noexcept LARDER_EXCLUDES(mutex_);
  std::uint64_t failures_total() const noexcept LARDER_EXCLUDES(mutex_);

 private:
  const char* const name_;
  mutable Mutex mutex_;
  std::array<std::uint64_t, 4> workers_ LARDER_GUARDED_BY(mutex_){};  ///< By Link.
  std::uint64_t failures_total_ LARDER_GUARDED_BY(mutex_) = 0;
  Error last_failure_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder
