#include "larder/connectors/tiered/lookups.h"

#include <algorithm>
#include <array>

namespace larder::tiered {

Lookups::Lookups(Intake& intake, const KeyTable& keys,
                 std::span<const std::unique_ptr<TierPort>> tiers, const TieredOptions& options)
    : intake_(intake), keys_(keys), tiers_(tiers), options_(options) {
  can_answer_ = !options.is_back();
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (!options_.tiers[tier].load) continue;
    can_answer_ = can_answer_ && tiers_[tier]->connector().capabilities().has_probe;
  }
}

Status Lookups::look_up(Batch& batch) noexcept {
  LARDER_TRY(intake_.admit(batch));
  const std::size_t count = batch.items.size();
  for (std::size_t first = 0; first < count; first += kItemsTogether) {
    look_up_some(batch, batch.items.subspan(first, std::min(kItemsTogether, count - first)));
  }
  intake_.finish(batch, count);
  return {};
}

void Lookups::look_up_some(Batch& batch, std::span<Item> items) noexcept {
  std::array<Item, kItemsTogether> asked;
  std::array<Item*, kItemsTogether> askers{};
  std::size_t count = 0;
  for (Item& item : items) {
    if (!intake_.begin(batch, item)) continue;
    asked[count].key = item.key;
    askers[count++] = &item;
  }
  ask(std::span{asked}.first(count));
  for (std::size_t i = 0; i < count; ++i) {
    askers[i]->outcome = asked[i].outcome;
    askers[i]->value_bytes = asked[i].value_bytes;
    askers[i]->miss_reason = asked[i].miss_reason;
    const bool has_failed = asked[i].outcome == Outcome::kFailed;
    intake_.end(batch, *askers[i], has_failed ? Status{asked[i].error} : Status{});
  }
}

/// At most kItemsTogether, whose outcomes are then there.
void Lookups::ask(std::span<Item> items) const noexcept {
  for (Item& item : items) item.outcome = Outcome::kMiss;
  std::array<Item, kItemsTogether> open;
  std::array<std::size_t, kItemsTogether> places{};
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (!options_.tiers[tier].load) continue;
    std::size_t count = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (items[i].outcome != Outcome::kMiss) continue;
      open[count] = Item{};
      open[count].key = items[i].key;
      places[count++] = i;
    }
    if (count == 0) return;
    const std::span<Item> answers = std::span{open}.first(count);
    const bool has_answered = tiers_[tier]->connector().probe(answers);
    for (std::size_t i = 0; i < count; ++i) {
      Item& item = items[places[i]];
      if (!has_answered) {
        item.miss_reason = MissReason::kDown;  // Nothing else is known of it.
        continue;
      }
      item.outcome = answers[i].outcome;
      item.value_bytes = answers[i].value_bytes;
      item.error = answers[i].error;
      if (answers[i].miss_reason != MissReason::kAbsent) item.miss_reason = answers[i].miss_reason;
    }
  }
  keys_.find_shown(items);
}

bool Lookups::probe(std::span<Item> items) const noexcept {
  if (!can_answer_) return false;
  for (std::size_t first = 0; first < items.size(); first += kItemsTogether) {
    const std::span<Item> some =
        items.subspan(first, std::min(kItemsTogether, items.size() - first));
    for (Item& item : some) {
      item.value_bytes = 0;
      item.existed = false;
      item.miss_reason = MissReason::kAbsent;
      item.error = Error{};
    }
    ask(some);
  }
  intake_.miss_failed(items);
  intake_.note_probe(items);
  return true;
}

}  // namespace larder::tiered
