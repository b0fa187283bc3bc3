#include "larder/cache/sessions.h"

#include <algorithm>
#include <map>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

std::uint64_t later(std::uint64_t from_ns, std::uint64_t by_ns) noexcept {
  return from_ns > kNever - by_ns ? kNever : from_ns + by_ns;
}

}  // namespace

// ---- Finding.

SessionId Sessions::first_of(std::string_view request) const noexcept {
  const auto found = by_request_.find(request);
  return found == by_request_.end() ? kNone : found->second;
}

SessionId Sessions::own_of(SessionId first, std::uint64_t connection) const noexcept {
  SessionId id = first;
  while (id != kNone && sessions_[id].connection != connection) id = sessions_[id].next_of_request;
  return id;
}

SessionId Sessions::only_of(SessionId first) {
  if (first == kNone || sessions_[first].next_of_request == kNone) return first;
  ++state_.totals.ambiguous_requests;
  return is_broken(CacheRule::kAmbiguousIsNone) ? first : kNone;
}

SessionId Sessions::find_exactly(const SessionKey& key) const noexcept {
  return own_of(first_of(key.request), key.connection);
}

SessionId Sessions::find(const SessionKey& key) {
  const SessionId first = first_of(key.request);
  if (const SessionId own = own_of(first, key.connection); own != kNone) return own;
  const SessionId other = only_of(first);
  if (other == kNone || is_broken(CacheRule::kOtherConnection)) return other;
  // Counted request ids are the same in every engine: an open connection belongs to another client.
  return connections_.at(sessions_[other].connection).is_closed ? other : kNone;
}

SessionId Sessions::find_for_read(const SessionKey& key) {
  const SessionId first = first_of(key.request);
  const SessionId own = own_of(first, key.connection);
  return own != kNone ? own : only_of(first);
}

SessionId Sessions::make(const SessionKey& key, SpaceId space) {
  const SessionId id = sessions_.acquire();
  Session& session = sessions_[id];
  session.request = key.request;
  session.connection = key.connection;
  session.space = space;
  session.layout = state_.layouts.current(space);
  session.begin = 0;
  session.is_running = true;
  session.is_taken = false;
  session.hit = 0;
  session.job = kNone;
  session.first_wait = kNone;
  session.last_wait = kNone;
  session.freed_early.clear();
  session.columns.clear();
  session.shares.clear();
  session.shares_left = 0;
  session.rows = 0;
  session.readers.clear();
  session.named_ns = state_.now_ns;
  session.closed_ns = kNever;
  session.timer.kind = TimerKind::kSession;
  session.timer.id = id;
  link(id, key);
  arm(session);
  return id;
}

void Sessions::link(SessionId id, const SessionKey& key) {
  Session& session = sessions_[id];
  const auto [first, is_new] = by_request_.try_emplace(session.request, id);
  session.next_of_request = is_new ? kNone : std::exchange(first->second, id);
  Connection& connection = connections_[key.connection];
  connection.heard_ns = state_.now_ns;
  connection.is_closed = false;  // The number is in use again.
  session.previous_of_connection = kNone;
  session.next_of_connection = connection.first;
  if (connection.first != kNone) sessions_[connection.first].previous_of_connection = id;
  connection.first = id;
}

void Sessions::unlink(SessionId id) {
  Session& session = sessions_[id];
  const auto by_request = by_request_.find(session.request);
  if (by_request->second == id) {
    if (session.next_of_request == kNone) {
      by_request_.erase(by_request);
    } else {
      by_request->second = session.next_of_request;
    }
  } else {
    SessionId before = by_request->second;
    while (sessions_[before].next_of_request != id) before = sessions_[before].next_of_request;
    sessions_[before].next_of_request = session.next_of_request;
  }
  const auto connection = connections_.find(session.connection);
  if (session.previous_of_connection != kNone) {
    sessions_[session.previous_of_connection].next_of_connection = session.next_of_connection;
  } else {
    connection->second.first = session.next_of_connection;
  }
  if (session.next_of_connection != kNone) {
    sessions_[session.next_of_connection].previous_of_connection = session.previous_of_connection;
  }
  if (connection->second.first == kNone && connection->second.is_closed) {
    connections_.erase(connection);
  }
}

// ---- Locks.

void Sessions::set_columns(SessionId id, std::span<const ColumnId> columns, LayoutId layout) {
  Session& session = sessions_[id];
  LARDER_CHECK(session.shares_left == 0);
  session.layout = layout;
  session.rows = state_.layouts[layout].rows();
  session.columns.clear();
  for (const ColumnId column : columns) {
    session.columns.push_back(column == kNone ? ColumnRef{} : cells_.columns().ref(column));
  }
  session.shares.assign(session.columns.size() * session.rows, 0);
}

void Sessions::lock_cell(SessionId id, std::uint32_t chunk, Row row, std::uint32_t readers) {
  Session& session = sessions_[id];
  const ColumnId column = session.columns[chunk].id;
  cells_.lock(column, row, readers);
  std::uint8_t& share = session.shares[std::size_t{chunk} * session.rows + row];
  LARDER_CHECK(share == 0);
  share = static_cast<std::uint8_t>(readers);
  session.shares_left += readers;
  cells_.settle(column);
}

void Sessions::lock_needed(SessionId id, std::uint32_t hit, std::uint32_t readers, bool may_lack) {
  Session& session = sessions_[id];
  const Layout& layout = state_.layouts[session.layout];
  std::vector<std::uint32_t>& first = state_.first_needed;
  first.resize(session.rows);
  for (Row row = 0; row < session.rows; ++row) {
    first[row] = is_broken(CacheRule::kLockExactly) ? 0 : layout.first_needed(row, hit);
  }
  for (std::uint32_t chunk = 0; chunk < session.columns.size(); ++chunk) {
    const ColumnRef column = session.columns[chunk];
    if (!cells_.columns().is_current(column)) continue;
    std::uint8_t* const shares = &session.shares[std::size_t{chunk} * session.rows];
    bool has_changed = false;
    for (Row row = 0; row < session.rows; ++row) {
      const bool is_needed = chunk < hit && chunk >= first[row];
      if (is_needed == (shares[row] > 0)) continue;
      has_changed = true;
      if (!is_needed) {
        give_back(session, chunk, row, shares[row]);
        continue;
      }
      if (may_lack && cells_.columns()[column.id].cells[row].state != CellState::kResident)
        continue;
      cells_.lock(column.id, row, readers);
      shares[row] = static_cast<std::uint8_t>(readers);
      session.shares_left += readers;
    }
    if (has_changed) cells_.settle(column.id);
  }
}

void Sessions::lock_hit(SessionId id, std::uint32_t hit, std::uint32_t readers) {
  lock_needed(id, hit, readers, false);
}

void Sessions::lock_resident(SessionId id, std::uint32_t hit, std::uint32_t readers) {
  lock_needed(id, hit, readers, true);
}

void Sessions::put_column(SessionId id, std::uint32_t chunk, ColumnId column) {
  Session& session = sessions_[id];
  if (cells_.columns().is_current(session.columns[chunk])) {
    LARDER_CHECK(session.columns[chunk].id == column);
    return;
  }
  // Shares of a column that has gone are void.
  for (Row row = 0; row < session.rows; ++row) {
    std::uint8_t& share = session.shares[std::size_t{chunk} * session.rows + row];
    session.shares_left -= std::exchange(share, std::uint8_t{0});
  }
  session.columns[chunk] = cells_.columns().ref(column);
}

void Sessions::trim(SessionId id, std::uint32_t hit) {
  Session& session = sessions_[id];
  release_columns(session, {hit, static_cast<std::uint32_t>(session.columns.size())});
  session.columns.resize(std::min<std::size_t>(session.columns.size(), hit));
  session.shares.resize(session.columns.size() * session.rows);
}

void Sessions::give_back(Session& session, std::uint32_t chunk, Row row,
                         std::uint32_t shares) noexcept {
  std::uint8_t& left = session.shares[std::size_t{chunk} * session.rows + row];
  if (!is_broken(CacheRule::kReleaseOnce)) {
    left = static_cast<std::uint8_t>(left - shares);
    session.shares_left -= shares;
  }
  if (cells_.columns().is_current(session.columns[chunk])) {
    cells_.unlock(session.columns[chunk].id, row, shares);
  }
}

std::uint64_t Sessions::release_all(SessionId id) {
  Session& session = sessions_[id];
  return release_columns(session, {0, static_cast<std::uint32_t>(session.columns.size())});
}

std::uint64_t Sessions::release(SessionId id, ChunkRange range) {
  return release_columns(sessions_[id], sessions_[id].columns_of(range));
}

std::uint64_t Sessions::release_columns(Session& session, ChunkRange columns) {
  const std::uint64_t before = session.shares_left;
  cells_.begin_chain(session.space,
                     {.chunks = columns.end, .resident = columns.end, .end = columns.end});
  // From the last chunk to the first: columns without a pin go cold, or enter their policy, in this
  // order (E20).
  for (std::uint32_t chunk = columns.end; chunk-- > columns.begin && session.shares_left > 0;) {
    bool has_given = false;
    for (Row row = 0; row < session.rows; ++row) {
      const std::uint8_t left = session.shares[std::size_t{chunk} * session.rows + row];
      if (left == 0) continue;
      give_back(session, chunk, row, left);
      has_given = true;
    }
    const ColumnRef column = session.columns[chunk];
    if (has_given && cells_.columns().is_current(column)) cells_.settle(column.id);
  }
  return before - session.shares_left;
}

void Sessions::release_read(SessionId id, OwnerId owner, std::uint32_t rank, ChunkRange range) {
  Session& session = sessions_[id];
  const ChunkRange columns = session.columns_of(range);
  if (columns.size() == 0) return;
  auto reader = std::ranges::find_if(session.readers, [&](const Session::Reader& known) {
    return known.owner == owner && known.rank == rank;
  });
  if (reader == session.readers.end()) {
    session.readers.push_back({owner, rank, {}});
    reader = session.readers.end() - 1;
    reader->chunks.resize((session.columns.size() + 63) / 64);
  }
  const Row groups = state_.layouts[session.layout].groups();
  const Row from = static_cast<Row>(rank * groups);
  if (from + groups > session.rows) return;
  bool is_second = false;
  cells_.begin_chain(session.space,
                     {.chunks = columns.end, .resident = columns.end, .end = columns.end});
  for (std::uint32_t chunk = columns.end; chunk-- > columns.begin;) {
    std::uint64_t& word = reader->chunks[chunk / 64];
    const std::uint64_t bit = std::uint64_t{1} << chunk % 64;
    if ((word & bit) != 0 && !is_broken(CacheRule::kReadReleasesOnce)) {
      is_second = true;
      continue;
    }
    word |= bit;
    bool has_given = false;
    for (Row row = from; row < from + groups; ++row) {
      if (session.shares[std::size_t{chunk} * session.rows + row] == 0) continue;
      give_back(session, chunk, row, 1);
      has_given = true;
    }
    const ColumnRef column = session.columns[chunk];
    if (has_given && cells_.columns().is_current(column)) cells_.settle(column.id);
  }
  if (is_second) ++state_.totals.second_releases;
}

// ---- Results.

void Sessions::set_result(SessionId id, std::uint32_t hit) {
  Session& session = sessions_[id];
  LARDER_CHECK(session.is_running);
  session.is_running = false;
  session.job = kNone;
  session.hit = session.begin + hit;
  for (const ChunkRange& range : session.freed_early) release(id, range);
  session.freed_early.clear();
  arm(session);
  if (session.first_wait == kNone) return;
  session.is_taken = true;
  answer_all(session, session.hit);
}

std::optional<std::uint32_t> Sessions::take_result(SessionId id) {
  Session& session = sessions_[id];
  if (session.is_running) return std::nullopt;
  const bool was_taken = std::exchange(session.is_taken, true);
  return was_taken && !is_broken(CacheRule::kResultOnce) ? 0 : session.hit;
}

void Sessions::wait(SessionId id, Ticket ticket, std::uint64_t deadline_ns) {
  Session& session = sessions_[id];
  if (!session.is_running) {
    state_.listener.on_result(ticket, *take_result(id));
    return;
  }
  const std::uint32_t number = waits_.acquire();
  Wait& wait = waits_[number];
  wait.ticket = ticket;
  wait.session = id;
  wait.next = kNone;
  wait.timer.kind = TimerKind::kWait;
  wait.timer.id = number;
  if (session.last_wait == kNone) {
    session.first_wait = number;
  } else {
    waits_[session.last_wait].next = number;
  }
  session.last_wait = number;
  state_.timers.arm(wait.timer, deadline_ns);
}

void Sessions::answer_all(Session& session, std::uint32_t hit) {
  std::uint32_t number = std::exchange(session.first_wait, kNone);
  session.last_wait = kNone;
  while (number != kNone) {
    Wait& wait = waits_[number];
    const std::uint32_t next = wait.next;
    state_.timers.disarm(wait.timer);
    const Ticket ticket = wait.ticket;
    waits_.release(number);
    state_.listener.on_result(ticket, hit);
    number = next;
  }
}

void Sessions::on_wait_timer(std::uint32_t number) {
  unlink_wait(number);
  const Ticket ticket = waits_[number].ticket;
  waits_.release(number);
  state_.listener.on_result(ticket, std::nullopt);
}

void Sessions::unlink_wait(std::uint32_t number) {
  Session& session = sessions_[waits_[number].session];
  const std::uint32_t next = waits_[number].next;
  if (session.first_wait == number) {
    session.first_wait = next;
    if (next == kNone) session.last_wait = kNone;
    return;
  }
  std::uint32_t before = session.first_wait;
  while (waits_[before].next != number) before = waits_[before].next;
  waits_[before].next = next;
  if (next == kNone) session.last_wait = before;
}

// ---- Time and ends.

std::uint64_t Sessions::due_ns(const Session& session,
                               const Connection& connection) const noexcept {
  const EngineOptions& options = state_.options;
  std::uint64_t due = later(session.named_ns, options.session_ttl_ns);
  if (!is_broken(CacheRule::kClosedConnection)) {
    due = std::min(due, later(session.closed_ns, options.session_grace_ns));
  }
  if (session.shares_left > 0 && !is_broken(CacheRule::kReadTtl)) {
    due = std::min(due, later(connection.heard_ns, options.read_ttl_ns));
  }
  return due;
}

void Sessions::arm(Session& session) {
  state_.timers.arm(session.timer, due_ns(session, connections_.at(session.connection)));
}

bool Sessions::on_timer(SessionId id) {
  Session& session = sessions_[id];
  const Connection& connection = connections_.at(session.connection);
  const EngineOptions& options = state_.options;
  if (due_ns(session, connection) > state_.now_ns) {
    arm(session);
    return false;
  }
  const bool is_over = later(session.named_ns, options.session_ttl_ns) <= state_.now_ns ||
                       later(session.closed_ns, options.session_grace_ns) <= state_.now_ns;
  if (session.shares_left > 0) ++state_.totals.locks_expired;
  if (is_over) return true;
  release_all(id);
  arm(session);
  return false;
}

void Sessions::end(SessionId id) {
  Session& session = sessions_[id];
  release_all(id);
  answer_all(session, 0);
  state_.timers.disarm(session.timer);
  unlink(id);
  sessions_.release(id);
}

void Sessions::on_connection(std::uint64_t number, ConnectionEvent event) {
  if (event == ConnectionEvent::kHeard) {
    Connection& connection = connections_[number];
    connection.heard_ns = state_.now_ns;
    connection.is_closed = false;
    return;
  }
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  if (found->second.first == kNone) {
    connections_.erase(found);
    return;
  }
  found->second.is_closed = true;
  for (SessionId id = found->second.first; id != kNone; id = sessions_[id].next_of_connection) {
    sessions_[id].closed_ns = std::min(sessions_[id].closed_ns, state_.now_ns);
    arm(sessions_[id]);
  }
}

void Sessions::note_named(SessionId id, const SessionKey& key) {
  Session& session = sessions_[id];
  session.named_ns = state_.now_ns;
  if (key.connection == session.connection) {
    connections_.at(session.connection).heard_ns = state_.now_ns;
  }
}

void Sessions::check_invariants() const {
  std::map<std::pair<ColumnId, Row>, std::uint64_t> locks;
  for (SessionId id = 0; id < sessions_.end(); ++id) {
    if (!sessions_.is_used(id)) continue;
    const Session& session = sessions_[id];
    LARDER_CHECK(session.shares.size() == session.columns.size() * session.rows);
    std::uint64_t left = 0;
    for (std::size_t i = 0; i < session.shares.size(); ++i) {
      left += session.shares[i];
      const ColumnRef column = session.columns[i / session.rows];
      if (session.shares[i] == 0 || !cells_.columns().is_current(column)) continue;
      locks[{column.id, static_cast<Row>(i % session.rows)}] += session.shares[i];
    }
    LARDER_CHECK(left == session.shares_left);
    LARDER_CHECK(session.timer.is_armed());
  }
  for (ColumnId id = 0; id < cells_.columns().end(); ++id) {  // I7
    if (!cells_.columns().is_used(id)) continue;
    const Column& column = cells_.columns()[id];
    for (Row row = 0; row < column.rows; ++row) {
      const auto found = locks.find({id, row});
      LARDER_CHECK(column.cells[row].locks == (found == locks.end() ? 0 : found->second));
    }
  }
}

}  // namespace larder::cache
