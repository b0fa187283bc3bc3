#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "larder/base/result.h"

namespace larder::fs {

/// The longest name that larder makes, on whatever file system.
inline constexpr std::size_t kNameBytesMax = 255;
/// The shortest limit that larder can do with: that of `h-<SHA-256>.data`.
inline constexpr std::size_t kNameBytesMin = 71;

/// The rules by which a directory tells names apart. LMCache's names, and most of larder's, rely on
/// two names being one only when their bytes are. Where that is not so, another key's file would be
/// found.
struct NameRules {
  enum class Kind : std::uint8_t {
    /// Names are bytes: ext4, xfs, NFS, Lustre, ...
    kBytes = 0,
    /// Names are text: characters other than letters, digits and "@._-" may be refused, or be equal
    /// to other bytes (accents composed or not). ZFS with normalization or utf8only, ...
    kPortable,
    /// Capital letters are one with small ones: SMB, exFAT, ext4 and f2fs with casefold, ...
    kNoCase,
  };
  Kind kind = Kind::kBytes;
  std::size_t bytes_max = kNameBytesMax;
  /// False: no file could be made to find out (no rights, a full disk), and `kind` is the strictest
  /// one that the names in the directory do not rule out.
  bool is_proved = true;

  bool operator==(const NameRules&) const = default;
};

std::string name_of(NameRules::Kind kind);

/// Finds out by making empty files with temporary names, which it removes at once. If none can be
/// made, judges by the existing names. Blocks for as long as the file system does. kInvalidArgument
/// where names are limited to fewer than kNameBytesMin bytes.
Result<NameRules> probe_name_rules(int directory_fd);

}  // namespace larder::fs
