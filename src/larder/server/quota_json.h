#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "larder/cache/engine_options.h"
#include "larder/server/admin_command.h"

namespace larder::server {

/// The quota of one salt, in GiB as in LMCache's HTTP. A missing number is that of the salts
/// without a quota.
struct QuotaSetting {
  std::optional<double> limit_gb{};      ///< Of L1.
  std::optional<double> guarantee_gb{};  ///< Of L1.
  std::optional<double> l2_limit_gb{};   ///< For each tier.

  friend bool operator==(const QuotaSetting&, const QuotaSetting&) = default;
};

/// By salt; "" is for requests without one.
using QuotaSettings = std::map<std::string, QuotaSetting>;

// Quotas in JSON, in the shapes of LMCache 0.5.6 and 0.5.7 (S28), and in a file. All are pure; the
// errors are sentences that name the field, its value and the remedy, or LMCache's own.

/// The name of the salt "" in a path and in JSON, as in LMCache.
inline constexpr std::string_view kDefaultSalt = "_default";
/// Longer than any salt of a client (wire::limits).
inline constexpr std::size_t kSaltBytesMax = 1024;

std::string_view salt_name(std::string_view salt) noexcept;
/// The inverse of salt_name().
std::string_view salt_of_name(std::string_view name) noexcept;
/// The salt in the path of a request, as it came: `/quota/` and any bytes, percent-encoded where a
/// URL needs it. A text that is not an encoding is taken literally. A query is no part of it.
Result<std::string, AdminError> salt_of_target(std::string_view target);
/// Nothing: clients may have such a salt. Otherwise its error.
std::optional<std::string> salt_defect(std::string_view salt);

/// The body of a PUT.
Result<QuotaSetting, std::string> read_quota(std::string_view body);
/// One quota in a JSON document. Unknown fields are ignored, as in LMCache, unless they resemble a
/// known one.
Result<QuotaSetting, std::string> quota_setting(const nlohmann::ordered_json& json);
/// The error in the fields of a setting, an object, that a person has written. Nothing: all are
/// known.
std::optional<std::string> unknown_quota_field(const nlohmann::ordered_json& json);
/// Nothing: the setting can be had. Otherwise why not.
std::optional<std::string> quota_defect(const QuotaSetting& setting,
                                        const cache::Quota& default_quota);

cache::Quota quota_of(const QuotaSetting& setting, const cache::Quota& default_quota) noexcept;
std::uint64_t bytes_of_gb(double gb) noexcept;
double gb_of_bytes(std::uint64_t bytes) noexcept;
/// A limit; null: there is none.
nlohmann::ordered_json limit_json(std::uint64_t bytes);

/// The settings alone.
nlohmann::ordered_json setting_json(const QuotaSetting& setting);

}  // namespace larder::server
