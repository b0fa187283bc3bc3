#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

class LookupWatch;

/// One session as its client, and the rules, have it.
struct Request {
  struct Reader {
    OwnerId owner{};
    std::uint32_t rank = 0;
    std::vector<bool> chunks;
  };

  std::uint64_t serial = 0;
  std::uint64_t connection = 0;
  std::uint32_t id = 0;
  std::uint32_t space = 0;
  std::uint32_t prompt = 0;
  std::uint32_t chunks = 0;
  std::uint32_t begin = 0;  ///< Chunks before it are the serving engine's.
  std::uint32_t readers = 1;
  bool keeps_locks = true;
  std::uint64_t asked_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::uint64_t named_ns = 0;
  std::uint64_t closed_ns = kNever;
  std::uint64_t layout_number = 0;
  std::uint64_t disturbances = 0;  ///< When it was asked; the same for the next three.
  std::uint64_t trimmed = 0;
  std::uint64_t evicted = 0;
  std::uint64_t load_disturbances = 0;
  std::uint32_t in_l1 = 0;  ///< Its chunks whose columns were complete, one bit each.
  std::uint64_t step = 0;

  bool is_known = false;   ///< The client has heard the hit, or someone who waited has.
  bool is_taken = false;   ///< The number was given (E29).
  bool is_unsure = false;  ///< What locks it has cannot be told.
  bool is_ending = false;
  bool was_alone = true;     ///< No other lookup of its prompt has run beside it.
  bool is_queued = false;    ///< It runs, and nothing was loaded for it yet.
  bool had_kept = false;     ///< A clear had left columns for their locks when it was asked.
  bool began_quiet = false;  ///< Nothing was being loaded when it was asked.
  std::uint32_t hit = 0;
  std::vector<std::uint8_t> shares;  ///< By chunk of the hit and row.
  std::vector<Reader> seen;
  std::vector<ChunkRange> freed_early;

  /// It asked for this chunk of its prompt.
  bool asks_for(std::uint32_t chunk) const noexcept { return begin <= chunk && chunk < chunks; }
};

/// The schedulers: lookups, QUERY, WAIT, FREE, END and connections, and a model of all sessions
/// that knows who must be there and which locks they must have (E6, E7, E9 to E11, E29; I4, I5,
/// I7).
///
/// Exact where each result is heard of at once (Plan::polls_eagerly, or a WAIT). Otherwise locks
/// are not judged while a result has not been heard.
class Clients {
 public:
  explicit Clients(World& world) : world_(world) {}
  void set_watch(LookupWatch* watch) noexcept { watch_ = watch; }

  // ---- What clients do, at random.
  void look_up();
  void warm_up();
  void poll();
  void poll_all();
  void ask_as_another();
  void wait();
  void free();
  void end();
  void connection_event();

  // ---- What the world does.
  void on_result(Ticket ticket, std::optional<std::uint32_t> hit);
  /// Before and after the turn at World::now_ns.
  void before_turn();
  void after_turn();
  void on_clear(std::optional<std::uint32_t> space, bool force);
  void on_remove(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunk);
  /// Sessions of the salts' spaces: what they hold may be cut off at any time.
  void on_layout_change();
  void on_restart();

  // ---- For readers.
  /// A request with a hit; null: there is none.
  Request* any_with_hit();
  std::uint64_t last_serial() const noexcept { return serials_; }
  /// A session up to this serial number may have a lock of the column, or take one.
  bool may_lock(const CellId& column, std::uint64_t serial_max) const;
  bool holds(const Request& request, std::uint32_t rank, ChunkRange range) const;
  /// The session that the engine finds for this key (E6): for the scheduler's calls.
  Request* find(std::uint64_t connection, std::uint32_t id);
  /// The same for a worker's read.
  Request* find_for_read(std::uint64_t connection, std::uint32_t id);
  /// A read by a worker has named the session and given its shares back.
  void on_read(std::uint64_t connection, std::uint32_t id, OwnerId owner, std::uint32_t rank,
               ChunkRange range);

  // ---- Checks.
  void check(const EngineStats& stats);
  std::list<Request>& requests() noexcept { return requests_; }
  const std::list<Request>& requests() const noexcept { return requests_; }
  std::size_t waits() const noexcept { return waits_.size(); }
  std::uint32_t running() const;

 private:
  struct Wait {
    std::uint64_t request = 0;  ///< Serial; 0: there was no session.
    std::uint64_t deadline_ns = 0;
    bool was_running = true;  ///< The lookup had no result when the WAIT came.
  };

  Request* any();
  Request* find_exactly(std::uint64_t connection, std::uint32_t id);
  Request* with_serial(std::uint64_t serial);
  void start(Request request);
  void note_named(Request& request, std::uint64_t connection);
  std::optional<std::uint32_t> query(std::uint64_t connection, std::uint32_t id);
  void learn(Request& request, std::uint32_t hit);
  void release(Request& request, ChunkRange range) const;
  void give_back(Request& request, std::uint32_t chunk, std::uint32_t row,
                 std::uint8_t shares) const;
  void end(Request& request);
  void erase_ending();
  std::uint64_t locked_bytes();
  std::uint64_t largest_hit_bytes() const;

  World& world_;
  LookupWatch* watch_ = nullptr;
  std::list<Request> requests_;
  std::map<std::uint64_t, Wait> waits_;           ///< By ticket.
  std::map<std::uint64_t, std::uint64_t> heard_;  ///< By connection.
  std::set<std::uint64_t> closed_;                ///< Connections, since they were last heard.
  std::uint64_t serials_ = 0;
  std::uint64_t tickets_ = 0;
  std::vector<std::uint8_t> is_locked_;  ///< Scratch: by cell.
};

}  // namespace larder::cache::simulation
