#include "larder/server/quota_json.h"

#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/server/json_fields.h"
#include "larder/server/json_watch.h"
#include "larder/wire/fields.h"

namespace larder::server {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
/// 8 EiB: the most that 63 bits of bytes hold.
constexpr double kGbMax = 8.0 * 1024 * 1024 * 1024;
constexpr const char* kNoBody = "body must be {'limit_gb': <float>}";

struct QuotaField {
  const char* name;
  std::optional<double> QuotaSetting::* member;
};
constexpr std::array kFields{QuotaField{"limit_gb", &QuotaSetting::limit_gb},
                             QuotaField{"guarantee_gb", &QuotaSetting::guarantee_gb},
                             QuotaField{"l2_limit_gb", &QuotaSetting::l2_limit_gb}};
constexpr std::array<std::string_view, 3> kFieldNames{"limit_gb", "guarantee_gb", "l2_limit_gb"};

std::string number_text(double value) {
  return Json(value).dump();
}

Result<double, std::string> read_gb(const char* field, const Json& value) {
  const std::string name{field};
  if (!value.is_number()) return name + " must be numeric";
  const auto gb = value.get<double>();
  if (!std::isfinite(gb)) return name + " must be finite";
  if (gb < 0) return name + " must be non-negative";
  if (gb > kGbMax) {
    return name + " is " + number_text(gb) + "; at most " + number_text(kGbMax) +
           " (8 EiB) are possible, which is as good as no limit";
  }
  return gb;
}

/// Python's JSON has NaN and Infinity, which others do not.
bool has_no_number(std::string_view body) noexcept {
  return body.find("NaN") != std::string_view::npos ||
         body.find("Infinity") != std::string_view::npos;
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_digit(text[i + 2]);
    if (low < 0) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

// ---- Salts.

std::string_view salt_name(std::string_view salt) noexcept {
  return salt.empty() ? kDefaultSalt : salt;
}

std::string_view salt_of_name(std::string_view name) noexcept {
  return name == kDefaultSalt ? std::string_view{} : name;
}

std::optional<std::string> salt_defect(std::string_view salt) {
  if (salt.size() > kSaltBytesMax) {
    return "the salt has " + std::to_string(salt.size()) + " bytes; at most " +
           std::to_string(kSaltBytesMax) + " are possible";
  }
  if (!wire::utf8_characters(salt)) {
    return "the salt '" + printable(salt) +
           "' is no UTF-8; a client's cache_salt is text, so encode its UTF-8 bytes";
  }
  return std::nullopt;
}

Result<std::string, AdminError> salt_of_target(std::string_view target) {
  const auto wrong = [](std::string text) {
    return AdminError{.kind = AdminError::Kind::kInvalid, .text = std::move(text)};
  };
  constexpr std::string_view kPrefix = "/quota/";
  target = target.substr(0, target.find_first_of("?#"));
  if (!target.starts_with(kPrefix) || target.size() == kPrefix.size()) {
    return wrong(
        "the path names no salt; it is /quota/SALT, and /quota/_default for requests without one");
  }
  const std::string name = percent_decoded(target.substr(kPrefix.size()));
  if (auto defect = salt_defect(name)) return wrong(*std::move(defect));
  return std::string{salt_of_name(name)};
}

// ---- Quotas.

Result<QuotaSetting, std::string> quota_setting(const Json& json) {
  if (!json.is_object()) return std::string{kNoBody};
  QuotaSetting setting;
  bool has_any = false;
  for (const QuotaField& field : kFields) {
    const auto found = json.find(field.name);
    if (found == json.end()) continue;
    LARDER_ASSIGN(setting.*field.member, read_gb(field.name, *found));
    has_any = true;
  }
  if (const auto misspelled = misspelled_field(json, kFieldNames)) return *misspelled;
  if (!has_any) return std::string{kNoBody};
  return setting;
}

std::optional<std::string> unknown_quota_field(const Json& json) {
  const auto known = check_fields(json, kFieldNames);
  if (known) return std::nullopt;
  return known.error().text;
}

Result<QuotaSetting, std::string> read_quota(std::string_view body) {
  try {
    JsonWatch watch;
    const Json json = Json::parse(body, std::ref(watch));
    if (watch.is_too_deep()) return std::string{kNoBody};
    return quota_setting(json);
  } catch (const Json::out_of_range&) {  // A number beyond a double.
    return std::string{"limit_gb must be finite"};
  } catch (const Json::exception&) {
    return std::string{has_no_number(body) ? "limit_gb must be finite" : "invalid JSON body"};
  }
}

std::optional<std::string> quota_defect(const QuotaSetting& setting,
                                        const cache::Quota& default_quota) {
  const cache::Quota quota = quota_of(setting, default_quota);
  if (quota.guarantee_bytes <= quota.limit_bytes) return std::nullopt;
  const bool has_limit = setting.limit_gb.has_value();
  return "guarantee_gb is " + number_text(*setting.guarantee_gb) + " and " +
         (has_limit ? "limit_gb is " : "the limit of --quota-default-gb is ") +
         number_text(gb_of_bytes(quota.limit_bytes)) +
         ": a salt cannot be guaranteed more than it may have; lower guarantee_gb, or raise "
         "limit_gb";
}

std::uint64_t bytes_of_gb(double gb) noexcept {
  return static_cast<std::uint64_t>(gb * kGiB);
}

double gb_of_bytes(std::uint64_t bytes) noexcept {
  return static_cast<double>(bytes) / kGiB;
}

cache::Quota quota_of(const QuotaSetting& setting, const cache::Quota& default_quota) noexcept {
  cache::Quota quota = default_quota;
  if (setting.limit_gb) quota.limit_bytes = bytes_of_gb(*setting.limit_gb);
  if (setting.guarantee_gb) quota.guarantee_bytes = bytes_of_gb(*setting.guarantee_gb);
  if (setting.l2_limit_gb) quota.tier_limit_bytes = bytes_of_gb(*setting.l2_limit_gb);
  return quota;
}

Json limit_json(std::uint64_t bytes) {
  return bytes == kNever ? Json(nullptr) : Json(gb_of_bytes(bytes));
}

Json setting_json(const QuotaSetting& setting) {
  Json json = Json::object();
  for (const QuotaField& field : kFields) {
    if (const auto& value = setting.*field.member) json[field.name] = *value;
  }
  return json;
}

}  // namespace larder::server
