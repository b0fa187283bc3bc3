#include "larder/cache/layouts.h"

#include <algorithm>

#include "larder/base/check.h"

namespace larder::cache {
namespace {

Error invalid(const char* what) {
  return Error{ErrorCode::kInvalidArgument, "cache", what};
}

}  // namespace

std::uint32_t Layouts::model_of(const LayoutSpec& spec) const noexcept {
  const auto found = std::ranges::find_if(models_, [&](const Model& model) {
    return model.world_size == spec.world_size && model.name == spec.model;
  });
  return found == models_.end() ? kNone : static_cast<std::uint32_t>(found - models_.begin());
}

Result<LayoutId> Layouts::add(const LayoutSpec& spec) {
  if (spec.groups.empty()) return invalid("a layout needs at least one object group");
  if (spec.world_size == 0) return invalid("a layout needs at least one rank");
  if (spec.world_size > kRowsMax || spec.world_size * spec.groups.size() > kRowsMax) {
    return invalid("a layout has more ranks and object groups than 4096 cells a chunk");
  }
  std::uint32_t number = model_of(spec);
  if (number != kNone) {
    Layout& current = layouts_[index_of(models_[number].layout)];
    if (current.spec == spec) {
      ++current.registrations;
      return models_[number].layout;
    }
    if (current.registrations > 0) {
      return invalid("the model is registered with another layout of its KV");
    }
  } else {
    number = static_cast<std::uint32_t>(models_.size());
    models_.push_back({.name = spec.model, .world_size = spec.world_size});
  }
  Model& model = models_[number];
  model.groups_max = std::max(model.groups_max, static_cast<std::uint32_t>(spec.groups.size()));
  models_[number].layout = LayoutId{static_cast<std::uint32_t>(layouts_.size())};
  layouts_.push_back({spec, 1});
  return models_[number].layout;
}

void Layouts::drop(LayoutId layout) noexcept {
  LARDER_CHECK(is_known(layout) && layouts_[index_of(layout)].registrations > 0);
  --layouts_[index_of(layout)].registrations;
}

SpaceId Layouts::add_space(LayoutId layout, SaltId salt) {
  LARDER_CHECK(is_known(layout));
  const std::uint32_t model = model_of(layouts_[index_of(layout)].spec);
  const std::uint64_t both = std::uint64_t{model} << 32U | index_of(salt);
  const SpaceId next{static_cast<std::uint32_t>(spaces_.size())};
  const auto [place, is_new] = by_model_and_salt_.try_emplace(both, next);
  if (is_new) spaces_.push_back({model, salt});
  return place->second;
}

bool Layouts::is_same_model(SpaceId space, LayoutId layout) const noexcept {
  return model_of(layouts_[index_of(layout)].spec) == spaces_[index_of(space)].model;
}

}  // namespace larder::cache
