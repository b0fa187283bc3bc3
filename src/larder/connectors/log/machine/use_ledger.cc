#include "larder/connectors/log/machine/use_ledger.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "larder/cache/policies/reuse_kind.h"

namespace larder::log_store {
namespace {

/// The shares of all bytes that are worth less than kept records, and than admitted ones. Chosen on
/// the conversation trace and on two of agents: docs/eviction.md.
constexpr double kThresholdShare = 0.5;
constexpr double kAdmissionShare = 0.2;
constexpr double kUsesWorthAWrite = 0.1;  ///< While as much as the store holds is used.
/// By UseNote::behind: about how many keys are lost with a key, to the power of 0.15.
constexpr std::array<double, UseNote::kDepthsMax + 1> kBehindWeights = {1,    1.15, 1.4,
                                                                        1.75, 2.1,  2.6};
/// Uses in which all classes are fitted once: as many, or one for each kFitShare keys.
constexpr std::uint64_t kFitUsesMin = 1024;
constexpr std::uint64_t kFitShare = 8;
constexpr std::uint32_t kAgeWhenNewShare = 64;  ///< Of the capacity.
constexpr int kWorthExponentMin = -64;

std::uint8_t behind_of(std::uint32_t keys) noexcept {
  if (keys == 0) return 0;
  const auto quads = static_cast<std::uint32_t>((std::bit_width(keys) + 1) / 2);
  return static_cast<std::uint8_t>(std::min(quads, UseNote::kDepthsMax));
}

std::size_t kind_of(const UseNote& note) noexcept {
  return cache::reuse_kind(std::max(note.uses, 1U), note.shape, note.behind == 0);
}

/// 16 steps an octave, from 2^-64 to 1.
std::size_t step_of(double worth) noexcept {
  constexpr std::uint64_t kFirst = static_cast<std::uint64_t>(1023 + kWorthExponentMin) << 4;
  const std::uint64_t step = std::bit_cast<std::uint64_t>(worth) >> 48;
  return step <= kFirst ? 0 : std::min<std::size_t>(step - kFirst, 1023);
}

double begin_of_step(std::size_t step) noexcept {
  constexpr std::uint64_t kFirst = static_cast<std::uint64_t>(1023 + kWorthExponentMin) << 4;
  return step == 0 ? 0 : std::bit_cast<double>((kFirst + step) << 48);
}

}  // namespace

UseLedger::UseLedger(std::uint64_t capacity_bytes)
    : unit_bytes_(std::max<std::uint64_t>(capacity_bytes / kUnits, 1)),
      model_(cache::kReuseKinds),
      ghosts_(kGhosts) {}

// --- Uses ---------------------------------------------------------------------------------------

void UseLedger::begin(std::uint32_t keys, std::uint32_t known, std::uint32_t end) noexcept {
  keys_ = std::max(keys, end);
  known_ = known;
  position_ = end;
  uses_deeper_ = 0;
  is_shape_final_ = false;
  shape_ = cache::request_shape(keys_, known);
}

std::uint32_t UseLedger::use(const Fingerprint& fingerprint, const IndexEntry* present,
                             std::uint64_t bytes) noexcept {
  now_bytes_ += bytes;
  now_ = static_cast<std::uint32_t>(now_bytes_ / unit_bytes_) & (UseNote::kTimes - 1);
  ++uses_;
  std::uint32_t uses = 0;
  bool is_known = present != nullptr;
  if (present != nullptr) {
    const UseNote note = UseNote::unpack(present->note);
    uses = std::max(note.uses, 1U);
    if (note.uses > 0) {
      model_.note_reuse(kind_of(note), age_of(note), 1);
      ++reuses_;
    }
  } else if (Ghost* const ghost = find_ghost(fingerprint)) {
    const UseNote note = UseNote::unpack(ghost->note);
    uses = note.uses;
    is_known = true;
    model_.note_reuse(kind_of(note), age_of(note), ghost_weight());
    ++reuses_;
    *ghost = {};
  }
  if (is_known && !is_shape_final_) {
    // All keys before it are known as well, though they may be forgotten.
    is_shape_final_ = true;
    if (position_ > known_) shape_ = cache::request_shape(keys_, position_);
  }
  uses_deeper_ = std::max(uses_deeper_, uses);
  const UseNote note{.used = now_,
                     .uses = std::min(uses_deeper_ + 1, UseNote::kUsesMax),
                     .shape = shape_,
                     .behind = behind_of(keys_ - position_)};
  if (position_ > 1) --position_;
  return note.pack();
}

// --- Gone keys ----------------------------------------------------------------------------------

UseLedger::Ghost* UseLedger::ghosts_of(const Fingerprint& fingerprint) noexcept {
  return &ghosts_[(fingerprint.low >> 20) % (kGhosts / kGhostWays) * kGhostWays];
}

UseLedger::Ghost* UseLedger::find_ghost(const Fingerprint& fingerprint) noexcept {
  if (!is_sampled(fingerprint)) return nullptr;
  Ghost* const ghosts = ghosts_of(fingerprint);
  const auto tag = static_cast<std::uint32_t>(fingerprint.high >> 32);
  for (std::size_t i = 0; i < kGhostWays; ++i) {
    if (ghosts[i].note != 0 && ghosts[i].tag == tag) return &ghosts[i];
  }
  return nullptr;
}

void UseLedger::note_gone(const Fingerprint& fingerprint, std::uint32_t note) noexcept {
  if (!is_sampled(fingerprint) || UseNote::unpack(note).uses == 0) return;
  Ghost* const ghosts = ghosts_of(fingerprint);
  const auto tag = static_cast<std::uint32_t>(fingerprint.high >> 32);
  Ghost* into = ghosts;
  for (std::size_t i = 0; i < kGhostWays; ++i) {
    if (ghosts[i].note == 0 || ghosts[i].tag == tag) {
      into = &ghosts[i];
      break;
    }
    const bool is_older =
        age_of(UseNote::unpack(ghosts[i].note)) > age_of(UseNote::unpack(into->note));
    if (is_older) into = &ghosts[i];
  }
  *into = {.tag = tag, .note = note};
}

void UseLedger::look_at_ghosts() noexcept {
  for (std::size_t i = 0; i < kGhostLooks; ++i) {
    Ghost& ghost = ghosts_[ghost_at_++];
    if (ghost.note == 0) continue;
    const UseNote note = UseNote::unpack(ghost.note);
    const std::uint32_t age = age_of(note);
    if (age >= UseNote::kTimes / 2) {  // Before its time wraps around.
      ghost = {};
      continue;
    }
    model_.note_exposure(kind_of(note), age, ghost_weight() * ghost_round_);
  }
  if (ghost_at_ < kGhosts) return;
  ghost_at_ = 0;
  ghost_round_ = (now_ - ghost_round_begun_) & (UseNote::kTimes - 1);
  ghost_round_begun_ = now_;
}

// --- Rounds -------------------------------------------------------------------------------------

void UseLedger::look(const Index& index, std::uint64_t newest_generation) {
  std::array<IndexEntry, kLooks> entries;
  const std::uint64_t rounds = walk_.rounds;
  const std::size_t count = index.next_entries(walk_, entries);
  for (const IndexEntry& entry : std::span{entries}.first(count)) {
    const UseNote note = UseNote::unpack(entry.note);
    const std::uint32_t age = age_of(note);
    const double worth = worth_at(note, age);
    if (note.uses > 0) model_.note_exposure(kind_of(note), age, round_);
    if (entry.location.segment >= worths_next_.size()) {
      worths_next_.resize(entry.location.segment + 1);
    }
    worths_next_[entry.location.segment] += worth * static_cast<double>(entry.value_bytes + 1);
    steps_[step_of(worth)] += entry.value_bytes + 1;
  }
  if (walk_.rounds != rounds) end_round(index, newest_generation);
  look_at_ghosts();
  const std::uint64_t due = std::max(kFitUsesMin, index.keys() / kFitShare) / cache::kReuseKinds;
  if (uses_ - fitted_at_ < due) return;
  fitted_at_ = uses_;
  model_.fit_next(kUnits);
}

/// The worth of which a share of so many bytes is below.
double UseLedger::worth_above(double share, std::uint64_t bytes) const noexcept {
  auto below = static_cast<std::uint64_t>(share * static_cast<double>(bytes));
  std::size_t step = 0;
  while (step + 1 < kWorthSteps && steps_[step] <= below) below -= steps_[step++];
  return begin_of_step(step);
}

void UseLedger::end_round(const Index& index, std::uint64_t newest_generation) {
  has_round_ = true;
  complete_generation_ = std::exchange(round_generation_, newest_generation);
  round_ = (now_ - round_begun_) & (UseNote::kTimes - 1);
  round_begun_ = now_;
  std::swap(worths_, worths_next_);
  worths_next_.assign(worths_.size(), 0);
  std::uint64_t bytes = 0;
  for (const std::uint64_t step : steps_) bytes += step;
  threshold_ = worth_above(kThresholdShare, bytes);
  admission_threshold_ =
      std::max(worth_above(kAdmissionShare, bytes), kUsesWorthAWrite / static_cast<double>(kUnits));
  steps_.fill(0);
  // Gone keys are remembered four times as far back as present ones.
  while (index.keys() * 4 >> ghost_shift_ > kGhosts && ghost_shift_ < 16) ++ghost_shift_;
}

// --- Worth --------------------------------------------------------------------------------------

double UseLedger::worth_at(const UseNote& note, std::uint32_t age) const noexcept {
  return model_.index(kind_of(note), age) * kBehindWeights[note.behind];
}

double UseLedger::worth(std::uint32_t note) const noexcept {
  const UseNote unpacked = UseNote::unpack(note);
  return worth_at(unpacked, age_of(unpacked));
}

std::size_t UseLedger::worth_of_segment(std::uint32_t segment) const noexcept {
  // Bytes times uses a unit: brought down to where the steps are.
  constexpr double kScale = 0x1p-32;
  return segment < worths_.size() ? step_of(worths_[segment] * kScale) : 0;
}

double UseLedger::worth_when_new(std::uint32_t note) const noexcept {
  return model_.index(kind_of(UseNote::unpack(note)), kUnits / kAgeWhenNewShare);
}

}  // namespace larder::log_store
