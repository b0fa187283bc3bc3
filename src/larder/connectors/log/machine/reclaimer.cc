#include "larder/connectors/log/machine/reclaimer.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

/// Moves are made only from this many free segments on (L10).
constexpr std::uint32_t kFreeForMoves = 2;
/// At most this share of the existing segments is kept free, so that a store which cannot grow to
/// its capacity does not empty itself.
constexpr std::uint32_t kFreeShare = 16;
/// While keys are retained, reclaim begins so much earlier: a whole segment of them may have to be
/// moved, and that needs room.
constexpr std::uint32_t kFreeForRetained = 2;
constexpr std::uint32_t kMovesInFlightMax = 8;
constexpr std::uint32_t kTablesAhead = 4;
/// Bytes that may be moved for each byte that callers store: keeps the writes below 1.2 a miss. A
/// store that finds its key is a miss, too: a lookup has stopped before it.
constexpr double kMovesPerStored = 0.2;
constexpr double kMovesPerFound = 1.2;
constexpr double kMovesAllowedSegments = 8;

std::span<const std::byte> as_bytes(std::string_view text) noexcept {
  return std::as_bytes(std::span{text.data(), text.size()});
}

}  // namespace

Reclaimer::TableRead::TableRead(PathState& state, std::uint32_t segment_number)
    : segment(segment_number),
      generation(state.segments.at(segment_number).generation),
      reader(state) {
  reader.start(segment);
}

Reclaimer::Reclaimer(PathState& state, Loads& loads, Appender& appender)
    : state_(state), loads_(loads), appender_(appender) {
  for (std::uint32_t i = 0; i < kMovesInFlightMax; ++i) {
    moves_.push_back(std::make_unique<Move>());
    Move& move = *moves_.back();
    move.load.sink = this;
    move.load.user_data = &move;
    move.store.sink = this;
    move.store.user_data = &move;
  }
}

bool Reclaimer::is_quiet() const noexcept {
  return moves_in_flight_ == 0 && (read_ == nullptr || !read_->reader.is_busy()) &&
         std::ranges::none_of(reads_ahead_,
                              [](const auto& read) { return read->reader.is_busy(); });
}

void Reclaimer::turn() noexcept {
  const std::uint32_t free = appender_.free_segments();
  if (!victim_) {
    if (is_stopping_ || state_.is_frozen) return;
    drop_expired_retentions();
    const std::uint32_t more = state_.retentions.keys() > 0 ? kFreeForRetained : 0;
    if (free >= std::min(free_wanted_, free_wanted_max()) + more && !is_requested_) return;
    begin();
  }
  if (!victim_) return;
  free_lowest_ = std::min(free_lowest_, free);
  if (!has_table_) on_table();
  if (!has_table_) return;
  for (const auto& move : moves_) {
    if (move->waits_for_head) start_append(*move);
  }
  start_moves();
  if (candidates_.empty() && moves_in_flight_ == 0) finish();
}

/// They keep more segments free, and the segments that they are in.
void Reclaimer::drop_expired_retentions() noexcept {
  if (state_.retentions.keys() == 0) return;
  state_.retentions.drop_expired(state_.clock.now_ns());
  state_.count_retentions();
}

void Reclaimer::begin() noexcept {
  for (std::uint32_t i = 0; i < state_.segments.count(); ++i) {
    const Segment& segment = state_.segments.at(i);
    if (segment.state() == SegmentState::kSealed && segment.live_records == 0 &&
        !segment.needs_repair && (segment.tombstones == 0 || is_broken(Rule::kTombstoneStays)) &&
        segment.pins() == 0 && state_.segments.is_durably_outranked(i)) {
      is_requested_ = false;
      state_.counters.segments_reclaimed_total.add();
      return state_.segments.push_free(i);
    }
  }
  const std::vector<std::uint32_t> victims = next_victims();
  if (victims.empty()) return;
  const std::uint32_t next = victims.front();
  if (state_.segments.at(next).needs_repair && !repair(next)) return;
  is_requested_ = false;
  has_reclaimed_ = true;
  if (state_.segments.oldest() != next) state_.counters.segments_reclaimed_early_total.add();
  victim_ = next;
  state_.segments.begin_reclaiming(*victim_);
  has_table_ = false;
  const auto is_victims = [&](const auto& read) {
    return read->segment == *victim_ && read->generation == state_.segments.at(*victim_).generation;
  };
  const auto ahead = std::ranges::find_if(reads_ahead_, is_victims);
  if (ahead == reads_ahead_.end()) {
    read_ = std::make_unique<TableRead>(state_, *victim_);
  } else {
    read_ = std::move(*ahead);
    reads_ahead_.erase(ahead);
  }
  read_ahead(std::span{victims}.subspan(1));
}

/// The segments to empty now and next, at most one more than are read ahead. L7: of those that may
/// go before older ones the least worthy first; but the oldest if one that must wait is worth even
/// less, so that its turn comes. Retained records leave with the oldest only: if they moved from
/// any segment, their copies would be the least worthy again at once.
std::vector<std::uint32_t> Reclaimer::next_victims() const {
  const Segments& segments = state_.segments;
  std::vector<std::uint32_t> victims;
  if (!knows_worth() || is_broken(Rule::kEvictOldest)) {
    std::uint64_t from = 0;
    if (const auto oldest = segments.oldest(); oldest && is_broken(Rule::kEvictOldest)) {
      from = segments.at(*oldest).generation + 1;
    }
    while (victims.size() <= kTablesAhead) {
      const auto next = segments.oldest_from(from);
      if (!next || segments.at(*next).state() != SegmentState::kSealed) break;
      victims.push_back(*next);
      from = segments.at(*next).generation + 1;
    }
    return victims;
  }
  const auto oldest = segments.oldest();
  if (!oldest) return victims;
  const std::uint64_t first_unsettled = segments.first_unsettled();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    if (segment.state() != SegmentState::kSealed) continue;
    if (i == *oldest || state_.ledger.knows_segment(segment.generation)) victims.push_back(i);
  }
  const auto is_before = [&](std::uint32_t one, std::uint32_t other) {
    const std::size_t worth = state_.ledger.worth_of_segment(one);
    const std::size_t worth_of_other = state_.ledger.worth_of_segment(other);
    if (worth != worth_of_other) return worth < worth_of_other;
    return segments.at(one).generation < segments.at(other).generation;
  };
  const auto middle = victims.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(
                                            victims.size(), kTablesAhead + 1));
  std::partial_sort(victims.begin(), middle, victims.end(), is_before);
  victims.erase(middle, victims.end());
  const bool is_oldest_sealed = segments.at(*oldest).state() == SegmentState::kSealed;
  std::vector<std::uint32_t> allowed;
  for (const std::uint32_t one : victims) {
    const bool may_go = one == *oldest || (segments.may_leave_early(one, first_unsettled) &&
                                           !state_.retentions.has_in(one));
    const std::uint32_t next = may_go ? one : *oldest;
    if (next == *oldest && !is_oldest_sealed) continue;
    if (std::ranges::find(allowed, next) == allowed.end()) allowed.push_back(next);
  }
  return allowed;
}

/// The oldest segment cannot be overwritten. While it is intact, nothing that outranks its records
/// may be evicted, so nothing at all is.
bool Reclaimer::repair(std::uint32_t number) noexcept {
  constexpr std::uint64_t kRepairEveryNs = 1'000'000'000;
  constexpr const char* kCondition = "repair";
  const std::uint64_t now_ns = state_.clock.now_ns();
  const bool is_in_use = state_.segments.at(number).pins() > 0 ||
                         std::ranges::any_of(reads_ahead_, [number](const auto& read) {
                           return read->segment == number && read->reader.is_busy();
                         });
  if (now_ns < repair_at_ns_ || is_in_use) return false;
  repair_at_ns_ = now_ns + kRepairEveryNs;
  const Status repaired = state_.repair(number);
  if (repaired) {
    state_.health.set_condition(kCondition, {});
    return true;
  }
  state_.health.set_condition(
      kCondition, segment_file_name(number) + " is the oldest and cannot be used again (" +
                      repaired.error().to_string() +
                      "): nothing is evicted, and stores are refused; make it writable "
                      "for this user");
  return is_broken(Rule::kRepairBeforeReuse);
}

void Reclaimer::read_ahead(std::span<const std::uint32_t> next) noexcept {
  std::erase_if(reads_ahead_, [&](const auto& read) {
    const Segment& segment = state_.segments.at(read->segment);
    const bool is_next = std::ranges::find(next, read->segment) != next.end();
    return (segment.generation != read->generation || !is_next) && !read->reader.is_busy();
  });
  for (const std::uint32_t segment : next) {
    if (reads_ahead_.size() >= kTablesAhead) return;
    const std::uint64_t generation = state_.segments.at(segment).generation;
    const auto is_read = [&](const auto& read) { return read->generation == generation; };
    if (std::ranges::any_of(reads_ahead_, is_read)) continue;
    reads_ahead_.push_back(std::make_unique<TableRead>(state_, segment));
  }
}

void Reclaimer::on_table() noexcept {
  auto table = read_->reader.take();
  if (!table) return;
  has_table_ = true;
  read_.reset();
  if (*table) {
    table_ = std::move(**table);
    return choose(table_);
  }
  // Without a table the keys are unknown, and no record is worth moving.
  table_ = {};
  state_.health.note_flaw(segment_file_name(*victim_) + ": its table cannot be read (" +
                          table->error().to_string() + "); its records were dropped");
  state_.counters.index_walks_total.add();
  for (const auto& [fingerprint, entry] : state_.index.entries_in(*victim_)) {
    drop(fingerprint, entry.location, {});
  }
}

/// Drops records that are not worth a move, and lists the others, the worthiest last, and after
/// them the retained ones.
void Reclaimer::choose(const Table& table) noexcept {
  candidates_.clear();
  const std::uint64_t now_ns = state_.clock.now_ns();
  const bool by_worth = knows_worth();
  std::uint64_t key_at = 0;
  for (const TableEntry& line : table.entries) {
    const std::uint64_t this_key_at = key_at;
    key_at += line.key_bytes;
    if (line.kind == RecordKind::kTombstones) continue;
    const std::string_view key = std::string_view{table.keys}.substr(this_key_at, line.key_bytes);
    const Fingerprint fingerprint = state_.fingerprint(as_bytes(key));
    const Location location{.segment = *victim_, .grain = line.grain};
    const auto entry = state_.index.find(fingerprint);
    if (!entry || entry->location != location) continue;
    const double worth = by_worth ? state_.ledger.worth(entry->note) : 0;
    const bool is_retained = state_.retentions.has(fingerprint, now_ns);
    const bool is_worth_it = by_worth ? worth > state_.ledger.threshold() : entry->was_read;
    if (is_worth_it || is_retained) {
      candidates_.push_back({.fingerprint = fingerprint,
                             .source = location,
                             .value_bytes = entry->value_bytes,
                             .worth = worth,
                             .key_at = this_key_at,
                             .key_bytes = line.key_bytes,
                             .is_retained = is_retained});
    } else {
      drop(fingerprint, location, key);
    }
  }
  // Among equals the newest are last.
  std::ranges::stable_sort(candidates_, {}, [](const Candidate& candidate) {
    return std::pair{candidate.is_retained, candidate.worth};
  });
  // L10: at most half a segment's bytes. Retained records move beyond that if segments are emptied
  // in order: their own budget leaves enough segments that are freed for good.
  const bool in_turn = !by_worth || state_.segments.oldest() == *victim_;
  std::uint64_t budget = state_.segments.geometry().segment_bytes / 2;
  if (by_worth) {
    budget = std::min(budget, static_cast<std::uint64_t>(std::max(moves_allowed_, 0.0)));
  }
  if (is_broken(Rule::kMoveHalfASegment)) budget = UINT64_MAX;
  std::size_t keep = 0;
  while (keep < candidates_.size()) {
    const Candidate& candidate = candidates_[candidates_.size() - 1 - keep];
    const std::uint64_t bytes = state_.bytes_of_new(candidate.value_bytes);
    if (!candidate.is_retained || !in_turn) {
      if (bytes > budget) break;
      if (by_worth) moves_allowed_ -= static_cast<double>(bytes);
    }
    budget -= std::min(bytes, budget);
    ++keep;
  }
  const std::size_t dropped = candidates_.size() - keep;
  for (std::size_t i = 0; i < dropped; ++i) {
    const Candidate& candidate = candidates_[i];
    drop(candidate.fingerprint, candidate.source,
         std::string_view{table.keys}.substr(candidate.key_at, candidate.key_bytes));
  }
  candidates_.erase(candidates_.begin(),
                    candidates_.begin() + static_cast<std::ptrdiff_t>(dropped));
}

void Reclaimer::drop(const Fingerprint& fingerprint, Location location,
                     std::string_view key) noexcept {
  const auto entry = state_.index.find(fingerprint);
  if (!entry || entry->location != location) return;
  if (is_broken(Rule::kNoEntryIntoFreed)) {
    return state_.segments.remove_live(*entry);
  }
  if (state_.end_retention(fingerprint)) state_.counters.retentions_lost_total.add();
  state_.forget(fingerprint, location);
  state_.ledger.note_gone(fingerprint, entry->note);
  state_.counters.records_evicted_total.add();
  state_.counters.bytes_evicted_total.add(entry->value_bytes);
  if (key.empty()) return state_.events.note_unknown();
  state_.events.note(EventPage::Kind::kRemoved, key, entry->value_bytes);
}

void Reclaimer::note_stored(std::uint64_t bytes, bool is_written) noexcept {
  const double most =
      kMovesAllowedSegments * static_cast<double>(state_.segments.geometry().segment_bytes);
  moves_allowed_ += static_cast<double>(bytes) * (is_written ? kMovesPerStored : kMovesPerFound);
  moves_allowed_ = std::min(moves_allowed_, most);
}

bool Reclaimer::may_move() const noexcept {
  return !is_stopping_ && !state_.health.is_down() &&
         (appender_.free_segments() >= kFreeForMoves || is_broken(Rule::kMoveOnlyWithRoom));
}

void Reclaimer::start_moves() noexcept {
  while (!candidates_.empty()) {
    const Candidate candidate = candidates_.back();
    if (!may_move()) {
      drop(candidate.fingerprint, candidate.source,
           std::string_view{table_.keys}.substr(candidate.key_at, candidate.key_bytes));
    } else if (!start_move(candidate)) {
      return;
    }
    candidates_.pop_back();
  }
}

/// False when the move has to wait for another to end, for memory, or for a transfer.
bool Reclaimer::start_move(const Candidate& candidate) noexcept {
  const auto entry = state_.index.find(candidate.fingerprint);
  if (!entry || entry->location != candidate.source) return true;  // A newer record arrived.
  const std::string_view key =
      std::string_view{table_.keys}.substr(candidate.key_at, candidate.key_bytes);
  // L8: the tail does not wait for an operation on the key, it lets the record go.
  if (state_.guard.busy(candidate.fingerprint) && !is_broken(Rule::kMoveOnlyIdleKeys)) {
    drop(candidate.fingerprint, candidate.source, key);
    return true;
  }
  const auto free_move = std::ranges::find(moves_, true, &Move::is_free);
  if (free_move == moves_.end() || state_.transfers.available() == 0) return false;
  Move& move = **free_move;
  const std::uint64_t bytes = round_up(candidate.value_bytes, state_.grain_bytes());
  if (bytes > 0) {
    move.memory = state_.move_memory.allocate(bytes);
    if (move.memory.empty()) {
      if (moves_in_flight_ > 0) return false;
      drop(candidate.fingerprint, candidate.source, key);  // Larger than all of the memory.
      return true;
    }
  }
  move.is_free = false;
  move.waits_for_head = false;
  move.source = candidate.source;
  move.key = key;
  move.slice = {.data = move.memory.data(), .bytes = candidate.value_bytes};
  move.load.fingerprint = candidate.fingerprint;
  move.load.key = as_bytes(move.key);
  move.load.value = {&move.slice, 1};
  ++moves_in_flight_;
  loads_.start(move.load);
  return true;
}

void Reclaimer::on_load(LoadTask& task) noexcept {
  Move& move = *static_cast<Move*>(task.user_data);
  if (task.outcome != Outcome::kHit || task.location != move.source) return end(move);
  start_append(move);
}

void Reclaimer::start_append(Move& move) noexcept {
  move.waits_for_head = false;
  const auto entry = state_.index.find(move.load.fingerprint);
  const bool is_current = entry && entry->location == move.source;
  const bool is_busy = state_.guard.busy(move.load.fingerprint);
  if (!is_current || (is_busy && !is_broken(Rule::kMoveOnlyIdleKeys)) || !may_move()) {
    if (is_current) drop(move.load.fingerprint, move.source, move.key);
    return end(move);
  }
  move.store.fingerprint = move.load.fingerprint;
  move.store.key = as_bytes(move.key);
  move.store.value = {&move.slice, 1};
  move.store.value_bytes = move.slice.bytes;
  move.store.source = move.source;
  move.store.checksum = is_broken(Rule::kMoveCarriesChecksum) ? Hash128{} : move.load.checksum;
  switch (appender_.start_store(move.store)) {
    case Admission::kStarted:
      return;
    case Admission::kWait:
      move.waits_for_head = true;
      return;
    case Admission::kRefused:
      drop(move.load.fingerprint, move.source, move.key);
      return end(move);
  }
}

void Reclaimer::on_store(StoreTask& task) noexcept {
  Move& move = *static_cast<Move*>(task.user_data);
  if (task.was_published) {
    Segment& source = state_.segments.at(move.source.segment);
    const std::uint64_t moved_to = state_.segments.at(task.location.segment).generation;
    if (source.moved_to_last == 0 || is_broken(Rule::kSyncAllMoved))
      source.moved_to_first = moved_to;
    source.moved_to_first = std::min(source.moved_to_first, moved_to);
    source.moved_to_last = std::max(source.moved_to_last, moved_to);
    state_.counters.records_readmitted_total.add();
    state_.counters.bytes_readmitted_total.add(task.value_bytes);
  } else {
    drop(task.fingerprint, move.source, move.key);
  }
  end(move);
}

void Reclaimer::on_delete(DeleteTask& /*task*/) noexcept {
  LARDER_CHECK(false);
}

bool Reclaimer::on_written(StoreTask& /*task*/) noexcept {
  return false;
}

void Reclaimer::end(Move& move) noexcept {
  state_.move_memory.release(move.memory);
  move.memory = {};
  move.is_free = true;
  --moves_in_flight_;
}

void Reclaimer::finish() noexcept {
  const Segment& segment = state_.segments.at(*victim_);
  if (segment.pins() > 0) return;  // L6: reads still have it.
  if (segment.live_records > 0) {
    // The table was incomplete, e.g. a damaged table that misses an entry's record.
    state_.counters.index_walks_total.add();
    for (const auto& [fingerprint, entry] : state_.index.entries_in(*victim_)) {
      drop(fingerprint, entry.location, {});
    }
  }
  state_.counters.segments_reclaimed_total.add();
  state_.segments.push_free(*victim_);
  victim_.reset();
  table_ = {};
  adapt();
}

std::uint32_t Reclaimer::free_wanted_max() const noexcept {
  return std::max(kFreeWantedMin, state_.segments.files_count() / kFreeShare);
}

/// Reclaim that ran into a shortage began too late.
void Reclaimer::adapt() noexcept {
  const bool was_short = free_lowest_ < kFreeForMoves;
  free_lowest_ = UINT32_MAX;
  if (was_short) {
    reclaimed_in_plenty_ = 0;
    free_wanted_ = std::min(2 * free_wanted_, free_wanted_max());
  } else if (++reclaimed_in_plenty_ >= state_.segments.files_count()) {
    reclaimed_in_plenty_ = 0;
    free_wanted_ = std::max(free_wanted_ - 1, kFreeWantedMin);
  }
}

}  // namespace larder::log_store
