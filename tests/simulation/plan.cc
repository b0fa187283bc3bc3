#include "tests/simulation/plan.h"

#include <algorithm>
#include <array>

#include "larder/base/random.h"

namespace larder::simulation {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMillisecond = 1'000'000;

template <std::size_t N>
std::uint64_t one_of(Random& random, const std::array<std::uint64_t, N>& choices) {
  return choices[static_cast<std::size_t>(random.below(N))];
}

void choose_sizes(Random& random, Plan& plan) {
  log_store::PathOptions& path = plan.path;
  const bool has_large_values = random.one_in(24);  // Those that hash threads would hash.
  path.segment_bytes = has_large_values
                           ? 1024 * kKiB
                           : one_of<4>(random, {256 * kKiB, 256 * kKiB, 384 * kKiB, 512 * kKiB});
  path.value_bytes_max = has_large_values
                             ? 300 * kKiB
                             : one_of<4>(random, {12 * kKiB, 24 * kKiB, 40 * kKiB, 64 * kKiB});
  path.io_bytes = static_cast<std::uint32_t>(
      has_large_values ? 128 * kKiB : one_of<3>(random, {16 * kKiB, 32 * kKiB, 64 * kKiB}));
  path.coalesce_bytes =
      static_cast<std::uint32_t>(one_of<3>(random, {4 * kKiB, 48 * kKiB, 128 * kKiB}));
  path.staging_bytes = std::max<std::uint64_t>(2 * path.io_bytes, path.coalesce_bytes) +
                       one_of<3>(random, {0, 64 * kKiB, 1024 * kKiB});
  path.capacity_bytes = (8 + random.below(3)) * path.segment_bytes;
  path.segments_min = 4;
  path.hash_threads = 0;
  path.depth = static_cast<std::uint32_t>(one_of<4>(random, {2, 4, 16, 64}));
  path.events_max = 4096;
  plan.has_tiny_index = random.one_in(16);
  path.index_bytes_max = plan.has_tiny_index ? 64 * kKiB : 64 * kKiB * kKiB;
  path.stall_ns = 200 * kMillisecond;
  path.miss_after_failure_ns = one_of<2>(random, {20 * kMillisecond, 30'000 * kMillisecond});
  path.sync = random.one_in(2) ? log_store::SyncMode::kBatch : log_store::SyncMode::kNone;
  path.delete_sync = random.one_in(4);
  path.owner_note = "the simulation";
  path.id_seed = random.next() | 1;
}

void choose_faults(Random& random, Plan& plan) {
  io::SimulatedFaults& faults = plan.faults;
  faults.latency_max_ns = one_of<3>(random, {50'000, 1'000'000, 10'000'000});
  faults.survives_power_cut = random.unit();
  faults.tears_in_power_cut = random.unit();
  faults.name_survives_power_cut = random.unit();
  plan.disk.faults = faults;
  if (random.one_in(3)) return;  // A disk without faults: the strictest histories.
  if (random.one_in(3)) faults.read_error = random.unit() * 0.03;
  if (random.one_in(3)) faults.write_error = random.unit() * 0.05;
  faults.lands_after_error = random.unit();
  if (random.one_in(3)) faults.sync_error = random.unit() * 0.2;
  if (random.one_in(6)) faults.sync_directory_error = 0.3;
  if (random.one_in(6)) faults.allocate_error = 0.3;
  if (random.one_in(2)) faults.short_transfer = random.unit() * 0.4;
  if (random.one_in(3)) {
    faults.stall = random.unit() * 0.03;
    faults.stall_ns = one_of<5>(random, {20 * kMillisecond, 50 * kMillisecond, 150 * kMillisecond,
                                         300 * kMillisecond, 1500 * kMillisecond});
  }
}

/// Whole segments die at once, while the one that outranks them is not durable yet.
void choose_hot_keys(Random& random, Plan& plan) {
  plan.has_hot_keys = true;
  plan.path.sync = log_store::SyncMode::kNone;
  plan.path.segment_bytes = 256 * kKiB;
  plan.path.capacity_bytes = 9 * plan.path.segment_bytes;
  plan.path.value_bytes_max = 64 * kKiB;
  plan.faults.latency_max_ns = 50'000;
  plan.faults.stall = 0.05;
  plan.faults.stall_ns = 10 * kMillisecond + random.below(180 * kMillisecond);
}

/// Records of several transfers wait for syncs, many of which fail.
void choose_failing_syncs(Random& random, Plan& plan) {
  plan.path.sync = log_store::SyncMode::kBatch;
  plan.path.io_bytes = static_cast<std::uint32_t>(16 * kKiB);
  plan.path.value_bytes_max = 64 * kKiB;
  plan.faults = plan.disk.faults;
  plan.faults.sync_error = 0.05 + random.unit() * 0.2;
  for (Ending& ending : plan.endings) {
    if (random.one_in(2)) ending = Ending::kPowerCut;
  }
}

/// A killed owner's records are recovered, cannot be synced, and then the power is cut.
void choose_failing_syncs_at_open(Random& random, Plan& plan) {
  plan.path.sync = log_store::SyncMode::kNone;
  plan.faults = plan.disk.faults;
  plan.opens_with_faults = true;
  plan.open_faults = plan.faults;
  plan.open_faults.sync_error = 0.1 + random.unit() * 0.15;
  for (std::size_t i = 0; i < plan.endings.size(); ++i) {
    plan.endings[i] = i % 2 == 0 ? Ending::kKill : Ending::kPowerCut;
  }
}

/// Many small records that are read, so that every reclaim moves some, on a disk that now and then
/// takes long.
void choose_busy_reclaim(Random& random, Plan& plan) {
  plan.reads_much = true;
  plan.path.segment_bytes = 256 * kKiB;
  plan.path.capacity_bytes = (8 + random.below(2)) * plan.path.segment_bytes;
  plan.path.value_bytes_max = (12 + random.below(12)) * kKiB;
  plan.path.coalesce_bytes = static_cast<std::uint32_t>(4 * kKiB);
  plan.faults = plan.disk.faults;
  plan.faults.stall = 0.02;
  plan.faults.stall_ns = kMillisecond + random.below(180 * kMillisecond);
}

/// Keys whose values never change, as those of a cache of prefixes: now and then one is replaced or
/// deleted. So most segments outrank nothing, and leave before older ones.
void choose_prefixes(Random& random, Plan& plan) {
  plan.holds_prefixes = true;
  plan.keys = static_cast<std::uint32_t>(100 + random.below(150));
  plan.path.value_bytes_max =
      std::min(plan.path.value_bytes_max, one_of<2>(random, {12 * kKiB, 24 * kKiB}));
}

/// What people and other programs do to a store's files, or an owner to itself.
void choose_oddity(Random& random, Plan& plan) {
  switch (random.below(8)) {
    case 0:
      plan.changes_parameters = true;
      return;
    case 1:
      plan.forbids_files = true;
      return;
    case 2:
      plan.restores_superblock = true;
      return;
    case 3:
      plan.copies_by_reference = true;
      // Room for the store, and for a part of a copy's blocks.
      plan.disk.capacity_bytes = plan.path.capacity_bytes + random.below(plan.path.capacity_bytes);
      plan.path.min_free_bytes = random.below(2) * plan.path.segment_bytes;
      return;
    case 4:
      plan.faults.open_error = random.unit();
      plan.faults.remove_error = random.unit();
      plan.faults.write_error = std::max(plan.faults.write_error, 0.05);
      return;
    default:
      return;
  }
}

}  // namespace

Plan make_plan(std::uint64_t seed) {
  Random random{seed * 2 + 1};
  Plan plan;
  choose_sizes(random, plan);
  plan.disk.seed = random.next();
  plan.disk.capacity_bytes = std::uint64_t{1} << 30;
  choose_faults(random, plan);
  plan.endings = {Ending::kCleanClose, Ending::kKill, Ending::kKill, Ending::kPowerCut};
  for (std::uint64_t more = random.below(4); more > 0; --more) {
    plan.endings.push_back(static_cast<Ending>(random.below(3)));
  }
  for (std::size_t left = plan.endings.size(); left > 1; --left) {
    std::swap(plan.endings[left - 1], plan.endings[static_cast<std::size_t>(random.below(left))]);
  }
  const std::uint64_t manner = random.below(16);
  if (manner < 3) choose_hot_keys(random, plan);
  if (manner == 3) choose_failing_syncs(random, plan);
  if (manner == 4 || manner == 5) choose_failing_syncs_at_open(random, plan);
  if (manner == 6 || manner == 7) choose_busy_reclaim(random, plan);
  plan.keys = static_cast<std::uint32_t>(kKeysMin + random.below(40));
  plan.operations_per_life =
      static_cast<std::uint32_t>((360 + random.below(240)) / plan.endings.size());
  plan.outstanding_max = static_cast<std::uint32_t>(one_of<3>(random, {3, 12, 40}));
  if (!plan.opens_with_faults && random.one_in(8)) {
    plan.opens_with_faults = true;
    plan.open_faults = plan.faults;
    plan.open_faults.stall = 0;
  }
  plan.changes_capacity = random.one_in(6);
  plan.dies_while_opening = random.one_in(4);
  plan.dies_inside_calls = random.one_in(2);
  plan.tampers = random.one_in(6);
  plan.rots_while_running = random.one_in(12);
  plan.squeezes_space = random.one_in(8);
  plan.all_collide = random.one_in(10);
  // The index knows the low half alone, and spreads by its highest and lowest bits. 2^16 of them,
  // so that twins are found fast.
  plan.path.fingerprint_mask_for_test =
      plan.all_collide ? 0xC000'0000'0000'0003U : 0xFF00'0000'0000'00FFU;
  if (plan.squeezes_space) {
    plan.disk.capacity_bytes = plan.path.capacity_bytes + plan.path.segment_bytes;
    plan.path.min_free_bytes = plan.path.segment_bytes / 2;
  }
  // Of these one at a time, and none in the histories that look for something else.
  if (manner >= 8) choose_oddity(random, plan);
  if (random.one_in(4)) {
    plan.path.limits = {.batches_max = 1 + random.below(4),
                        .bytes_max = one_of<3>(random, {16 * kKiB, 64 * kKiB, 1024 * kKiB})};
  }
  // Drawn apart, so that the seeds that once found a defect still lead there.
  Random later{~seed};
  if (later.one_in(4)) plan.path.admission = log_store::AdmissionMode::kLearned;
  if (later.one_in(6)) plan.path.eviction = log_store::EvictionOrder::kOldest;
  if (manner >= 8 && later.one_in(2)) choose_prefixes(later, plan);
  return plan;
}

}  // namespace larder::simulation
