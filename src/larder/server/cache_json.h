#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/server/admin_command.h"
#include "larder/server/http_message.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

// Requests to /cache/* and their answers, in the shapes of LMCache 0.5.6 and 0.5.7 (S28). All are
// pure; json_fields.h describes the errors.

/// LMCache's limits bound the rest.
inline constexpr std::size_t kDeletedKeysMax = 10'000;
inline constexpr std::size_t kPrefetchTokensMax = 1'000'000;

/// {"tier": "l1", "force": false}; every field and the body itself are optional. larder adds the
/// tier "all", and {"model_name": "m", "world_size": 1, "cache_salt": ""} to restrict it.
Result<ClearCommand, AdminError> read_clear(std::string_view body);
nlohmann::ordered_json clear_json(const ClearCommand& command, const AdminResult& result);

/// {"keys": [...], "tier": "l2", "force": false, "adapter": "log"}.
struct DeleteRequest {
  std::vector<ObjectKey> keys;
  bool is_in_l1 = false;
  bool is_in_l2 = false;
  bool force = false;
  std::optional<std::string> adapter;
};
Result<DeleteRequest, AdminError> read_delete(std::string_view body);
nlohmann::ordered_json delete_json(const AdminResult& result);

/// The query of GET /cache/objects.
struct ListRequest {
  std::optional<std::string> adapter;
  std::optional<std::string> model;
  std::size_t page_size = 500;
  std::optional<std::string> page_token;
};
Result<ListRequest, AdminError> read_list(const HttpRequest& request);
nlohmann::ordered_json list_json(std::string_view adapter, bool is_shared,
                                 const TierScans::Page& page, const std::string& next_page_token);

/// The position at which a listing of a tier continues, as a text for the client.
std::string page_token_of(std::size_t tier, const ScanCursor& cursor);
/// Nothing: it is not of this tier.
std::optional<ScanCursor> read_page_token(std::size_t tier, std::string_view token);

/// {"model_name": "m", "world_size": 1, "token_ids": [...], "cache_salt": "", "source_tier": "l2",
/// "target_tier": "l1"}.
struct PrefetchRequest {
  SpaceName space;
  std::vector<std::uint32_t> tokens;
};
Result<PrefetchRequest, AdminError> read_prefetch(std::string_view body);
nlohmann::ordered_json prefetch_json(const PrefetchCommand& command, const AdminResult& result);
nlohmann::ordered_json prefetch_json(const PrefetchQuery& query, const AdminResult& result);

}  // namespace larder::server
