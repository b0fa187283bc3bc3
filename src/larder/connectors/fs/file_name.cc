#include "larder/connectors/fs/file_name.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <span>

#include "larder/base/clock.h"
#include "larder/base/hash.h"
#include "larder/connectors/fs/sha256.h"

namespace larder::fs {
namespace {

constexpr std::string_view kSuffix = ".data";
constexpr std::string_view kKeySuffix = ".key";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::string_view kTemporaryPrefix = ".larder-";
constexpr std::string_view kSlash = "-SEP-";
constexpr std::string_view kEscapedPrefix = "k-";
constexpr std::string_view kNoCasePrefix = "i-";
constexpr std::string_view kHashedPrefix = "h-";
constexpr std::size_t kShaDigits = 64;
static_assert(kHashedPrefix.size() + kShaDigits + kSuffix.size() == kNameBytesMin);
static_assert(kEscapedPrefix.size() == kNoCasePrefix.size());
/// A legacy name with a salt has as many fields as a present one without: the chunk hash, which is
/// longer than any group's number, tells them apart.
constexpr std::size_t kGroupDigitsMax = 8;
constexpr std::string_view kHexDigits = "0123456789ABCDEF";

/// The fields between the '@', at most 5; `count` is 6 when there are more.
struct Fields {
  std::array<std::string_view, 5> text;
  std::size_t count = 0;
};

Fields split(std::string_view joined) {
  Fields fields;
  for (;;) {
    const std::size_t end = joined.find('@');
    if (fields.count == fields.text.size()) {
      ++fields.count;
      return fields;
    }
    fields.text.at(fields.count++) = joined.substr(0, end);
    if (end == std::string_view::npos) return fields;
    joined.remove_prefix(end + 1);
  }
}

std::string with_slashes_written(std::string_view model) {
  std::string written;
  for (const char c : model) {
    if (c == '/') {
      written += kSlash;
    } else {
      written += c;
    }
  }
  return written;
}

std::string with_slashes_read(std::string_view written) {
  std::string model;
  for (std::size_t at = 0; at < written.size();) {
    if (written.substr(at).starts_with(kSlash)) {
      model += '/';
      at += kSlash.size();
    } else {
      model += written[at++];
    }
  }
  return model;
}

bool may_stand_in_a_name(std::string_view field) {
  return field.find('/') == std::string_view::npos && field.find('\0') == std::string_view::npos;
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

bool is_portable(std::string_view name) {
  return std::ranges::all_of(name, [](char c) { return is_plain(c) || c == '@'; });
}

bool fits(std::string_view name, const NameRules& rules) {
  if (name.size() > rules.bytes_max || rules.kind == NameRules::Kind::kNoCase) return false;
  return rules.kind == NameRules::Kind::kBytes || is_portable(name);
}

/// The name that LMCache has for the key, when no other key has it and the directory takes it.
std::optional<std::string> lmcache_name_of(std::string_view key, const NameRules& rules) {
  const Fields fields = split(key);
  if (fields.count != 4 && fields.count != 5) return std::nullopt;
  const auto& [model, rank, group, hash, salt] = fields.text;
  if (group.size() > kGroupDigitsMax) return std::nullopt;
  if (fields.count == 5 && salt.empty()) return std::nullopt;  // LMCache drops an empty salt.
  for (const std::string_view field : {rank, group, hash, salt}) {
    if (!may_stand_in_a_name(field)) return std::nullopt;
  }
  const std::string written = with_slashes_written(model);
  if (written.find('\0') != std::string::npos || with_slashes_read(written) != model) {
    return std::nullopt;
  }
  std::string name = written + "@0x";
  name.append(rank).append("@").append(group).append("@").append(hash);
  if (fields.count == 5) name.append("@").append(salt);
  name += kSuffix;
  if (!fits(name, rules)) return std::nullopt;
  return name;
}

std::string escaped_name_of(std::string_view key, NameRules::Kind kind) {
  const bool has_case = kind != NameRules::Kind::kNoCase;
  std::string name{has_case ? kEscapedPrefix : kNoCasePrefix};
  for (const char c : key) {
    if (is_plain(c) && (has_case || c < 'A' || c > 'Z')) {
      name += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    name += '%';
    name += kHexDigits[byte >> 4U];
    name += kHexDigits[byte & 15U];
  }
  name += kSuffix;
  return name;
}

/// The inverse; any text that escaped_name_of() would not write exactly so is refused.
std::optional<std::string> unescaped(std::string_view text) {
  std::string key;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      key += text[at];
      continue;
    }
    if (at + 2 >= text.size()) return std::nullopt;
    const std::size_t high = kHexDigits.find(text[at + 1]);
    const std::size_t low = kHexDigits.find(text[at + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    key += static_cast<char>(high * 16 + low);
    at += 2;
  }
  return key;
}

bool is_lower_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_hashed(std::string_view name, std::string_view suffix) {
  return name.size() == kHashedPrefix.size() + kShaDigits + suffix.size() &&
         name.starts_with(kHashedPrefix) && name.ends_with(suffix) &&
         is_lower_hex(name.substr(kHashedPrefix.size(), kShaDigits));
}

std::uint64_t random_word() {
  std::uint64_t word = 0;
  if (::getrandom(&word, sizeof(word), 0) != static_cast<ssize_t>(sizeof(word))) {
    word = RealClock::instance().now_ns() * 0x9E3779B97F4A7C15U;
  }
  return word;
}

/// A key's present or legacy name; kForeign for all others. The key read from a name must give that
/// name back, so that no file is found under two keys.
EntryName parse_value_name(std::string_view name) {
  if (is_hashed(name, kSuffix)) return {EntryKind::kHashedValue, {}};
  const std::string_view stem = name.substr(0, name.size() - kSuffix.size());
  const Fields fields = split(stem);
  for (const auto kind : {NameRules::Kind::kBytes, NameRules::Kind::kNoCase}) {
    auto key = unescaped(stem.substr(std::min(stem.size(), kEscapedPrefix.size())));
    if (!key || key->empty() || escaped_name_of(*key, kind) != name) continue;
    return {EntryKind::kValue, std::move(*key)};
  }
  if (fields.count < 3 || fields.count > 5 || !fields.text[1].starts_with("0x")) return {};
  const bool is_legacy =
      fields.count == 3 || (fields.count == 4 && fields.text[2].size() > kGroupDigitsMax);
  std::string key = with_slashes_read(fields.text[0]);
  key.append("@").append(fields.text[1].substr(2));
  if (is_legacy) key += "@0";
  for (std::size_t i = 2; i < fields.count; ++i) key.append("@").append(fields.text.at(i));
  if (is_legacy) {
    if (legacy_file_name_of(key) != name) return {};
    return {EntryKind::kLegacyValue, std::move(key)};
  }
  if (lmcache_name_of(key, NameRules{}) != name) return {};
  return {EntryKind::kValue, std::move(key)};
}

}  // namespace

FileName file_name_of(std::string_view key, const NameRules& rules) {
  if (auto name = lmcache_name_of(key, rules)) return {NameKind::kLmcache, std::move(*name)};
  std::string name = escaped_name_of(key, rules.kind);
  if (name.size() <= rules.bytes_max) return {NameKind::kEscaped, std::move(name)};
  name = kHashedPrefix;
  name += sha256_hex(std::as_bytes(std::span{key}));
  name += kSuffix;
  return {NameKind::kHashed, std::move(name)};
}

std::optional<std::string> legacy_file_name_of(std::string_view key, const NameRules& rules) {
  const Fields fields = split(key);
  if (fields.count != 4 && fields.count != 5) return std::nullopt;
  const auto& [model, rank, group, hash, salt] = fields.text;
  if (group != "0" || (fields.count == 5 && hash.size() <= kGroupDigitsMax)) return std::nullopt;
  if (!lmcache_name_of(key, NameRules{})) return std::nullopt;
  std::string name = with_slashes_written(model) + "@0x";
  name.append(rank).append("@").append(hash);
  if (fields.count == 5) name.append("@").append(salt);
  name += kSuffix;
  if (!fits(name, rules)) return std::nullopt;
  return name;
}

bool is_found_under(const EntryName& entry, std::string_view name, const NameRules& rules) {
  if (entry.kind == EntryKind::kLegacyValue) return legacy_file_name_of(entry.key, rules) == name;
  return file_name_of(entry.key, rules).text == name;
}

EntryName parse_entry_name(std::string_view name) {
  if (name.ends_with(kTemporarySuffix)) {
    if (name.starts_with(kTemporaryPrefix)) return {EntryKind::kTemporary, {}};
    std::string value{name.substr(0, name.size() - kTemporarySuffix.size())};
    value += kSuffix;
    if (value.find('@') == std::string::npos) return {};
    return {parse_value_name(value).kind == EntryKind::kForeign ? EntryKind::kForeign
                                                                : EntryKind::kTemporary,
            {}};
  }
  if (is_hashed(name, kKeySuffix)) return {EntryKind::kKeyFile, {}};
  if (!name.ends_with(kSuffix) || name.size() > kNameBytesMax) return {};
  return parse_value_name(name);
}

std::string key_file_of(std::string_view hashed_name) {
  std::string name{hashed_name.substr(0, hashed_name.size() - kSuffix.size())};
  return name.append(kKeySuffix);
}

std::string hashed_name_of(std::string_view key_file) {
  std::string name{key_file.substr(0, key_file.size() - kKeySuffix.size())};
  return name.append(kSuffix);
}

std::string temporary_name() {
  // The process's own, and its number for children that inherit it; counted within a process.
  static const std::uint64_t salt = random_word();
  static std::atomic<std::uint64_t> number = 0;
  std::array<char, 80> text{};
  const int length =
      std::snprintf(text.data(), text.size(), "%s%016llx-%x-%llx%s", kTemporaryPrefix.data(),
                    static_cast<unsigned long long>(salt), static_cast<unsigned>(::getpid()),
                    static_cast<unsigned long long>(number.fetch_add(1, std::memory_order_relaxed)),
                    kTemporarySuffix.data());
  return {text.data(), static_cast<std::size_t>(length)};
}

std::string shard_of(std::string_view name) {
  constexpr std::size_t kDigits = 4;
  std::string digits;
  const Fields fields = split(name);
  if (fields.count == 4 || fields.count == 5) {
    digits = fields.text[3].substr(0, kDigits);
  }
  if (digits.size() != kDigits || !is_lower_hex(digits)) {
    constexpr std::string_view kLower = "0123456789abcdef";
    const std::uint64_t hash = hash64(std::as_bytes(std::span{name}));
    digits.clear();
    for (unsigned i = 0; i < kDigits; ++i) digits += kLower[(hash >> (4 * i)) & 15U];
  }
  return digits.substr(0, 2) + "/" + digits.substr(2);
}

}  // namespace larder::fs
