#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/ids.h"
#include "larder/cache/slab.h"
#include "larder/cache/timers.h"

namespace larder::cache {

/// One lookup of one request: the columns that it hit and the locks that it holds.
///
/// Two counts of chunks: a request's are counted from its first one (ranges, the result), a
/// session's from `begin` on (columns, shares, the lookup's hit). columns_of() and
/// Sessions::set_result() are the only places that convert between them.
struct Session {
  /// The ranges that an instance has read already, so that it releases its shares once (E7).
  struct Reader {
    OwnerId owner{};
    std::uint32_t rank = 0;
    std::vector<std::uint64_t> chunks;  ///< One bit each.
  };

  std::string request;
  std::uint64_t connection = 0;
  SpaceId space{};
  LayoutId layout{};
  std::uint32_t begin = 0;  ///< Chunks of the request before the session's first column.

  // The result.
  bool is_running = false;    ///< The lookup has no result yet.
  bool is_taken = false;      ///< Its result was returned (E29).
  std::uint32_t hit = 0;      ///< Chunks of the request.
  std::uint32_t job = kNone;  ///< Of Lookups, while it runs.
  std::uint32_t first_wait = kNone;
  std::uint32_t last_wait = kNone;
  std::vector<ChunkRange> freed_early;  ///< FREE came while the lookup ran (E11).

  // The locks: `rows` bytes for each column of [0, columns.size()).
  std::vector<ColumnRef> columns;
  std::vector<std::uint8_t> shares;
  Row rows = 0;
  std::uint64_t shares_left = 0;  ///< Sum of `shares`.
  std::vector<Reader> readers;

  // Time (E9).
  std::uint64_t named_ns = 0;        ///< When a message last named the request.
  std::uint64_t closed_ns = kNever;  ///< When its connection was seen to close.
  Timer timer;

  // Lists.
  SessionId next_of_request = kNone;  ///< Other sessions with this request id.
  SessionId next_of_connection = kNone;
  SessionId previous_of_connection = kNone;

  /// The columns of these chunks of the request. Empty for chunks that the session does not hold.
  ChunkRange columns_of(ChunkRange range) const noexcept {
    const auto column_of = [this](std::uint32_t chunk) {
      const auto end = static_cast<std::uint32_t>(columns.size());
      return chunk <= begin ? 0 : std::min(chunk - begin, end);
    };
    return {column_of(range.begin), column_of(range.end)};
  }
};

/// A caller that waits for a session's result (E29).
struct Wait {
  Ticket ticket{};
  SessionId session = kNone;
  std::uint32_t next = kNone;
  Timer timer;
};

/// The sessions: how they are found (E6), which locks each has (E7), and when these end (E9).
///
/// Shares: each session knows how many shares of each of its cells are left; only that number is
///   ever released, so a session cannot release another's. A column that was removed has taken its
///   locks with it: its shares are void.
/// Invariant I7: the sum of the sessions' shares of a cell that are not void is its `locks`.
/// Threads: the engine's. Cost: O(1) to find; O(cells) to lock and to release; one timer for each
///   session, which is checked when it fires and not when a message comes.
class Sessions {
 public:
  Sessions(EngineState& state, Cells& cells) : state_(state), cells_(cells) {}

  /// E6, for the scheduler's calls: the session with this key; or the only one with the request id
  /// if its connection was seen to close, because a scheduler that reconnects has a new connection.
  /// kNone: there is none, or several have the request id.
  SessionId find(const SessionKey& key);
  /// E6, for a worker's read: the session with this key, or the only one with the request id.
  SessionId find_for_read(const SessionKey& key);
  /// A new session that begins with the request's first chunk. The caller has ended the one that
  /// had the key.
  SessionId make(const SessionKey& key, SpaceId space);
  /// The session with exactly this key.
  SessionId find_exactly(const SessionKey& key) const noexcept;
  Session& operator[](SessionId id) noexcept { return sessions_[id]; }
  const Session& operator[](SessionId id) const noexcept { return sessions_[id]; }
  std::uint32_t size() const noexcept { return sessions_.size(); }

  // ---- Locks. A chunk or a hit is counted from the session's begin on.
  /// The session holds `columns` from here on, with no shares. It holds nothing yet.
  void set_columns(SessionId id, std::span<const ColumnId> columns, LayoutId layout);
  /// Makes the locks exactly those that a hit of `hit` chunks needs (E10): locks missing cells,
  /// which must be resident, and releases surplus ones.
  void lock_hit(SessionId id, std::uint32_t hit, std::uint32_t readers);
  /// Locks the resident cells that a hit of `hit` chunks needs; the others are still to come.
  void lock_resident(SessionId id, std::uint32_t hit, std::uint32_t readers);
  /// The session holds this column at a chunk that had none, or one that has gone.
  void put_column(SessionId id, std::uint32_t chunk, ColumnId column);
  /// The session's hit is shorter than its columns; it has no locks beyond it.
  void trim(SessionId id, std::uint32_t hit);
  /// Locks one cell. It is resident.
  void lock_cell(SessionId id, std::uint32_t chunk, Row row, std::uint32_t readers);
  /// Releases the rest. Returns how many shares that were.
  std::uint64_t release_all(SessionId id);
  /// The same for a range of the request.
  std::uint64_t release(SessionId id, ChunkRange range);
  /// Gives back one share of each cell of a rank in a range of the request, once for each instance
  /// and chunk (E7).
  void release_read(SessionId id, OwnerId owner, std::uint32_t rank, ChunkRange range);

  // ---- Results.
  /// `hit` is counted from the session's begin on; the result is the request's.
  void set_result(SessionId id, std::uint32_t hit);
  std::optional<std::uint32_t> take_result(SessionId id);
  void wait(SessionId id, Ticket ticket, std::uint64_t deadline_ns);
  void on_wait_timer(std::uint32_t wait);

  // ---- Ends.
  /// Releases everything; a waiting caller gets 0.
  void end(SessionId id);
  /// Ends the locks, or the session, or arms the timer again. True: the session is to end.
  bool on_timer(SessionId id);
  void on_connection(std::uint64_t connection, ConnectionEvent event);
  /// A message named the request.
  void note_named(SessionId id, const SessionKey& key);

  void check_invariants() const;

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };
  struct Connection {
    std::uint64_t heard_ns = 0;
    bool is_closed = false;  ///< Forgotten with its last session.
    SessionId first = kNone;
  };

  std::uint64_t release_columns(Session& session, ChunkRange columns);
  void lock_needed(SessionId id, std::uint32_t hit, std::uint32_t readers, bool may_lack);
  void give_back(Session& session, std::uint32_t chunk, Row row, std::uint32_t shares) noexcept;
  std::uint64_t due_ns(const Session& session, const Connection& connection) const noexcept;
  void arm(Session& session);
  void link(SessionId id, const SessionKey& key);
  void unlink(SessionId id);
  void answer_all(Session& session, std::uint32_t hit);
  void unlink_wait(std::uint32_t wait);
  /// The first session of the request id, behind which the others are.
  SessionId first_of(std::string_view request) const noexcept;
  /// The connection's own among them.
  SessionId own_of(SessionId first, std::uint64_t connection) const noexcept;
  /// The first one where there is no other; else it is counted.
  SessionId only_of(SessionId first);

  EngineState& state_;
  Cells& cells_;
  Slab<Session> sessions_;
  Slab<Wait> waits_;
  /// The first of each request id. Looked up only, never walked.
  std::unordered_map<std::string, SessionId, TextHash, std::equal_to<>> by_request_;
  std::unordered_map<std::uint64_t, Connection> connections_;  ///< The same.
};

}  // namespace larder::cache
