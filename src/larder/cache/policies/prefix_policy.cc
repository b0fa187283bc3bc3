#include "larder/cache/policies/prefix_policy.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "larder/base/check.h"
#include "larder/cache/policies/reuse_kind.h"

namespace larder::cache {
namespace {

constexpr std::uint8_t kUsesMax = 255;
/// A ghost speaks for another one, which is not kept.
constexpr double kGhostWeight = 2;
/// Uses in which all classes are fitted once: as many, or one for each kFitShare columns.
constexpr std::size_t kFitUsesMin = 1024;
constexpr std::size_t kFitShare = 8;
/// Chains of unknown length: none of their uses is beyond their hit.
constexpr ChainUse kNoChain = {.chunks = 0, .resident = 0xFFFF'FFFF, .end = 0};

constexpr std::uint64_t mix(std::uint64_t z) noexcept {
  z += 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

/// In [0, n).
constexpr std::size_t scaled(std::uint64_t lot, std::size_t n) noexcept {
  return static_cast<std::size_t>(((lot >> 32) * n) >> 32);
}

// The content of a ghost's note.
constexpr std::uint64_t note_of(std::uint32_t used, std::uint8_t uses, std::size_t kind) noexcept {
  return used | std::uint64_t{uses} << 32 | std::uint64_t{kind} << 40;
}
constexpr std::uint32_t used_of(std::uint64_t note) noexcept {
  return static_cast<std::uint32_t>(note);
}
constexpr std::uint8_t uses_of(std::uint64_t note) noexcept {
  return static_cast<std::uint8_t>(note >> 32);
}
constexpr std::size_t kind_of_note(std::uint64_t note) noexcept {
  return (note >> 40) & 0xFF;
}
static_assert(kReuseKinds <= 0x100);

}  // namespace

PrefixPolicy::PrefixPolicy(const PolicyOptions& options)
    : QueuedPolicy(options, 2),
      seed_(options.seed),
      ghosts_max_(options.ghosts_max),
      model_(records().reuse_model(kReuseKinds)),
      shadow_(std::numeric_limits<std::uint32_t>::max()),
      ghosts_(options.ghosts_max),
      chain_(kNoChain) {
  candidates_.reserve(kSamples + 1);
}

// ---- Uses.

void PrefixPolicy::begin_chain(const ChainUse& chain) {
  chain_ = chain;
  guard_.begin(chain.chunks);
  position_ = chain.end;
  run_ = kNone;
  uses_deeper_ = 0;
  is_shape_final_ = false;
  shape_ = request_shape(chain.chunks, chain.resident);
}

QueuedPolicy::Queue PrefixPolicy::enter(ColumnId column, ColumnRecord& record) {
  make_room_for_runs();
  note_use(column, record, false);
  return kRecent;
}

QueuedPolicy::Queue PrefixPolicy::use(ColumnId column, ColumnRecord& record) {
  note_use(column, record, true);
  return kRecent;
}

/// `was_resident`: it is in the queue of cooled ones, or in a run, which it leaves.
void PrefixPolicy::note_use(ColumnId column, ColumnRecord& record, bool was_resident) {
  ++now_;
  const bool is_hit = was_resident && position_ <= chain_.resident;
  const bool is_last = position_ != 0 && position_ == chain_.chunks;
  note_shadow(record, is_hit);
  bool is_known = was_resident;
  if (was_resident && record.queue == kRecent) {
    model_.note_reuse(kind_of(record), now_ - record.used, 1);
    leave_run(record);
  } else if (const GhostList::Ghost* const ghost = ghosts_.find(record.fingerprint)) {
    const std::uint64_t note = ghost->note;
    model_.note_reuse(kind_of_note(note), now_ - used_of(note), kGhostWeight);
    record.uses = uses_of(note);
    is_known = true;
    ghosts_.erase(record.fingerprint);
  }
  if (is_known && !is_shape_final_) {
    // All columns before it are known as well, though they may be forgotten.
    is_shape_final_ = true;
    if (position_ > chain_.resident) shape_ = request_shape(chain_.chunks, position_);
    if (run_ != kNone) runs_[run_].shape = shape_;
  }
  uses_deeper_ = std::max(uses_deeper_, record.uses);
  record.uses = static_cast<std::uint8_t>(std::min<unsigned>(uses_deeper_ + 1U, kUsesMax));
  record.used = now_;
  record.is_last = is_last;
  add_to_run(column, record);
  if (position_ > 0) --position_;
  learn();
}

/// LRU's present content, and whether it would have had the column.
void PrefixPolicy::note_shadow(const ColumnRecord& record, bool is_hit) {
  guard_.note(is_hit, shadow_.contains(record.fingerprint), columns());
  shadow_.push(record.fingerprint, record.bytes);
  while (shadow_.size() > 1 &&
         (shadow_.bytes() > shadow_bytes_ || shadow_.size() > shadow_columns_)) {
    shadow_.drop_oldest();
  }
}

/// Looks at some columns, and at some ghosts, for how long columns of their classes stay unused.
void PrefixPolicy::learn() {
  const ColumnOrder& order = queue(kRecent);
  const std::size_t places = order.places();
  for (std::size_t look = 0; look < kLooks && places > 0; ++look) {
    const ColumnId column = order.at(static_cast<Place>(scaled(next_lot(), places)));
    if (column == ColumnOrder::kNoColumn) continue;
    const ColumnRecord& seen = record(column);
    if (seen.run == kNone) continue;  // It is being used.
    model_.note_exposure(kind_of(seen), now_ - seen.used, static_cast<double>(places) / kLooks);
  }
  const std::size_t ghost_places = ghosts_.places();
  for (std::size_t look = 0; look < kLooks && ghost_places > 0; ++look) {
    const GhostList::Ghost* const seen = ghosts_.at(scaled(next_lot(), ghost_places));
    if (seen == nullptr) continue;
    model_.note_exposure(kind_of_note(seen->note), now_ - used_of(seen->note),
                         kGhostWeight * static_cast<double>(ghost_places) / kLooks);
  }
  if (now_ - fitted_ < std::max(kFitUsesMin, columns() / kFitShare) / kReuseKinds) return;
  fitted_ = now_;
  model_.fit_next(columns());
}

std::uint64_t PrefixPolicy::next_lot() noexcept {
  return mix(seed_ ^ ++lots_);
}

// ---- Columns that go.

void PrefixPolicy::on_leaving(ColumnId /*column*/, ColumnRecord& record) {
  leave_run(record);
}

void PrefixPolicy::on_deleted(const ColumnRecord& record) {
  shadow_.erase(record.fingerprint);
}

void PrefixPolicy::on_evicted(const ColumnRecord& record) {
  // LRU gets as many bytes as the policy has when it has to evict.
  shadow_bytes_ = bytes() + record.bytes;
  if ((mix(record.fingerprint) & 1) != 0) return;
  ghosts_.push(record.fingerprint, record.bytes,
               note_of(record.used, record.uses, kind(record, left_shape_)));
  const std::size_t most = std::min(ghosts_max_, kGhostShare * columns() + kSamples);
  while (ghosts_.size() > most) ghosts_.drop_oldest();
}

// ---- Runs.

void PrefixPolicy::make_room_for_runs() {
  // One for each column, and one for the current chain.
  if (runs_.size() > columns()) return;
  const std::size_t before = runs_.size();
  const std::size_t after = std::bit_ceil(std::max<std::size_t>(columns() + 1, 32));
  runs_.resize(after);
  run_list_.reserve(after);
  shadow_columns_ = 2 * after;
  shadow_.reserve(shadow_columns_);
  for (std::size_t i = after; i > before; --i) {
    runs_[i - 1].place = free_run_;
    free_run_ = static_cast<Number>(i - 1);
  }
}

void PrefixPolicy::add_to_run(ColumnId column, ColumnRecord& record) noexcept {
  if (run_ == kNone) {
    LARDER_CHECK(free_run_ != kNone);
    run_ = free_run_;
    free_run_ = runs_[run_].place;
    runs_[run_] = {.place = static_cast<std::uint32_t>(run_list_.size()), .shape = shape_};
    run_list_.push_back(run_);
  }
  Run& run = runs_[run_];
  record.run = run_;
  record.deeper = run.shallowest;
  record.shallower = kNone;
  (run.shallowest == kNone ? run.deepest : this->record(run.shallowest).shallower) = column;
  run.shallowest = column;
  ++run.columns;
}

void PrefixPolicy::leave_run(ColumnRecord& record) noexcept {
  Run& run = runs_[record.run];
  (record.deeper == kNone ? run.deepest : this->record(record.deeper).shallower) = record.shallower;
  (record.shallower == kNone ? run.shallowest : this->record(record.shallower).deeper) =
      record.deeper;
  left_shape_ = run.shape;
  const Number number = record.run;
  record.run = kNone;
  if (--run.columns != 0) return;
  const Number moved = run_list_.back();
  run_list_[run.place] = moved;
  runs_[moved].place = run.place;
  run_list_.pop_back();
  run.place = free_run_;
  free_run_ = number;
  if (run_ == number) run_ = kNone;
}

// ---- Victims.

std::size_t PrefixPolicy::kind(const ColumnRecord& record, std::uint8_t shape) noexcept {
  return reuse_kind(record.uses, shape, record.is_last);
}

std::size_t PrefixPolicy::kind_of(const ColumnRecord& record) const noexcept {
  return kind(record, runs_[record.run].shape);
}

double PrefixPolicy::index_of(const ColumnRecord& record) const noexcept {
  return model_.index(kind_of(record), now_ - record.used);
}

/// The first visible one, from `column` on towards the head of its run; kNone: none is near.
ColumnId PrefixPolicy::visible_from(ColumnId column) noexcept {
  for (std::size_t step = 0; step < kHiddenSteps && column != kNone; ++step) {
    if (!record(column).is_hidden) return column;
    column = record(column).shallower;
  }
  return kNone;
}

void PrefixPolicy::add_candidate(Number run) {
  const ColumnId column = visible_from(runs_[run].deepest);
  if (column != kNone) candidates_.push_back({column, index_of(record(column))});
}

void PrefixPolicy::draw_candidates() {
  candidates_.clear();
  const std::size_t runs = run_list_.size();
  if (runs <= kSamples) {
    for (const Number run : run_list_) add_candidate(run);
    return;
  }
  std::uint64_t lot = mix(seed_ ^ (std::uint64_t{now_} << 32) ^ columns());
  for (std::size_t i = 0; i < kSamples; ++i) {
    lot = mix(lot);
    const Number run = run_list_[scaled(lot, runs)];
    if (run != run_) add_candidate(run);
  }
  if (run_ != kNone) add_candidate(run_);
}

std::size_t PrefixPolicy::choose(std::span<ColumnId> out) {
  const double freedom = guard_.freedom();
  if (freedom == 0 || out.empty()) return list(kRecent, out);
  const ColumnOrder& order = queue(kRecent);
  Place place = order.visible_from(0);
  if (place == ColumnOrder::kEnd) return 0;
  draw_candidates();
  std::size_t count = 0;
  const auto is_named = [&](ColumnId column) {
    const auto named = out.first(count);
    return std::ranges::find(named, column) != named.end();
  };
  while (count < out.size() && place != ColumnOrder::kEnd) {
    const ColumnId oldest = order.at(place);
    if (is_named(oldest)) {
      place = order.visible_from(place + 1);
      continue;
    }
    Candidate* best = nullptr;
    for (Candidate& candidate : candidates_) {
      if (candidate.column == kNone) continue;
      const bool is_better = best == nullptr || candidate.index < best->index ||
                             (candidate.index == best->index &&
                              record(candidate.column).used < record(best->column).used);
      if (is_better) best = &candidate;
    }
    if (best != nullptr && best->index < freedom * index_of(record(oldest))) {
      const ColumnId chosen = best->column;
      // The next one of its run is a candidate now; the same run may have been drawn twice.
      const ColumnId next = visible_from(record(chosen).shallower);
      for (Candidate& candidate : candidates_) {
        if (candidate.column != chosen) continue;
        candidate = {next, next == kNone ? 0 : index_of(record(next))};
      }
      if (!is_named(chosen)) out[count++] = chosen;
    } else {
      out[count++] = oldest;
    }
  }
  return count;
}

std::uint64_t PrefixPolicy::stamp_of_coldest(const ColumnRecord& /*first*/) {
  const ColumnOrder& order = queue(kRecent);
  return record(order.at(order.visible_from(0))).stamp;
}

}  // namespace larder::cache
