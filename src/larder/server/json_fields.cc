#include "larder/server/json_fields.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/server/json_watch.h"

namespace larder::server {
namespace {

/// A value as a person may see it.
std::string shown(const Json& value) {
  constexpr std::size_t kShownBytes = 64;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return printable(text);
}

std::string unknown(std::string_view field) {
  return "there is no field '" + printable(field.substr(0, 64)) + "'";
}

AdminError absent(const char* field) {
  return malformed(std::string{field} + " is missing");
}

}  // namespace

AdminError malformed(std::string text) {
  return {.kind = AdminError::Kind::kMalformed, .text = std::move(text)};
}

AdminError invalid_field(std::string text) {
  return {.kind = AdminError::Kind::kInvalid, .text = std::move(text)};
}

AdminError wrong_field(std::string_view field, const Json& value, std::string_view expected) {
  return malformed(std::string{field} + ": " + shown(value) + " is not " + std::string{expected});
}

Field<Json> read_object(std::string_view body) {
  if (body.empty()) return Json::object();
  JsonWatch watch;
  Json json = Json::parse(body, std::ref(watch), false);
  if (watch.is_too_deep()) {
    return malformed("the body is nested more than " + std::to_string(JsonWatch::kDepthMax) +
                     " deep");
  }
  if (json.is_object()) return json;
  if (json.is_discarded()) return malformed("the body is not valid JSON");
  return malformed("the body is " + shown(json) + ", and not a JSON object");
}

std::optional<std::string> misspelled_field(const Json& object,
                                            std::span<const std::string_view> known) {
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string_view nearest = nearest_name(name, known);
    if (!nearest.empty()) {
      return unknown(name) + "; did you mean '" + std::string{nearest} + "'?";
    }
  }
  return std::nullopt;
}

Result<void, AdminError> check_fields(const Json& object, std::span<const std::string_view> known) {
  if (const auto misspelled = misspelled_field(object, known)) return malformed(*misspelled);
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    std::string text = unknown(name) + "; the fields are ";
    for (std::size_t i = 0; i < known.size(); ++i) {
      text += (i == 0 ? "" : ", ") + std::string{known[i]};
    }
    return malformed(std::move(text));
  }
  return {};
}

bool is_u32(const Json& value) {
  return value.is_number_unsigned() &&
         value.get<std::uint64_t>() <= std::numeric_limits<std::uint32_t>::max();
}

Field<bool> read_bool(const Json& json, const char* field) {
  const auto found = json.find(field);
  if (found == json.end()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return wrong_field(field, *found, "true or false");
}

Field<std::string> read_text(const Json& json, const char* field,
                             std::optional<std::string> if_absent) {
  const auto found = json.find(field);
  if (found == json.end() && if_absent) return *std::move(if_absent);
  if (found == json.end()) return absent(field);
  if (found->is_string()) return found->get<std::string>();
  return wrong_field(field, *found, "a text");
}

Field<std::uint32_t> read_u32(const Json& json, const char* field,
                              std::optional<std::uint32_t> if_absent) {
  const auto found = json.find(field);
  if (found == json.end() && if_absent) return *if_absent;
  if (found == json.end()) return absent(field);
  if (is_u32(*found)) return found->get<std::uint32_t>();
  return wrong_field(field, *found, "a number from 0 to 4294967295");
}

}  // namespace larder::server
