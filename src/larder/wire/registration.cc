#include "larder/wire/registration.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/wire/dtype.h"
#include "larder/wire/fields.h"
#include "larder/wire/limits.h"

namespace larder::wire {
namespace {

/// One field of a map that becomes a T.
template <class T>
struct FieldRule {
  std::string_view name;
  bool is_required;
  DecodeStatus (*read)(MsgpackReader& reader, std::string_view field, T& out);
};

/// Reads a map by its rules. `what` is how an error calls the map.
template <class T, std::size_t kCount>
DecodeStatus read_struct(MsgpackReader& reader, const std::string& what,
                         const FieldRule<T> (&rules)[kCount], T& out, std::size_t& ignored_values) {
  LARDER_ASSIGN(const auto count, read_map(reader, what));
  SeenFields seen;
  for (std::uint32_t i = 0; i < count; ++i) {
    LARDER_ASSIGN(const auto name,
                  read_text(reader, "a field's name in " + what, reader.rest().size()));
    const auto* rule = std::ranges::find(rules, name, &FieldRule<T>::name);
    if (rule == std::end(rules)) {
      LARDER_TRY(pass_value(reader, "a field of " + what, ignored_values));
      continue;
    }
    const std::string field = what + "." + std::string{name};
    LARDER_TRY(seen.add(static_cast<unsigned>(rule - rules), field));
    LARDER_TRY(rule->read(reader, field, out));
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    if (rules[i].is_required && !seen.has(static_cast<unsigned>(i))) {
      return missing_field(what + "." + std::string{rules[i].name});
    }
  }
  return {};
}

/// A size of the layout.
template <class T, std::uint32_t T::* kMember, std::uint32_t kLeast, std::uint32_t kMost>
DecodeStatus read_size(MsgpackReader& reader, std::string_view field, T& out) {
  LARDER_ASSIGN(const auto number, read_number(reader, field, kLeast, kMost));
  out.*kMember = static_cast<std::uint32_t>(number);
  return {};
}

template <class T, bool T::* kMember>
DecodeStatus read_flag(MsgpackReader& reader, std::string_view field, T& out) {
  LARDER_ASSIGN(out.*kMember, read_boolean(reader, field));
  return {};
}

template <class T>
DecodeStatus read_dtype(MsgpackReader& reader, std::string_view field, T& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(out.dtype, read_text(reader, field, limits::kDtypeBytes));
  if (dtype_bytes(out.dtype)) return {};
  const std::string_view nearest = nearest_dtype(out.dtype);
  return wrong_value(field, before,
                     "a torch type without \"torch.\", such as \"" +
                         std::string{nearest.empty() ? "float16" : nearest} + '"');
}

constexpr std::uint32_t kMost = limits::kDimension;

constexpr FieldRule<GroupLayout> kGroupRules[] = {
    {"num_layers", true, read_size<GroupLayout, &GroupLayout::num_layers, 1, kMost>},
    {"hidden_dim_size", true, read_size<GroupLayout, &GroupLayout::hidden_dim_size, 1, kMost>},
    {"dtype_str", true, read_dtype<GroupLayout>},
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
    {"dtype_str", true, read_dtype<Registration>},
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
