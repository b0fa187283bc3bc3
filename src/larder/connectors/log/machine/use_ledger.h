#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/cache/policies/reuse_model.h"
#include "larder/connectors/log/index/index.h"

namespace larder::log_store {

/// An index entry's note on its key's uses: 32 bits.
struct UseNote {
  static constexpr std::uint32_t kTimes = 1U << 20;
  static constexpr std::uint32_t kUsesMax = 31;
  static constexpr std::uint32_t kDepthsMax = 5;

  std::uint32_t used = 0;   ///< When it was used last, modulo kTimes.
  std::uint32_t uses = 0;   ///< At most kUsesMax; 0: unknown, as after a restart.
  std::uint8_t shape = 0;   ///< request_shape() of its last request.
  std::uint8_t behind = 0;  ///< Keys behind it in that: 0, 1 to 3, 4 to 15, 63, 255, or more.

  std::uint32_t pack() const noexcept {
    return used | uses << 20 | std::uint32_t{shape} << 25 | std::uint32_t{behind} << 29;
  }
  static UseNote unpack(std::uint32_t bits) noexcept {
    return {.used = bits & (kTimes - 1),
            .uses = bits >> 20 & kUsesMax,
            .shape = static_cast<std::uint8_t>(bits >> 25 & 15),
            .behind = static_cast<std::uint8_t>(bits >> 29)};
  }
};

/// Learns which keys are used again, and estimates each key's worth: the expected uses for the time
/// that it is kept (cache::ReuseModel, as in the engine's policy `prefix`). The reclaimer asks it
/// which segment to empty and which records to keep; with admission=learned the item runner asks
/// which keys to write.
///
/// Time is counted in bytes of records that were used, a unit being a 8,192nd of the capacity.
/// Requests: the keys of a batch are a request in order, or a part of one whose length a lookup has
///   given. begin() announces it, then use() gets each key, the deepest first, so that a key has at
///   least as many uses as those behind it. More keys behind a key make it worth more, because they
///   are useless without it.
/// Gone keys: half of the fingerprints or less, as many as fit into 1 MiB, are remembered.
/// Rounds: each use visits some entries of the index and some gone keys, all in turn. A round gives
///   the times that keys were not used in, the worth of each segment, and of how much worth a share
///   of all bytes is.
/// Determinism: the same calls give the same answers. Nothing is drawn by lot.
/// Threads: the path's one. Cost: some hundreds of ns a use; 4 bytes a key within the index's 32,
///   1.3 MiB, and 16 bytes a segment.
class UseLedger {
 public:
  explicit UseLedger(std::uint64_t capacity_bytes);

  /// Announces a request of `keys` keys, the first `known` of which existed, and its part that ends
  /// before key number `end`.
  void begin(std::uint32_t keys, std::uint32_t known, std::uint32_t end) noexcept;
  /// The next key towards the head, with its entry or null. Returns its note from now on.
  std::uint32_t use(const Fingerprint& fingerprint, const IndexEntry* present,
                    std::uint64_t bytes) noexcept;
  /// It was evicted, or not admitted.
  void note_gone(const Fingerprint& fingerprint, std::uint32_t note) noexcept;
  /// A step of the rounds. `newest_generation`: of all segments.
  void look(const Index& index, std::uint64_t newest_generation);

  /// False until the first round, and until a key was used again: the functions below are
  /// meaningless then.
  bool knows() const noexcept { return has_round_ && reuses_ > 0; }
  double worth(std::uint32_t note) const noexcept;
  /// The worth of a new key, a while after it was stored.
  double worth_when_new(std::uint32_t note) const noexcept;
  /// Half of all bytes are worth less.
  double threshold() const noexcept { return threshold_; }
  /// Of keys of less worth than this at most one in ten is used in the time in which the store
  /// is filled once, or a fifth of all bytes is worth less.
  double admission_threshold() const noexcept { return admission_threshold_; }
  /// Whether the last round saw all of a segment of this generation.
  bool knows_segment(std::uint64_t generation) const noexcept {
    return has_round_ && generation <= complete_generation_;
  }
  /// The worth of all its records, by bytes: in steps of a few percent, so that small differences
  /// do not matter.
  std::size_t worth_of_segment(std::uint32_t segment) const noexcept;

 private:
  static constexpr std::uint64_t kUnits = 8192;  ///< Units of time in the capacity.
  static constexpr std::size_t kLooks = 64;      ///< Entries of the index a use.
  static constexpr std::size_t kGhostLooks = 32;
  static constexpr std::size_t kGhostWays = 4;
  static constexpr std::size_t kGhosts = 1U << 17;
  static constexpr std::size_t kWorthSteps = 1024;  ///< 16 in each octave.

  struct Ghost {
    std::uint32_t tag = 0;
    std::uint32_t note = 0;  ///< 0: none.
  };

  std::uint32_t age_of(const UseNote& note) const noexcept {
    return (now_ - note.used) & (UseNote::kTimes - 1);
  }
  double worth_at(const UseNote& note, std::uint32_t age) const noexcept;
  Ghost* ghosts_of(const Fingerprint& fingerprint) noexcept;
  Ghost* find_ghost(const Fingerprint& fingerprint) noexcept;
  bool is_sampled(const Fingerprint& fingerprint) const noexcept {
    return (fingerprint.high >> 8 & ((1U << ghost_shift_) - 1)) == 0;
  }
  double ghost_weight() const noexcept { return static_cast<double>(1U << ghost_shift_); }
  void look_at_ghosts() noexcept;
  double worth_above(double share, std::uint64_t bytes) const noexcept;
  void end_round(const Index& index, std::uint64_t newest_generation);

  const std::uint64_t unit_bytes_;
  cache::ReuseModel model_;
  std::uint64_t now_bytes_ = 0;
  std::uint32_t now_ = 0;
  std::uint64_t uses_ = 0;
  std::uint64_t reuses_ = 0;     ///< Uses of known keys.
  std::uint64_t fitted_at_ = 0;  ///< In uses.

  // The request.
  std::uint32_t keys_ = 0;
  std::uint32_t known_ = 0;
  std::uint32_t position_ = 0;  ///< The next key's, plus 1.
  std::uint32_t uses_deeper_ = 0;
  std::uint8_t shape_ = 0;
  bool is_shape_final_ = false;

  std::vector<Ghost> ghosts_;
  std::uint32_t ghost_shift_ = 1;
  std::size_t ghost_at_ = 0;
  std::uint32_t ghost_round_begun_ = 0;
  double ghost_round_ = 0;  ///< Length of the last round.

  Index::Walk walk_;
  bool has_round_ = false;
  std::uint32_t round_begun_ = 0;
  double round_ = 0;
  std::uint64_t round_generation_ = 0;  ///< The newest generation when the round began.
  std::uint64_t complete_generation_ = 0;
  std::vector<double> worths_;                      ///< By segment: of the last round.
  std::vector<double> worths_next_;                 ///< Of this round.
  std::array<std::uint64_t, kWorthSteps> steps_{};  ///< Bytes by worth.
  double threshold_ = 0;
  double admission_threshold_ = 0;
};

}  // namespace larder::log_store
