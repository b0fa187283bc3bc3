#pragma once

#include <cstdint>

#include "larder/connector/peer_state.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {

/// Whether the server's name may lead elsewhere by now. After a failover the old primary often
/// lives on as a replica: it keeps its connections and refuses operations that need a primary,
/// while a new connection would reach the new primary.
///
/// The first refusal of that kind puts every connection that there is under suspicion, and each
/// later one its own, so that one which was made since is not taken for an old one. A refused
/// connection reconnects at once, and then again after growing waits while new ones are refused
/// too, so that a permanent replica costs one connection in each longest wait and keeps serving
/// loads. When a connection that is not under suspicion serves what was refused, the name leads
/// elsewhere, and all suspects reconnect.
///
/// One thread at a time.
class Relocation {
 public:
  Relocation(const ReconnectOptions& options, std::uint64_t seed) : backoff_(options, seed) {}

  struct Verdict {
    bool suspects_this = false;  ///< The refused connection.
    bool suspects_all = false;   ///< All connections that are ready now become suspects.
    bool renews_this = false;    ///< The refused connection reconnects.
  };
  Verdict note_refusal(const ReplyError& refusal, std::uint64_t now_ns) noexcept;

  enum class Finding : std::uint8_t {
    kNothing = 0,
    kElsewhere,  ///< All suspects reconnect.
    kHere,  ///< The refusals have ended where they came from: no connection is under suspicion any
            ///< more.
  };
  /// A command was answered and not refused, on a connection under suspicion or on another one.
  Finding note_served(bool is_suspect, bool is_write) noexcept;

  bool is_suspicious() const noexcept { return is_suspicious_; }
  /// Loads and lookups were refused too, not stores and deletes alone.
  bool concerns_reads() const noexcept { return is_suspicious_ && !only_writes_; }

 private:
  ReconnectBackoff backoff_;
  bool is_suspicious_ = false;
  bool only_writes_ = false;
  std::uint64_t loading_since_ns_ = 0;  ///< 0: it is not.
};

}  // namespace larder::resp
