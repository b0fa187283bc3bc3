#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"
#include "larder/server/admin_command.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/message.h"
#include "larder/server/options.h"
#include "larder/server/status.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

/// The protocol of LMCache's server over the cache engine, without sockets and without a clock:
/// messages, closed connections, finished L2 batches and time go in, replies come out (S1 to S11,
/// S15, S17, S18). The same input gives the same output.
///
/// A message with a key may take several turns, because hashing is done in pieces; messages of one
///   connection that need a key are worked off in their order, connections in turn. Everything else
///   is answered at once.
/// Ownership: the tiers are the service's; arena and sink outlive it. Drain it before it ends.
/// Threads: one. No call blocks, reads a clock or throws.
class Service {
 public:
  /// `options` are valid. `arena` is shared memory where engine-driven workers may register.
  /// `copies`, which outlives it, moves the bytes of workers that do not copy themselves, and has
  /// the arena already; null: such workers cannot register. `pages`, which outlives it, too, reads
  /// the keys of tiers; null: they cannot be cleared.
  Service(const ServerOptions& options, cache::Arena& arena, std::vector<cache::Tier> tiers,
          ReplySink& sink, CopyBackend* copies = nullptr, PageReader* pages = nullptr);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// Advances the time. Call it before the messages that were collected, with the time at which the
  /// loop ran again: a gap beyond the last turn()'s result is a stall (S15).
  void begin_turn(std::uint64_t now_ns);
  void on_message(ConnectionId connection, std::unique_ptr<Message> message);
  /// The sockets are empty: later messages were not waiting (S15).
  void on_sockets_empty();
  /// No message of the connection comes after it (S14).
  void on_closed(ConnectionId connection);
  /// The event fd of the tier is readable.
  void on_tier(std::size_t tier);
  /// The event fd of the copies is readable.
  void on_copies();
  /// A page that the service has asked its PageReader for.
  void on_page(const cache::PageWanted& question, const cache::PurgePage& page);
  /// A command of the admin HTTP (S28). `done` is called once with its answer: before this returns,
  /// or from a later call of this class.
  void on_admin(AdminCommand command, AdminDone done);
  /// E22, E34: sets the salt's quota, whether a client has used the salt yet or not. False: there
  /// are too many salts.
  bool set_quota(std::string_view salt, const cache::Quota& quota);
  /// Bounded work: hashing, the engine, timers. Returns when to call begin_turn() again at the
  /// latest; 0: at once.
  std::uint64_t end_turn();

  /// S32: from here on new work is refused. True when nothing is in flight any more; call it again
  /// after every turn while it is false. After `deadline_ns` the remaining work is cancelled.
  bool drain(std::uint64_t deadline_ns);

  /// The service's state. O(instances).
  void fill(ServerStatus& status) const;
  /// For tests: see Engine::check_invariants().
  void check_invariants() const;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace larder::server
