#include "tests/simulation/coverage.h"

namespace larder::simulation {
namespace {

constexpr std::array<std::string_view, kSeenCount> kNames = {
    "hit",
    "miss",
    "set_acknowledged",
    "set_existed",
    "delete_of_absent_key",
    "deadline",
    "cancelled",
    "set_refused",
    "eviction",
    "readmission",
    "left_early",
    "not_admitted",
    "clean_close",
    "head_adopted",
    "kill",
    "kill_while_opening",
    "power_cut",
    "torn_newest_over_intact_older",
    "hole_in_unsealed_segment",
    "move_racing_set",
    "move_racing_delete",
    "failed_sync",
    "read_error",
    "write_error",
    "stall",
    "path_down",
    "out_of_space",
    "segment_given_back",
    "every_segment_reused",
    "table_lost",
    "stale_table_after_reuse",
    "forged_header_in_value",
    "read_pinned_across_reclaim",
    "corruption_found",
    "colliding_keys",
    "index_full",
    "long_record",
    "staged_bytes",
    "reordered_completion",
    "short_transfer",
    "torn_write",
    "lost_unsynced_write",
    "landed_after_death",
    "landed_after_error",
    "bit_rot",
    "copied_segment",
    "swapped_segment",
    "set_aside",
    "delete_overtook",
    "value_above_max_value",
    "open_refused",
    "segment_only_read",
    "segment_repaired",
    "removal_refused",
    "older_superblock",
    "no_space_to_overwrite",
    "frozen",
    "batch_refused",
    "waited_for_room",
};

}  // namespace

std::string_view name_of(Seen what) noexcept {
  return kNames[static_cast<std::size_t>(what)];
}

void Coverage::add(const Coverage& other) noexcept {
  for (std::size_t i = 0; i < kSeenCount; ++i) counts_[i] += other.counts_[i];
}

std::string Coverage::to_string() const {
  std::string text;
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    text += std::string{kNames[i]} + ' ' + std::to_string(counts_[i]) + '\n';
  }
  return text;
}

}  // namespace larder::simulation
