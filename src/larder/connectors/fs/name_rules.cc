#include "larder/connectors/fs/name_rules.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <string_view>

#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/file_name.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
constexpr std::string_view kComposed = "\xC3\xA9";     // e with an acute accent,
constexpr std::string_view kDecomposed = "e\xCC\x81";  // and e followed by the accent.
/// Names that some file systems refuse: no UTF-8, a control character, characters special to
/// Windows.
constexpr std::string_view kOdd = "\xFF\x01 \"*:<>?\\|";

bool is_there(int directory_fd, const std::string& name) noexcept {
  struct stat status{};
  return ::fstatat(directory_fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

/// An empty file that is removed with this object. A process that is killed meanwhile leaves the
/// file; its temporary name lets the Sweeper remove it.
class ProbeFile {
 public:
  ProbeFile(int directory_fd, std::string name)
      : directory_fd_(directory_fd),
        name_(std::move(name)),
        fd_(::openat(directory_fd_, name_.c_str(),
                     O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)),
        errno_(fd_ ? 0 : errno) {}
  ~ProbeFile() {
    if (fd_) ::unlinkat(directory_fd_, name_.c_str(), 0);
  }
  ProbeFile(const ProbeFile&) = delete;
  ProbeFile& operator=(const ProbeFile&) = delete;

  bool is_made() const noexcept { return static_cast<bool>(fd_); }
  /// Whether the file system refuses a name of that length or with those characters; other errors
  /// (a full disk, no permission) say nothing about names.
  bool is_refused() const noexcept {
    return errno_ == ENAMETOOLONG || errno_ == EINVAL || errno_ == EILSEQ || errno_ == ENOENT;
  }
  /// Whether another name, under which no file was made, finds this one.
  Result<bool> is_found_as(const std::string& other) const {
    if (is_there(directory_fd_, other)) return true;
    if (errno == ENOENT) return false;
    return Error::from_errno(errno, kWhere, "looking for a name");
  }

 private:
  const int directory_fd_;
  const std::string name_;
  const UniqueFd fd_;
  const int errno_;
};

/// A temporary name with `middle` before its suffix.
std::string temporary_name_with(std::string_view middle, std::string name = temporary_name()) {
  return name.insert(name.rfind('.'), middle);
}

std::string with_other_case(std::string name) {
  std::ranges::transform(name, name.begin(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) return c;
    return static_cast<char>(std::islower(byte) != 0 ? std::toupper(byte) : std::tolower(byte));
  });
  return name;
}

/// For a directory in which no file can be made: judges by the existing names. Case counts if one
/// of them is not found in the other case. An empty directory proves nothing, and the answer must
/// be safe for later stores.
NameRules::Kind kind_by_what_is_there(int directory_fd) {
  constexpr int kNamesMax = 1000;
  const auto stream = open_folder_stream(directory_fd, ".");
  for (int i = 0; stream && i < kNamesMax; ++i) {
    const dirent* const entry = ::readdir(stream->get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    const std::string other = with_other_case(name);
    if (other == name || is_there(directory_fd, other) || errno != ENOENT) continue;
    // It may have been removed before it was looked for in the other case.
    if (is_there(directory_fd, name)) return NameRules::Kind::kPortable;
  }
  return NameRules::Kind::kNoCase;
}

Status probe_kind(int directory_fd, NameRules& rules) {
  using Kind = NameRules::Kind;
  const std::string plain_name = temporary_name();
  {
    const ProbeFile plain{directory_fd, plain_name};
    if (!plain.is_made()) {
      rules.kind = kind_by_what_is_there(directory_fd);
      rules.is_proved = false;
      return {};
    }
    LARDER_ASSIGN(const bool is_one, plain.is_found_as(with_other_case(plain_name)));
    rules.kind = is_one ? Kind::kNoCase : Kind::kPortable;
    if (is_one) return {};
  }
  std::string name = temporary_name_with(kComposed);
  const ProbeFile composed{directory_fd, name};
  rules.is_proved = composed.is_made() || composed.is_refused();
  if (!composed.is_made()) return {};
  name.replace(name.find(kComposed), kComposed.size(), kDecomposed);
  const auto is_one = composed.is_found_as(name);
  if (!is_one || *is_one) return {};
  const ProbeFile odd{directory_fd, temporary_name_with(kOdd)};
  rules.is_proved = odd.is_made() || odd.is_refused();
  if (odd.is_made()) rules.kind = Kind::kBytes;
  return {};
}

/// Whether the directory takes names of that many bytes and keeps all of them. If no file can be
/// made, a lookup has to do.
bool takes_names_of(int directory_fd, std::size_t bytes) {
  std::string name = temporary_name();
  // Of the same name: the next one may be longer.
  if (name.size() < bytes) {
    const std::string middle(bytes - name.size(), 'n');
    name = temporary_name_with(middle, std::move(name));
  }
  const ProbeFile file{directory_fd, name};
  // A cut name: two names that differ only at their ends are one.
  if (file.is_made()) return !is_there(directory_fd, name.substr(0, name.size() - 1));
  if (file.is_refused()) return false;
  return is_there(directory_fd, name) || errno != ENAMETOOLONG;
}

/// The length that the file system reports, unless it refuses such a name all the same.
std::size_t longest_name(int directory_fd) {
  const long told = ::fpathconf(directory_fd, _PC_NAME_MAX);
  std::size_t refused = told <= 0 ? kNameBytesMax : static_cast<std::size_t>(told);
  refused = std::min(refused, kNameBytesMax);
  if (takes_names_of(directory_fd, refused)) return refused;
  std::size_t taken = kNameBytesMin - 1;
  while (taken + 1 < refused) {
    const std::size_t middle = taken + (refused - taken) / 2;
    (takes_names_of(directory_fd, middle) ? taken : refused) = middle;
  }
  return taken;
}

}  // namespace

std::string name_of(NameRules::Kind kind) {
  switch (kind) {
    case NameRules::Kind::kBytes:
      return "bytes";
    case NameRules::Kind::kPortable:
      return "portable";
    case NameRules::Kind::kNoCase:
      return "no_case";
  }
  return "unknown";
}

Result<NameRules> probe_name_rules(int directory_fd) {
  NameRules rules;
  rules.bytes_max = longest_name(directory_fd);
  if (rules.bytes_max < kNameBytesMin) {
    return Error{ErrorCode::kInvalidArgument, kWhere, "names are limited to fewer than 71 bytes"};
  }
  LARDER_TRY(probe_kind(directory_fd, rules));
  return rules;
}

}  // namespace larder::fs
