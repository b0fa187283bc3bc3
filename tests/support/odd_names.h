#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace larder::testing {

/// How a FaultyDirectory takes names: by default as ext4 does, otherwise as some file systems do.
struct OddNames {
  std::size_t bytes_max = 255;        ///< 143: eCryptfs.
  bool tells_bytes_max = true;        ///< By statfs(); else that says 255.
  bool tells_when_looked_for = true;  ///< ENAMETOOLONG; else only when a file is made.
  bool cuts_names = false;            ///< Longer names lose their ends, without an error.
  bool ignores_case = false;          ///< And keeps it: exFAT, SMB, casefold.
  bool composes = false;              ///< e and a combining acute accent are e-acute: ZFS, HFS+.
  bool refuses_unportable = false;    ///< EINVAL for all but letters, digits and ._-@%

  /// Whether all names are what their bytes are.
  bool are_plain() const noexcept { return !ignores_case && !composes; }
  /// 0, or the errno that a call with this name gets.
  int check(const std::string& name) const noexcept;
  /// Of the names that are there the one that means the same; `name` when there is none.
  std::string same_as(const std::string& name, std::span<const std::string> there) const;

 private:
  std::string folded(std::string name) const;
};

}  // namespace larder::testing
