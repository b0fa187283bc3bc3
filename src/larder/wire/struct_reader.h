#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "larder/base/key_text.h"
#include "larder/wire/dtype.h"
#include "larder/wire/fields.h"

/// Maps of MessagePack that become structs, by a table of their fields. All are pure and allocate
/// for errors and names of fields only; views point into the frame.
namespace larder::wire {

/// One field of a map that becomes a T.
template <class T>
struct FieldRule {
  std::string_view name;
  bool is_required;
  DecodeStatus (*read)(MsgpackReader& reader, std::string_view field, T& out);
};

/// How a field that the table does not have is treated.
enum class UnknownFields : std::uint8_t { kPass, kRefuse };

/// Reads a map by its rules. `what` is the map's name in errors.
template <class T, std::size_t kCount>
DecodeStatus read_struct(MsgpackReader& reader, const std::string& what,
                         const FieldRule<T> (&rules)[kCount], T& out, std::size_t& ignored_values,
                         UnknownFields unknown = UnknownFields::kPass) {
  LARDER_ASSIGN(const auto count, read_map(reader, what));
  SeenFields seen;
  for (std::uint32_t i = 0; i < count; ++i) {
    LARDER_ASSIGN(const auto name,
                  read_text(reader, "a field's name in " + what, reader.rest().size()));
    const auto* rule = std::ranges::find(rules, name, &FieldRule<T>::name);
    if (rule == std::end(rules) && unknown == UnknownFields::kRefuse) {
      return DecodeError{.field = what + "." + printable(name.substr(0, limits::kShownValueBytes)),
                         .value = "unknown",
                         .remedy = "left out: LMCache 0.5.6 and 0.5.7 have no such field"};
    }
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

/// A torch type's name, without "torch.".
template <class T, std::string_view T::* kMember>
DecodeStatus read_dtype(MsgpackReader& reader, std::string_view field, T& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(out.*kMember, read_text(reader, field, limits::kDtypeBytes));
  if (dtype_bytes(out.*kMember)) return {};
  const std::string_view nearest = nearest_dtype(out.*kMember);
  return wrong_value(field, before,
                     "a torch type without \"torch.\", such as \"" +
                         std::string{nearest.empty() ? "float16" : nearest} + '"');
}

}  // namespace larder::wire
