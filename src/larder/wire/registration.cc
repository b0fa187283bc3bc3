#include "larder/wire/registration.h"

#include <string>
#include <utility>

#include "larder/wire/fields.h"
#include "larder/wire/limits.h"
#include "larder/wire/struct_reader.h"

namespace larder::wire {
namespace {

constexpr std::uint32_t kMost = limits::kDimension;

constexpr FieldRule<GroupLayout> kGroupRules[] = {
    {"num_layers", true, read_size<GroupLayout, &GroupLayout::num_layers, 1, kMost>},
    {"hidden_dim_size", true, read_size<GroupLayout, &GroupLayout::hidden_dim_size, 1, kMost>},
    {"dtype_str", true, read_dtype<GroupLayout, &GroupLayout::dtype>},
    {"tokens_per_block", true, read_size<GroupLayout, &GroupLayout::tokens_per_block, 1, kMost>},
    {"window_tokens", false, read_size<GroupLayout, &GroupLayout::window_tokens, 0, kMost>},
    {"kv_size", false, read_size<GroupLayout, &GroupLayout::planes, 0, 2>},
    {"window_chunks", false, read_size<GroupLayout, &GroupLayout::window_chunks, 0, kMost>},
    {"recurrent", false, read_flag<GroupLayout, &GroupLayout::is_recurrent>},
};

using Registration = EngineDrivenRegistration;

DecodeStatus read_instance(MsgpackReader& reader, std::string_view field, Registration& out) {
  LARDER_ASSIGN(out.instance, read_integer(reader, field));
  return {};
}

DecodeStatus read_model(MsgpackReader& reader, std::string_view field, Registration& out) {
  LARDER_ASSIGN(out.model, read_text(reader, field, limits::kModelBytes));
  return {};
}

DecodeStatus read_slots(MsgpackReader& reader, std::string_view field, Registration& out) {
  if (take_nil(reader)) return {};
  LARDER_ASSIGN(const auto slots, read_number(reader, field, 1, kMost));
  out.num_physical_slots = static_cast<std::uint32_t>(slots);
  return {};
}

DecodeStatus read_groups(MsgpackReader& reader, std::string_view field, Registration& out) {
  LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kGroups));
  out.groups.reserve(count);
  std::size_t ignored_values = limits::kIgnoredValues;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string what = std::string{field} + "[" + std::to_string(i) + "]";
    LARDER_TRY(read_struct(reader, what, kGroupRules, out.groups.emplace_back(), ignored_values));
  }
  return {};
}

constexpr FieldRule<Registration> kRules[] = {
    {"instance_id", true, read_instance},
    {"model_name", true, read_model},
    {"world_size", true, read_size<Registration, &Registration::world_size, 1, limits::kWorldSize>},
    {"block_size", true, read_size<Registration, &Registration::block_size, 1, kMost>},
    {"num_layers", true, read_size<Registration, &Registration::num_layers, 1, kMost>},
    {"hidden_dim_size", true, read_size<Registration, &Registration::hidden_dim_size, 1, kMost>},
    {"dtype_str", true, read_dtype<Registration, &Registration::dtype>},
    {"use_mla", true, read_flag<Registration, &Registration::use_mla>},
    {"num_physical_slots", false, read_slots},
    {"group_layouts", false, read_groups},
};

}  // namespace

DecodeResult<EngineDrivenRegistration> decode_engine_driven_registration(
    std::span<const std::byte> frame) {
  MsgpackReader reader{frame};
  EngineDrivenRegistration registration;
  std::size_t ignored_values = limits::kIgnoredValues;
  LARDER_TRY(read_struct(reader, "the registration", kRules, registration, ignored_values));
  LARDER_TRY(expect_end(reader, "the registration"));
  return registration;
}

}  // namespace larder::wire
