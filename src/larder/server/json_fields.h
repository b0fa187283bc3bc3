#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "larder/server/admin_command.h"

namespace larder::server {

// Fields of a request's JSON. Errors name the field, its value and what is expected; the kind is
// kMalformed where LMCache answers 422, for a type that it does not take. Fields that are not known
// are ignored, as LMCache does, except by who asks check_fields(). All are pure.

using Json = nlohmann::ordered_json;

template <class T>
using Field = Result<T, AdminError>;

AdminError malformed(std::string text);
AdminError invalid_field(std::string text);
/// "tier: 1 is not a text"
AdminError wrong_field(std::string_view field, const Json& value, std::string_view expected);

/// An empty body is an empty object.
Field<Json> read_object(std::string_view body);
/// For what cannot be undone: a field that is misspelled would widen it. The error names the field
/// and the one that was meant.
Result<void, AdminError> check_fields(const Json& object, std::span<const std::string_view> known);
/// A sentence about a field that is not known, and like one that is. Nothing: there is none.
std::optional<std::string> misspelled_field(const Json& object,
                                            std::span<const std::string_view> known);
bool is_u32(const Json& value);

// A field that is left out has the default; without one it is an error.
Field<bool> read_bool(const Json& json, const char* field);
Field<std::string> read_text(const Json& json, const char* field,
                             std::optional<std::string> if_absent = std::nullopt);
Field<std::uint32_t> read_u32(const Json& json, const char* field,
                              std::optional<std::uint32_t> if_absent = std::nullopt);

}  // namespace larder::server
