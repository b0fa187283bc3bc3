#include "tests/engine_simulation/plan.h"

#include <algorithm>
#include <array>

#include "larder/base/random.h"

namespace larder::cache::simulation {
namespace {

/// Large enough that a small log turns.
constexpr std::uint64_t kLogCellBytes = 6'016;

template <std::size_t N>
std::uint64_t one_of(Random& random, const std::array<std::uint64_t, N>& choices) {
  return choices[static_cast<std::size_t>(random.below(N))];
}

LayoutSpec make_layout(Random& random, std::uint64_t unit, bool is_single_row,
                       bool has_mixed_sizes) {
  LayoutSpec layout{.model = "m", .world_size = 1, .groups = {}};
  if (!is_single_row)
    layout.world_size = static_cast<std::uint32_t>(one_of<6>(random, {1, 1, 2, 2, 2, 8}));
  const std::uint64_t groups = is_single_row || layout.world_size == 8 ? 1 : 1 + random.below(2);
  for (std::uint64_t i = 0; i < groups; ++i) {
    GroupSpec group;
    group.cell_bytes = has_mixed_sizes ? one_of<5>(random, {40, 64, 136, 512, 1024}) : unit;
    // A model of windows only, or a hybrid.
    const bool has_window = i > 0 ? !random.one_in(4) : random.one_in(6);
    group.window_chunks = has_window ? static_cast<std::uint32_t>(1 + random.below(4)) : 0;
    layout.groups.push_back(group);
  }
  return layout;
}

void choose_times(Random& random, EngineOptions& options) {
  options.read_ttl_ns = 40 * kSecond;
  options.session_ttl_ns = 90 * kSecond;
  options.write_ttl_ns = 30 * kSecond;
  options.load_timeout_ns = 5 * kSecond;
  options.touch_interval_ns = one_of<2>(random, {5 * kSecond, 60 * kSecond});
  options.pass_over_ns = one_of<2>(random, {kSecond / 2, 2 * kSecond});
}

void choose_bounds(Random& random, Plan& plan) {
  EngineOptions& options = plan.options;
  options.evict_cells_max = static_cast<std::uint32_t>(1 + random.below(random.one_in(2) ? 4 : 60));
  options.batch_bytes_max = plan.unit_bytes * (1 + random.below(8));
  options.exists_keys_max = static_cast<std::uint32_t>(3 + random.below(20));
  options.exists_ahead = static_cast<std::uint32_t>(1 + random.below(3));
  options.ghosts_max = 64;
  options.columns_expected = 64;
  options.promote = static_cast<Promote>(random.below(3));
  options.keeps_wanted = random.one_in(5);
  options.lock_share = random.one_in(2) ? 0.8 : 0.5;
  options.load_share = random.one_in(2) ? 0.5 : 0.3;
  options.quarantine_share = random.one_in(2) ? 0.1 : 0.3;
}

TierPlan make_tier(Random& random, const Plan& plan) {
  TierPlan tier;
  tier.has_probe = random.one_in(2);
  tier.holds = !random.one_in(6);
  tier.ignores_cancel = random.one_in(2);
  tier.keeps_deadlines = random.one_in(2);
  tier.has_faults = plan.manner != Manner::kCalm && !random.one_in(4);
  tier.fails = !random.one_in(3);
  tier.is_filled = !random.one_in(4);
  tier.locality = random.one_in(3) ? Locality::kMemory : Locality::kLocalDisk;
  tier.options.load = !random.one_in(12);
  tier.options.store = !random.one_in(12);
  tier.options.load_bytes_max =
      random.one_in(2) ? plan.unit_bytes * (1 + random.below(16)) : 1U << 30;
  tier.options.store_bytes_max = plan.unit_bytes * (1 + random.below(12));
  tier.options.min_hits = random.one_in(4) ? 1 : 0;
  tier.options.fill = static_cast<Fill>(random.below(3));
  tier.options.touch = !random.one_in(4);
  return tier;
}

void choose_tiers(Random& random, Plan& plan) {
  if (plan.manner == Manner::kNoTiers) return;
  std::uint64_t count = one_of<6>(random, {1, 1, 2, 2, 2, 3});
  if (plan.manner == Manner::kCalm) count = 2;
  for (std::uint64_t i = 0; i < count; ++i) plan.tiers.push_back(make_tier(random, plan));
  if (plan.unit_bytes == 64) return;
  TierPlan& log = plan.tiers[static_cast<std::size_t>(random.below(count))];
  log.is_log = true;
  log.has_probe = true;
  log.has_faults = false;
  log.is_filled = false;
  log.locality = Locality::kLocalDisk;
  log.options.load = true;
}

/// Tiers that answer what they have at once, and load when the history says so.
void choose_queue(Random& random, Plan& plan) {
  for (TierPlan& tier : plan.tiers) {
    if (tier.is_log) tier = make_tier(random, plan);
    tier.has_probe = true;
    tier.has_faults = false;
    tier.holds = true;
    tier.is_filled = true;
    tier.options.load = true;
    tier.options.load_bytes_max = std::uint64_t{1} << 30;
  }
  plan.options.load_timeout_ns = 20 * kSecond;
  plan.options.read_ttl_ns = 60 * kSecond;
  plan.options.policy = "lru";
  plan.options.skip_l1 = false;
  plan.polls_eagerly = true;
  plan.has_values = plan.has_open_sizes = plan.has_quotas = plan.has_removals = false;
  plan.changes_layout = false;
  plan.prompts = 6;
  plan.quiet = 6;
}

void choose_operations(Random& random, Plan& plan) {
  const bool may_disturb = plan.manner != Manner::kCalm && plan.manner != Manner::kQueue;
  plan.has_purges = plan.has_removals && !random.one_in(4);
  plan.has_tier_limits = may_disturb && !plan.tiers.empty() && random.one_in(4);
  plan.has_watermarks = may_disturb && random.one_in(4);
  if (!plan.has_watermarks) return;
  constexpr std::array<double, 4> kShares{0.3, 0.5, 0.7, 0.9};
  const auto low = static_cast<std::size_t>(random.below(kShares.size()));
  const auto high = low + static_cast<std::size_t>(random.below(kShares.size() - low));
  plan.options.low_watermark = kShares[low];
  plan.options.high_watermark = kShares[high];
}

void choose_manner(Random& random, Plan& plan) {
  constexpr std::array<Manner, 9> kManners{Manner::kAnything, Manner::kAnything, Manner::kAnything,
                                           Manner::kAnything, Manner::kCalm,     Manner::kNoTiers,
                                           Manner::kNoTiers,  Manner::kBuffer,   Manner::kQueue};
  plan.manner = kManners[static_cast<std::size_t>(random.below(kManners.size()))];
}

}  // namespace

Plan make_plan(std::uint64_t seed) {
  Random random{seed * 2 + 1};
  Plan plan;
  choose_manner(random, plan);
  const bool is_exact = plan.manner == Manner::kNoTiers;
  const bool is_calm = plan.manner == Manner::kCalm;
  const bool is_single_row =
      is_exact || is_calm ? !random.one_in(is_calm ? 8 : 4) : random.one_in(3);
  const bool has_log = !is_exact && random.one_in(6);
  const bool has_mixed_sizes = !has_log && random.one_in(is_exact ? 3 : 4);
  if (has_log) plan.unit_bytes = kLogCellBytes;
  plan.layout = make_layout(random, plan.unit_bytes, is_single_row, has_mixed_sizes);
  plan.other_layout = plan.layout;
  for (GroupSpec& group : plan.other_layout.groups) group.cell_bytes += 24;
  if (plan.layout.groups.size() == 2) {
    plan.other_layout.groups.pop_back();
  } else if (random.one_in(2)) {
    plan.other_layout.groups.push_back({.cell_bytes = 40, .window_chunks = 2});
  }
  plan.grain_bytes = 64;
  std::uint64_t column_bytes = 0;
  for (const GroupSpec& group : plan.layout.groups) {
    column_bytes += group.cell_bytes * plan.layout.world_size;
  }
  plan.capacity_bytes = (15 + random.below(25)) * std::max<std::uint64_t>(column_bytes, 128);
  plan.capacity_bytes = plan.capacity_bytes / plan.grain_bytes * plan.grain_bytes;

  const std::array<const char*, 6> policies{"lru",    "arc",          "s3-fifo",
                                            "prefix", "isolated-lru", "noop"};
  plan.options.policy = policies[static_cast<std::size_t>(random.below(policies.size()))];
  if (is_exact && random.one_in(2)) plan.options.policy = "lru";
  if (plan.manner == Manner::kBuffer) plan.options.policy = "noop";
  plan.options.seed = random.next();
  choose_times(random, plan.options);
  choose_bounds(random, plan);
  choose_tiers(random, plan);
  plan.options.skip_l1 = plan.options.policy == "noop" && !plan.tiers.empty() && random.one_in(2);

  plan.prompts = static_cast<std::uint32_t>(3 + random.below(4));
  plan.workers = static_cast<std::uint32_t>(2 + random.below(3));
  plan.polls_eagerly = !random.one_in(4);
  plan.frees_whole = is_calm || (is_exact && random.one_in(2));
  plan.has_values = !is_calm && random.one_in(2);
  plan.has_open_sizes = plan.has_values && random.one_in(2);
  plan.value_bytes_max = plan.has_open_sizes ? 320 : plan.unit_bytes;
  if (is_exact && plan.has_open_sizes) {
    plan.capacity_bytes = 64 * (100 + random.below(60));
    plan.prompts = 8;
    plan.options.evict_cells_max = 200;
  }
  plan.has_quotas = !is_calm && random.one_in(3);
  plan.has_removals = !is_calm && !random.one_in(4);
  plan.changes_layout = !is_calm && random.one_in(5);
  plan.lives = static_cast<std::uint32_t>(random.one_in(3) ? 2 + random.below(2) : 1);
  plan.quiet = static_cast<std::uint32_t>(one_of<3>(random, {6, 12, 25}));
  if (plan.manner == Manner::kQueue) choose_queue(random, plan);
  if (is_calm) {
    plan.options.keeps_wanted = false;
    plan.capacity_bytes *= 6;
    plan.options.promote = Promote::kRetain;
    plan.lives = 1;
    plan.request_ids = 2;
    plan.polls_eagerly = true;
    if (!plan.tiers.back().is_log) plan.tiers.back().is_filled = true;
    plan.tiers.back().locality = Locality::kLocalDisk;
    plan.tiers.back().options.load = true;
    plan.tiers.front().is_filled = false;
    plan.tiers.front().options.fill = Fill::kAlways;
  }
  choose_operations(random, plan);
  return plan;
}

}  // namespace larder::cache::simulation
