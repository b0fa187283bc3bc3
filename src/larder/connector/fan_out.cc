#include "larder/connector/fan_out.h"

#include <algorithm>
#include <array>
#include <span>

#include "larder/base/check.h"

namespace larder {

void FanOut::begin(Split& split, Batch& outer) noexcept {
  LARDER_CHECK(!split.is_out());
  split.outer_ = &outer;
  split.parts_used_ = 0;
}

void FanOut::add(Split& split, std::size_t inner, std::uint32_t place, SetMode set_mode) {
  const std::span used{split.parts_.data(), split.parts_used_};
  const auto found = std::ranges::find_if(used, [&](const auto& part) {
    return part->inner == inner && part->batch.set_mode == set_mode;
  });
  if (found == used.end()) {
    if (split.parts_used_ == split.parts_.size()) {
      split.parts_.push_back(std::make_unique<Split::Part>());
    }
    const Batch& outer = *split.outer_;
    Split::Part& made = *split.parts_[split.parts_used_];
    made.split = &split;
    made.inner = inner;
    made.items.clear();
    made.places.clear();
    made.batch.deadline_ns = outer.deadline_ns;
    made.batch.user_data = &made;
    made.batch.op = outer.op;
    made.batch.urgency = outer.urgency;
    made.batch.set_mode = set_mode;
    made.batch.hint = outer.hint;
    made.batch.hold_ns = outer.hold_ns;
    made.batch.allow_shorter = outer.allow_shorter;
    made.batch.wants_places = outer.wants_places;
    made.batch.waits_for_room = true;  // The outer limits are the bound.
    made.batch.misses_wrong_sizes = outer.misses_wrong_sizes;
    ++split.parts_used_;
    return add(split, inner, place, set_mode);
  }
  Split::Part& part = **found;
  part.places.push_back(place);
  Item item;
  item.key = split.outer_->items[place].key;
  item.value = split.outer_->items[place].value;
  part.items.push_back(item);
}

void FanOut::submit(Split& split) noexcept {
  for (const auto& part : std::span{split.parts_.data(), split.parts_used_}) {
    part->batch.items = part->items;
    part->is_out = true;
    ++split.parts_out_;
    const Status submitted = inner_[part->inner]->submit(part->batch);
    if (submitted) continue;
    for (Item& item : part->items) {
      item.outcome = Outcome::kFailed;
      item.error = submitted.error();
    }
    copy_back(*part);
  }
}

void FanOut::cancel(Split& split) noexcept {
  for (const auto& part : std::span{split.parts_.data(), split.parts_used_}) {
    if (part->is_out) inner_[part->inner]->cancel(part->batch);
  }
}

void FanOut::reap() noexcept {
  for (Connector* const inner : inner_) {
    std::array<Batch*, 64> done{};
    while (const std::size_t count = inner->reap(done)) {
      for (const Batch* const batch : std::span{done}.first(count)) {
        copy_back(*static_cast<Split::Part*>(batch->user_data));
      }
    }
  }
}

void FanOut::copy_back(Split::Part& part) noexcept {
  part.is_out = false;
  --part.split->parts_out_;
  for (std::size_t i = 0; i < part.items.size(); ++i) {
    const Item& from = part.items[i];
    Item& to = part.split->outer_->items[part.places[i]];
    to.value_bytes = from.value_bytes;
    to.error = from.error;
    to.outcome = from.outcome;
    to.existed = from.existed;
    to.miss_reason = from.miss_reason;
    to.place = from.place;
  }
}

}  // namespace larder
