#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "larder/connectors/fs/name_rules.h"

namespace larder::fs {

/// The form in which a key became a file's name. No two keys have one name, and the name alone
/// tells its kind.
enum class NameKind : std::uint8_t {
  /// `model@0x<rank>@<group>@<hash>[@<salt>].data`, with '/' in the model written as `-SEP-`:
  /// LMCache's name for the key `model@<rank>@<group>@<hash>[@<salt>]`.
  kLmcache = 1,
  /// `k-<key>.data` with every byte but letters, digits, '.', '_' and '-' as %XX: a key that
  /// LMCache would refuse, cut short, or keep under another key's name. Where case is ignored every
  /// key is `i-<key>.data`, with capital letters as %XX too, because otherwise a file of LMCache
  /// could be found under another key's name.
  kEscaped,
  /// `h-<SHA-256 of the key>.data`: a key whose name would be too long. The key is in `h-<...>.key`
  /// beside it.
  kHashed,
};

struct FileName {
  NameKind kind = NameKind::kLmcache;
  std::string text;  ///< A plain file name.
};

/// The one name under which the value of `key` is written in a directory with these rules. Any
/// bytes make a key.
///
/// Two keys never share a name, even if each name was made under other rules (clients may see one
/// directory differently): a `k-` or `h-` name is the same key's under all rules, `i-` names are
/// made only where case does not count, and no other kind of name begins with `i-` and has no '@'.
FileName file_name_of(std::string_view key, const NameRules& rules = {});

/// The name that releases of LMCache before object groups gave the file of a key of group 0, if
/// they had one: `model@0x<rank>@<hash>[@<salt>].data`. Such a file is read, and never written. It
/// is no key's present name.
std::optional<std::string> legacy_file_name_of(std::string_view key, const NameRules& rules = {});

/// The kind of a name in the directory, under whichever rules it was made.
enum class EntryKind : std::uint8_t {
  kForeign = 0,  ///< Not a name that larder knows: left alone.
  kValue,        ///< A value; `key` is its key.
  kLegacyValue,  ///< The same, under its legacy name.
  kHashedValue,  ///< A value whose key is in key_file_of().
  kKeyFile,      ///< The key of a kHashedValue.
  kTemporary,    ///< A store that has not ended: larder's, or LMCache's `.tmp` of a value.
};
struct EntryName {
  EntryKind kind = EntryKind::kForeign;
  std::string key;
};
EntryName parse_entry_name(std::string_view name);
/// Whether a key that was read from a name is looked for under it in a directory with these rules.
bool is_found_under(const EntryName& entry, std::string_view name, const NameRules& rules);

/// `h-<...>.data` -> `h-<...>.key`, and back.
std::string key_file_of(std::string_view hashed_name);
std::string hashed_name_of(std::string_view key_file);

/// A name that no process, thread or machine uses at the same time; EntryKind::kTemporary.
std::string temporary_name();

/// The folder of a name in LMCache's sharded layout: "ab/cd", the first four digits of its chunk
/// hash; of other names four digits of their own hash.
std::string shard_of(std::string_view name);

}  // namespace larder::fs
