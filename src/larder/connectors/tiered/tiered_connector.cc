#include "larder/connectors/tiered/tiered_connector.h"

#include <algorithm>
#include <utility>

#include "larder/base/clock.h"

namespace larder::tiered {
namespace {

/// The capabilities that all tiers have, as far as they are used.
Capabilities capabilities_of(const TieredOptions& options,
                             const std::vector<std::unique_ptr<Connector>>& tiers) {
  Capabilities made;
  made.value_bytes_max = kValueBytesMax;
  made.integrity = Integrity::kChecked;
  made.has_probe = !options.is_back();
  made.hints = bit_of(Hint::kPin) | bit_of(Hint::kRelease);
  // With noop a value that is not read would never leave.
  if (options.policy != "noop") made.hints |= bit_of(Hint::kPrefetch);
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    const Capabilities tier = tiers[i]->capabilities();
    const cache::TierOptions& with = options.tiers[i];
    made.buffer_alignment = std::max(made.buffer_alignment, tier.buffer_alignment);
    made.slices_max = std::min(made.slices_max, tier.slices_max);
    made.locality = tier.locality;  // The last tier's: the farthest.
    if (with.store) made.value_bytes_max = std::min(made.value_bytes_max, tier.value_bytes_max);
    if (with.load && tier.integrity == Integrity::kNone) made.integrity = Integrity::kNone;
    // With write=back a value may be in L1 alone.
    if (with.load && !options.is_back()) {
      made.hints = static_cast<HintMask>(made.hints | (tier.hints & bit_of(Hint::kRetain)));
    }
    made.has_probe = made.has_probe && (!with.load || tier.has_probe);
    const bool keeps = with.load && with.store && !options.is_back();
    made.survives_restart = made.survives_restart || (keeps && tier.survives_restart);
  }
  return made;
}

/// As in report(): the tiers hold copies of each other, and L1 comes on top of the largest.
std::uint64_t capacity_of(const TieredOptions& options,
                          const std::vector<std::unique_ptr<Connector>>& tiers) {
  std::uint64_t largest = 0;
  for (const auto& tier : tiers) {
    const std::uint64_t capacity = tier->report().capacity_bytes;
    if (capacity == 0) return 0;
    largest = std::max(largest, capacity);
  }
  return largest + options.l1_bytes;
}

IntakeOptions intake_options(const TieredOptions& options, const Capabilities& capabilities,
                             const std::vector<std::unique_ptr<Connector>>& tiers) {
  IntakeOptions made;
  made.name = "tiered";
  // One thread carries out all operations, so that they compete by urgency alone.
  made.lane_of = [](Op) noexcept -> LaneNumber { return 0; };
  made.limits = options.limits;
  made.value_bytes_max = capabilities.value_bytes_max;
  made.slices_max = capabilities.slices_max;
  made.hints = capabilities.hints;
  made.miss_after_failure_ns = options.miss_after_failure_ns;
  made.capacity = {.capacity_bytes = capacity_of(options, tiers)};
  return made;
}

}  // namespace

SetupResult<std::unique_ptr<TieredConnector>> TieredConnector::create(
    const TieredOptions& options, std::vector<std::unique_ptr<Connector>> tiers) {
  LARDER_TRY(options.validate());
  cache::ArenaOptions arena_options;
  arena_options.capacity_bytes = options.l1_bytes;
  arena_options.commit_ahead_bytes = options.commit_ahead_bytes;
  auto arena = cache::Arena::open(arena_options);
  if (!arena) return SetupError{arena.error().code, "tiered: l1: " + arena.error().text};
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), "tiered: " + wake.error().to_string()};
  std::unique_ptr<TieredConnector> made{new TieredConnector(
      options, std::move(arena).value(), std::move(tiers), std::move(wake).value())};
  const Status started = made->reactor_.start();
  if (!started) return SetupError{started.error().code(), "tiered: " + started.error().to_string()};
  return made;
}

TieredConnector::TieredConnector(const TieredOptions& options, std::unique_ptr<cache::Arena> arena,
                                 std::vector<std::unique_ptr<Connector>> tiers, EventFd wake)
    : options_(options),
      capabilities_(capabilities_of(options, tiers)),
      intake_(intake_options(options, capabilities_, tiers), RealClock::instance()),
      machine_(options_, intake_, std::move(arena), std::move(tiers), std::move(wake)),
      reactor_(machine_, intake_, {.name = "larder-tiered"}) {}

std::uint64_t TieredConnector::load_ns(std::span<const LoadSize> sizes) const noexcept {
  const std::span tiers = machine_.tiers();
  std::uint64_t l1_ns = 0;
  std::uint64_t tiers_ns = 0;
  for (const LoadSize& size : sizes) {
    if (size.place == 0) {
      l1_ns = machine_.copy_times().load_ns(size, RealClock::instance().now_ns());
      continue;
    }
    if (size.place > tiers.size()) return kNever;
    const LoadSize there{.values = size.values, .bytes = size.bytes};
    tiers_ns = std::max(tiers_ns, tiers[size.place - 1U]->connector().load_ns({&there, 1}));
  }
  return l1_ns == kNever || tiers_ns == kNever ? kNever : l1_ns + tiers_ns;
}

Status TieredConnector::stop(std::uint64_t deadline_ns) noexcept {
  intake_.stop();
  const std::uint64_t now_ns = RealClock::instance().now_ns();
  const std::uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
  // The tiers need some of it to return their values then.
  machine_.set_drain_deadline(now_ns + std::min(options_.drain_ns, left_ns / 4 * 3));
  LARDER_TRY(reactor_.stop(deadline_ns));
  for (const auto& tier : machine_.tiers()) LARDER_TRY(tier->connector().stop(deadline_ns));
  return {};
}

Result<ScanPage> TieredConnector::scan(ScanCursor /*from*/, std::size_t /*keys_max*/) {
  return Error{ErrorCode::kUnimplemented, "tiered", "scan the tiers: L1 has no list of its keys"};
}

}  // namespace larder::tiered
