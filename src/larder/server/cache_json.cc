#include "larder/server/cache_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/server/json_fields.h"

namespace larder::server {
namespace {

constexpr std::size_t kPageSizeMax = 5000;
constexpr std::size_t kSaltCharactersMax = 128;  // LMCache's.

constexpr std::array<std::string_view, 5> kClearFields{"tier", "force", "model_name", "world_size",
                                                       "cache_salt"};
constexpr std::array<std::string_view, 4> kDeleteFields{"keys", "tier", "adapter", "force"};

enum class TierName : std::uint8_t { kL1 = 0, kL2, kAll };
constexpr std::array<std::string_view, 3> kTierNames{"l1", "l2", "all"};

std::string in_quotes(std::string_view text) {
  return "'" + printable(text.substr(0, 64)) + "'";
}

Field<TierName> read_tier(std::string_view field, std::string_view text) {
  const auto* const found = std::ranges::find(kTierNames, text);
  if (found != kTierNames.end()) return static_cast<TierName>(found - kTierNames.begin());
  return malformed(std::string{field} + ": " + in_quotes(text) +
                   " is not a tier; one of l1, l2, all");
}

Field<TierName> read_tier(const Json& json, const char* field, std::string if_absent) {
  LARDER_ASSIGN(const std::string text, read_text(json, field, std::move(if_absent)));
  return read_tier(field, text);
}

/// Characters that LMCache forbids in keys, with its messages.
Result<void, AdminError> check_names(std::string_view model, std::string_view salt) {
  if (model.find('@') != std::string_view::npos) {
    return invalid_field("model_name must not contain '@' (got " + in_quotes(model) + ")");
  }
  const std::size_t bad = salt.find_first_of(std::string_view{"@/\\\0", 4});
  if (bad != std::string_view::npos) {
    return invalid_field("cache_salt must not contain {" + in_quotes(salt.substr(bad, 1)) +
                         "} (got " + in_quotes(salt) + ")");
  }
  const auto is_start = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  const auto characters = static_cast<std::size_t>(std::ranges::count_if(salt, is_start));
  if (characters > kSaltCharactersMax) {
    return invalid_field("cache_salt exceeds max length 128 (got " + std::to_string(characters) +
                         ")");
  }
  if (model.size() + salt.size() > kKeyBytesMax - 128) {
    return invalid_field("model_name and cache_salt are too long together");
  }
  return {};
}

Field<SpaceName> read_space(const Json& json) {
  SpaceName space;
  LARDER_ASSIGN(space.model, read_text(json, "model_name"));
  LARDER_ASSIGN(space.world_size, read_u32(json, "world_size"));
  LARDER_ASSIGN(space.salt, read_text(json, "cache_salt", ""));
  LARDER_TRY(check_names(space.model, space.salt));
  return space;
}

Field<std::string> read_hash(const Json& json) {
  LARDER_ASSIGN(std::string text, read_text(json, "chunk_hash_hex"));
  for (char& c : text) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  const std::size_t bad = text.find_first_not_of("0123456789abcdef");
  if (bad != std::string::npos || text.size() % 2 != 0) {  // Python's sentence.
    return invalid_field("non-hexadecimal number found in fromhex() arg at position " +
                         std::to_string(bad == std::string::npos ? text.size() : bad));
  }
  if (text.size() > 128) return invalid_field("chunk_hash_hex has more than 64 bytes");
  return text;
}

Field<ObjectKey> read_key(const Json& json) {
  if (!json.is_object()) return malformed("not a JSON object");
  ObjectKey key;
  LARDER_ASSIGN(key.chunk_hash_hex, read_hash(json));
  LARDER_ASSIGN(key.model, read_text(json, "model_name"));
  LARDER_ASSIGN(key.kv_rank, read_u32(json, "kv_rank"));
  LARDER_ASSIGN(key.group, read_u32(json, "object_group_id", 0));
  LARDER_ASSIGN(key.salt, read_text(json, "cache_salt", ""));
  LARDER_TRY(check_names(key.model, key.salt));
  return key;
}

Json key_json(const ObjectKey& key) {
  return {{"chunk_hash_hex", key.chunk_hash_hex},
          {"model_name", key.model},
          {"kv_rank", key.kv_rank},
          {"object_group_id", key.group},
          {"cache_salt", key.salt}};
}

AdminError unsupported_tier(TierName tier, const char* only) {  // LMCache's sentence.
  return invalid_field("tier '" + std::string{kTierNames[static_cast<std::size_t>(tier)]} +
                       "' not supported; only " + only);
}

}  // namespace

// ---- Clear.

Result<ClearCommand, AdminError> read_clear(std::string_view body) {
  LARDER_ASSIGN(const Json json, read_object(body));
  LARDER_TRY(check_fields(json, kClearFields));
  LARDER_ASSIGN(const TierName tier, read_tier(json, "tier", "l1"));
  if (tier == TierName::kL2) return unsupported_tier(tier, "'l1' and 'all'");
  ClearCommand command{.has_all_tiers = tier == TierName::kAll};
  LARDER_ASSIGN(command.force, read_bool(json, "force"));
  // A clear of one tenant must never become one of all by a field that was forgotten.
  if (json.contains("model_name") || json.contains("world_size") || json.contains("cache_salt")) {
    LARDER_ASSIGN(command.space, read_space(json));
  }
  return command;
}

Json clear_json(const ClearCommand& command, const AdminResult& result) {
  if (!command.has_all_tiers && !command.space) {
    return {{"status", "ok"}, {"cleared", {{"tier", "l1"}}}};
  }
  Json cleared = {{"tier", command.has_all_tiers ? "all" : "l1"}};
  if (command.space) {
    cleared["model_name"] = command.space->model;
    cleared["world_size"] = command.space->world_size;
    cleared["cache_salt"] = command.space->salt;
  }
  return {{"status", "ok"}, {"cleared", std::move(cleared)}, {"deleted", result.deleted}};
}

// ---- Delete.

Result<DeleteRequest, AdminError> read_delete(std::string_view body) {
  LARDER_ASSIGN(const Json json, read_object(body));
  LARDER_TRY(check_fields(json, kDeleteFields));
  DeleteRequest request;
  LARDER_ASSIGN(const TierName tier, read_tier(json, "tier", "l2"));
  request.is_in_l1 = tier != TierName::kL2;
  request.is_in_l2 = tier != TierName::kL1;
  LARDER_ASSIGN(request.force, read_bool(json, "force"));
  if (const auto adapter = json.find("adapter"); adapter != json.end() && !adapter->is_null()) {
    LARDER_ASSIGN(request.adapter, read_text(json, "adapter"));
  }
  const auto keys = json.find("keys");
  if (keys == json.end()) return malformed("keys is missing");
  if (!keys->is_array()) return wrong_field("keys", *keys, "a list of objects");
  if (keys->size() > kDeletedKeysMax) {  // LMCache's sentence.
    return invalid_field(
        "too many keys in a single request (limit=" + std::to_string(kDeletedKeysMax) +
        ", got=" + std::to_string(keys->size()) + ")");
  }
  for (const Json& each : *keys) {
    auto key = read_key(each);
    if (!key) {
      AdminError error = key.error();
      error.text = "keys[" + std::to_string(request.keys.size()) + "]: " + error.text;
      return error;
    }
    request.keys.push_back(*std::move(key));
  }
  return request;
}

Json delete_json(const AdminResult& result) {
  Json json = {
      {"deleted", result.deleted}, {"skipped", result.skipped}, {"ok", result.trouble.empty()}};
  if (!result.trouble.empty()) json["error"] = result.trouble;
  return json;
}

// ---- Listing.

Result<ListRequest, AdminError> read_list(const HttpRequest& request) {
  LARDER_ASSIGN(const TierName tier, read_tier("tier", request.parameter("tier").value_or("l2")));
  if (tier != TierName::kL2) return unsupported_tier(tier, "'l2'");
  ListRequest list{.adapter = request.parameter("adapter"),
                   .model = request.parameter("model_name"),
                   .page_token = request.parameter("page_token")};
  if (const auto size = request.parameter("page_size")) {
    const auto [end, error] =
        std::from_chars(size->data(), size->data() + size->size(), list.page_size);
    if (error != std::errc{} || end != size->data() + size->size() || list.page_size == 0 ||
        list.page_size > kPageSizeMax) {
      return malformed("page_size: " + in_quotes(*size) + " is not a number from 1 to 5000");
    }
  }
  return list;
}

Json list_json(std::string_view adapter, bool is_shared, const TierScans::Page& page,
               const std::string& next_page_token) {
  Json entries = Json::array();
  for (const TierScans::Page::Entry& entry : page.entries) {
    entries.push_back({{"key", key_json(entry.key)}, {"size_bytes", entry.value_bytes}});
  }
  return {{"adapter", adapter},
          {"shared", is_shared},
          {"entries", std::move(entries)},
          {"next_page_token", next_page_token.empty() ? Json(nullptr) : Json(next_page_token)}};
}

std::string page_token_of(std::size_t tier, const ScanCursor& cursor) {
  return fmt::format("{:x}.{:x}.{:x}", tier, cursor.words[0], cursor.words[1]);
}

std::optional<ScanCursor> read_page_token(std::size_t tier, std::string_view token) {
  std::array<std::uint64_t, 3> parts{};
  const char* at = token.data();
  const char* const end = token.data() + token.size();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0 && (at == end || *at++ != '.')) return std::nullopt;
    const auto read = std::from_chars(at, end, parts[i], 16);
    if (read.ec != std::errc{}) return std::nullopt;
    at = read.ptr;
  }
  if (at != end || parts[0] != tier) return std::nullopt;
  return ScanCursor{{parts[1], parts[2]}};
}

// ---- Prefetches.

Result<PrefetchRequest, AdminError> read_prefetch(std::string_view body) {
  LARDER_ASSIGN(const Json json, read_object(body));
  LARDER_ASSIGN(const TierName source, read_tier(json, "source_tier", "l2"));
  LARDER_ASSIGN(const TierName target, read_tier(json, "target_tier", "l1"));
  if (source != TierName::kL2 || target != TierName::kL1) {  // LMCache's sentence.
    const auto name = [](TierName tier) {
      return std::string{kTierNames[static_cast<std::size_t>(tier)]};
    };
    return invalid_field("unsupported prefetch direction '" + name(source) + "'->'" + name(target) +
                         "'; only 'l2'->'l1'");
  }
  PrefetchRequest request;
  LARDER_ASSIGN(request.space, read_space(json));
  const auto tokens = json.find("token_ids");
  if (tokens == json.end()) return malformed("token_ids is missing");
  if (!tokens->is_array()) return wrong_field("token_ids", *tokens, "a list of tokens");
  if (tokens->size() > kPrefetchTokensMax) {  // LMCache's sentence.
    return invalid_field(
        "too many token_ids in a single request (limit=" + std::to_string(kPrefetchTokensMax) +
        ", got=" + std::to_string(tokens->size()) + ")");
  }
  request.tokens.reserve(tokens->size());
  for (const Json& token : *tokens) {
    if (!is_u32(token)) return wrong_field("token_ids", token, "a token's number");
    request.tokens.push_back(token.get<std::uint32_t>());
  }
  return request;
}

Json prefetch_json(const PrefetchCommand& command, const AdminResult& result) {
  if (command.chunks.empty()) return {{"chunks", 0}, {"status", "noop"}};
  return {
      {"request_id", result.prefetch}, {"chunks", command.chunks.size()}, {"status", "submitted"}};
}

Json prefetch_json(const PrefetchQuery& query, const AdminResult& result) {
  if (!result.found) return {{"request_id", query.id}, {"status", "pending"}};
  return {{"request_id", query.id},
          {"status", "completed"},
          {"found_keys", *result.found},
          {"total_keys", result.asked}};
}

}  // namespace larder::server
