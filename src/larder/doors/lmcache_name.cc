#include "larder/doors/lmcache_name.h"

#include <algorithm>
#include <array>

#include "larder/wire/fields.h"

namespace larder::doors {
namespace {

constexpr std::size_t kFieldsMax = 5;
constexpr std::size_t kSaltCharactersMax = 128;
constexpr std::size_t kRankDigits = 8;     // At least; more where the number needs them.
constexpr std::size_t kNumberDigits = 16;  // At most.

bool is_hex(std::string_view text) noexcept {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_rank(std::string_view text) noexcept {
  if (text.size() < kRankDigits || text.size() > kNumberDigits || !is_hex(text)) return false;
  return text.size() == kRankDigits || text[0] != '0';
}

bool is_group(std::string_view text) noexcept {
  if (text.empty() || text.size() > kNumberDigits || !is_hex(text)) return false;
  return text.size() == 1 || text[0] != '0';
}

bool is_salt(std::string_view text) noexcept {
  if (text.find_first_of(std::string_view{"/\\\0", 3}) != std::string_view::npos) return false;
  const auto characters = wire::utf8_characters(text);
  return characters && *characters > 0 && *characters <= kSaltCharactersMax;
}

}  // namespace

std::optional<LmcacheName> split_lmcache_name(std::string_view name) noexcept {
  std::array<std::string_view, kFieldsMax> fields;
  std::size_t count = 0;
  std::size_t begin = 0;
  for (;;) {
    if (count == kFieldsMax) return std::nullopt;
    const std::size_t end = std::min(name.find('@', begin), name.size());
    fields[count++] = name.substr(begin, end - begin);
    if (end == name.size()) break;
    begin = end + 1;
  }
  const auto& [model, rank, group, hash, salt] = fields;
  if (count < kFieldsMax - 1 || !is_rank(rank) || !is_group(group)) return std::nullopt;
  if (hash.size() % 2 != 0 || !is_hex(hash)) return std::nullopt;
  if (count == kFieldsMax && !is_salt(salt)) return std::nullopt;
  if (!wire::utf8_characters(model)) return std::nullopt;
  const std::size_t head = model.size() + rank.size() + group.size() + 3;
  return LmcacheName{name.substr(0, head), hash, name.substr(head + hash.size())};
}

}  // namespace larder::doors
