#include "larder/server/object_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace larder::server {
namespace {

constexpr std::size_t kHashDigits = 64;
constexpr std::size_t kRankDigits = 8;

bool is_hex(std::string_view text) noexcept {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::optional<std::uint32_t> parse_hex(std::string_view text) noexcept {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc{} || end != text.data() + text.size() || !is_hex(text)) {
    return std::nullopt;
  }
  return value;
}

/// Takes the last part behind an '@' off.
std::optional<std::string_view> take_last(std::string_view& text) noexcept {
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view part = text.substr(at + 1);
  text = text.substr(0, at);
  return part;
}

/// Model, rank, group and hash. The model is first and may have an '@' itself.
std::optional<ObjectKey> parse_without_salt(std::string_view text) {
  const auto hash = take_last(text);
  const auto group = hash ? take_last(text) : std::nullopt;
  const auto rank = group ? take_last(text) : std::nullopt;
  if (!rank || text.empty() || hash->size() != kHashDigits || !is_hex(*hash) ||
      rank->size() != kRankDigits || (group->size() > 1 && group->front() == '0')) {
    return std::nullopt;
  }
  const auto rank_number = parse_hex(*rank);
  const auto group_number = parse_hex(*group);
  if (!rank_number || !group_number) return std::nullopt;
  return ObjectKey{.chunk_hash_hex = std::string{*hash},
                   .model = std::string{text},
                   .kv_rank = *rank_number,
                   .group = *group_number,
                   .salt = {}};
}

}  // namespace

std::string ObjectKey::name() const {
  std::string text = fmt::format("{}@{:08x}@{:x}@{}", model, kv_rank, group, chunk_hash_hex);
  if (!salt.empty()) text += "@" + salt;
  return text;
}

std::optional<ObjectKey::Place> ObjectKey::place() const noexcept {
  const Place place{.world_size = kv_rank >> 24U, .rank = kv_rank >> 16U & 0xFFU};
  const bool is_on_one_level = (kv_rank & 0xFFFFU) == kv_rank >> 16U;
  if (!is_on_one_level || place.rank >= place.world_size) return std::nullopt;
  return place;
}

std::optional<cache::ChunkHash> ObjectKey::chunk() const noexcept {
  if (chunk_hash_hex.size() != kHashDigits) return std::nullopt;
  cache::ChunkHash chunk;
  for (std::size_t i = 0; i < chunk.bytes.size(); ++i) {
    const auto byte = parse_hex(std::string_view{chunk_hash_hex}.substr(2 * i, 2));
    if (!byte) return std::nullopt;
    chunk.bytes[i] = static_cast<std::byte>(*byte);
  }
  return chunk;
}

std::optional<ObjectKey> parse_object_name(std::string_view name) {
  if (auto key = parse_without_salt(name)) return key;
  const auto salt = take_last(name);
  if (!salt || salt->empty()) return std::nullopt;
  auto key = parse_without_salt(name);
  if (key) key->salt = *salt;
  return key;
}

bool ObjectFilter::takes(const ObjectKey& key) const noexcept {
  if (model && *model != key.model) return false;
  if (world_size && (*world_size != key.kv_rank >> 24U)) return false;
  return !salt || *salt == key.salt;
}

}  // namespace larder::server
