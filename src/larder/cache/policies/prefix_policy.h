#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/cache/policies/ghost_list.h"
#include "larder/cache/policies/lru_guard.h"
#include "larder/cache/policies/queued_policy.h"
#include "larder/cache/policies/reuse_model.h"

namespace larder::cache {

/// Learns which columns are used again, and evicts the one that is worth least for the time that it
/// would be kept; if that does no better than LRU, it is LRU (E21).
///
/// Chains: begin_chain() announces each request. The columns that one request used last are a run;
///   of a run the deepest column goes first, so a tail leaves before its head.
/// Classes: by how often a column was used, how many new chunks its last request brought, their
///   share of the request, and whether it was the last one of it. ReuseModel learns each class's
///   uses by age. Half of the fingerprints of evicted columns are remembered, and count twice.
/// Victims: of kSamples random runs, and of the current request, the deepest column with the lowest
///   index; but LRU's victim, unless the other's index is lower by far. How far, LruGuard says: it
///   compares the hits with those of an exact LRU of the same bytes, which is simulated beside (a
///   list of fingerprints).
/// Partitions with the same records learn together; each has its own guard.
/// Determinism: lots are drawn from the seed and the number of uses and columns, so coldest() gives
///   the same answer until something changes.
/// Cost: a use looks up two hash tables, samples 2 x kLooks columns, and every so often fits one
///   class: bounded, and about a microsecond (larder_policy_benchmark prints it). coldest() looks
///   at kSamples runs at most, and for each victim once more at these and at the victims before it.
/// Memory, for each resident column: 56 bytes of its record, 12 to 25 of order, 24 to 48 of its
///   run, 80 to 160 in the LRU beside, and three ghosts of 40 to 80; the larger figure of each just
///   after its tables have grown. larder_policy_benchmark prints the sum: 220 to 310. All
///   partitions together have one model of 220 KiB.
class PrefixPolicy final : public QueuedPolicy {
 public:
  explicit PrefixPolicy(const PolicyOptions& options);

  void begin_chain(const ChainUse& chain) override;

  const LruGuard& guard() const noexcept { return guard_; }
  /// Columns that it knows without having them, and those that LRU would have.
  std::size_t remembered() const noexcept { return ghosts_.size() + shadow_.size(); }

 private:
  using Number = std::uint32_t;
  static constexpr Queue kRecent = 1;
  static constexpr Number kNone = 0xFFFF'FFFF;
  static constexpr std::size_t kSamples = 64;
  static constexpr std::size_t kLooks = 2;        ///< Uses at resident columns, and at ghosts.
  static constexpr std::size_t kGhostShare = 3;   ///< Ghosts for each column.
  static constexpr std::size_t kHiddenSteps = 4;  ///< Past hidden columns of a run.

  struct Run {
    ColumnId deepest = kNone;
    ColumnId shallowest = kNone;
    std::uint32_t columns = 0;
    std::uint32_t place = 0;  ///< Position in run_list_; for a free one, the next free one.
    std::uint8_t shape = 0;   ///< Of its request.
  };
  struct Candidate {
    ColumnId column = kNone;
    double index = 0;
  };

  Queue enter(ColumnId column, ColumnRecord& record) override;
  Queue use(ColumnId column, ColumnRecord& record) override;
  void on_leaving(ColumnId column, ColumnRecord& record) override;
  void on_deleted(const ColumnRecord& record) override;
  void on_evicted(const ColumnRecord& record) override;
  std::size_t choose(std::span<ColumnId> out) override;
  std::uint64_t stamp_of_coldest(const ColumnRecord& first) override;

  // ---- Uses.
  void note_use(ColumnId column, ColumnRecord& record, bool was_resident);
  void note_shadow(const ColumnRecord& record, bool is_hit);
  void learn();
  std::uint64_t next_lot() noexcept;

  // ---- Runs.
  void make_room_for_runs();
  void add_to_run(ColumnId column, ColumnRecord& record) noexcept;
  void leave_run(ColumnRecord& record) noexcept;

  // ---- Victims.
  static std::size_t kind(const ColumnRecord& record, std::uint8_t shape) noexcept;
  std::size_t kind_of(const ColumnRecord& record) const noexcept;
  double index_of(const ColumnRecord& record) const noexcept;
  /// The first visible one at `column` or before it in its run; kNone: none is near.
  ColumnId visible_from(ColumnId column) noexcept;
  void draw_candidates();
  void add_candidate(Number run);

  const std::uint64_t seed_;
  const std::size_t ghosts_max_;
  ReuseModel& model_;
  LruGuard guard_;
  GhostList shadow_;  ///< The content that LRU would have.
  std::uint64_t shadow_bytes_ = ~std::uint64_t{0};
  std::size_t shadow_columns_ = 0;  ///< Those for which there is room.
  GhostList ghosts_;  ///< Their notes: when they were used last, how often, and their class.
  std::uint32_t now_ = 0;
  std::uint32_t fitted_ = 0;  ///< When a class was fitted last.
  std::uint64_t lots_ = 0;

  ChainUse chain_{};
  std::uint32_t position_ = 0;    ///< Of the next use in its chain, plus 1.
  bool is_shape_final_ = false;   ///< A column that was known has been used.
  std::uint8_t uses_deeper_ = 0;  ///< The most uses that a column of this chain had before.
  Number run_ = kNone;            ///< Of the chain.
  std::uint8_t shape_ = 0;
  std::uint8_t left_shape_ = 0;  ///< Of the run that a column has just left.

  std::vector<Run> runs_;
  std::vector<Number> run_list_;  ///< Those with columns.
  Number free_run_ = kNone;

  std::vector<Candidate> candidates_;  ///< Scratch.
};

}  // namespace larder::cache
