#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "larder/server/admin_command.h"

namespace larder::server {

// Fields of a request's JSON. Errors name the field, its value and the expected one; the kind is
// kMalformed where LMCache answers 422, for a type that it does not accept. Unknown fields are
// ignored, as in LMCache, except by callers of check_fields(). All are pure.

using Json = nlohmann::ordered_json;

template <class T>
using Field = Result<T, AdminError>;

AdminError malformed(std::string text);
AdminError invalid_field(std::string text);
/// "tier: 1 is not a text"
AdminError wrong_field(std::string_view field, const Json& value, std::string_view expected);

/// An empty body is an empty object.
Field<Json> read_object(std::string_view body);
/// For irreversible requests: a misspelled field would widen them. The error names the field and
/// the one that was meant.
Result<void, AdminError> check_fields(const Json& object, std::span<const std::string_view> known);
/// A sentence about an unknown field that resembles a known one. Nothing: there is none.
std::optional<std::string> misspelled_field(const Json& object,
                                            std::span<const std::string_view> known);
bool is_u32(const Json& value);

// A missing field has the default; without a default it is an error.
Field<bool> read_bool(const Json& json, const char* field);
Field<std::string> read_text(const Json& json, const char* field,
                             std::optional<std::string> if_absent = std::nullopt);
Field<std::uint32_t> read_u32(const Json& json, const char* field,
                              std::optional<std::uint32_t> if_absent = std::nullopt);

}  // namespace larder::server
