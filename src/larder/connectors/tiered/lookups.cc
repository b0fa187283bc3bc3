#include "larder/connectors/tiered/lookups.h"

#include <algorithm>
#include <array>

namespace larder::tiered {

bool are_all_probed(std::span<const std::unique_ptr<TierPort>> tiers,
                    const TieredOptions& options) {
  for (std::size_t tier = 0; tier < tiers.size(); ++tier) {
    if (options.tiers[tier].load && !tiers[tier]->connector().capabilities().has_probe)
      return false;
  }
  return true;
}

Lookups::Lookups(Intake& intake, const KeyTable& keys,
                 std::span<const std::unique_ptr<TierPort>> tiers, const TieredOptions& options)
    : intake_(intake),
      keys_(keys),
      tiers_(tiers),
      options_(options),
      can_answer_(!options.is_back() && are_all_probed(tiers, options)) {}

Status Lookups::look_up(Batch& batch) noexcept {
  const bool wants_places = batch.wants_places;
  return intake_.look_up(batch, [this, wants_places](std::span<Item> items) {
    answer(items);
    if (wants_places) keys_.place_shown(items);
  });
}

bool Lookups::probe(std::span<Item> items) const noexcept {
  if (!can_answer_) return false;
  answer(items);
  intake_.end_probe(items);
  return true;
}

void Lookups::answer(std::span<Item> items) const noexcept {
  bool is_first = true;
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (!options_.tiers[tier].load) continue;
    const Connector& connector = tiers_[tier]->connector();
    if (!is_first) {
      ask_missing(connector, tier, items);
    } else if (connector.probe(items)) {
      for (Item& item : items) item.place = place_of_tier(tier);
    } else {
      miss_all(items);
    }
    is_first = false;
  }
  if (is_first) miss_all(items);  // L1 alone is loaded from.
  keys_.find_shown(items);
}

/// Nothing is known of them.
void Lookups::miss_all(std::span<Item> items) noexcept {
  for (Item& item : items) {
    item.outcome = Outcome::kMiss;
    item.value_bytes = 0;
    item.error = Error{};
    item.miss_reason = MissReason::kAbsent;
  }
}

/// A further tier, for keys that those before it do not have.
void Lookups::ask_missing(const Connector& connector, std::size_t tier,
                          std::span<Item> items) noexcept {
  std::array<Item, kItemsTogether> asked;
  std::array<Item*, kItemsTogether> askers{};
  for (std::size_t at = 0; at < items.size();) {
    std::size_t count = 0;
    for (; at < items.size() && count < kItemsTogether; ++at) {
      if (items[at].outcome != Outcome::kMiss) continue;
      asked[count].key = items[at].key;
      askers[count++] = &items[at];
    }
    if (count == 0 || !connector.probe(std::span{asked}.first(count))) continue;
    for (std::size_t i = 0; i < count; ++i) {
      const Item& from = asked[i];
      Item& to = *askers[i];
      if (from.outcome == Outcome::kHit) {
        to.outcome = Outcome::kHit;
        to.value_bytes = from.value_bytes;
        to.place = place_of_tier(tier);
        to.miss_reason = MissReason::kAbsent;
      } else if (from.miss_reason != MissReason::kAbsent) {
        to.miss_reason = from.miss_reason;
      }
    }
  }
}

}  // namespace larder::tiered
