#include "larder/connectors/fs/scans.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace larder::fs {
namespace {

/// The key beside a hashed value; empty when it is missing or another value's. An error only where
/// the same call may succeed later.
Result<std::optional<std::string>> key_beside(int folder_fd, const char* name,
                                              const NameRules& rules) {
  const UniqueFd fd{::openat(folder_fd, key_file_of(name).c_str(),
                             O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd) {
    const Error error = Error::from_errno(errno, "fs", "opening the key of a value");
    if (error.is_retryable()) return error;
    return std::optional<std::string>{};
  }
  std::string key(kKeyBytesMax + 1, '\0');
  // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): one listing at a time reads.
  const ssize_t bytes = ::read(fd.get(), key.data(), key.size());
  if (bytes <= 0) return std::optional<std::string>{};
  key.resize(static_cast<std::size_t>(bytes));
  if (file_name_of(key, rules).text != name) return std::optional<std::string>{};
  return std::optional{std::move(key)};
}

}  // namespace

Result<Scans::Scan*> Scans::find(const ScanCursor& from) {
  if (from.words[0] == 0) {
    LARDER_ASSIGN(NameWalk walk,
                  NameWalk::begin(store_->base().get(), store_->options().has_shards));
    Scan& scan = *std::ranges::min_element(scans_, {}, &Scan::used_at);
    scan = {++last_id_, 0, ++clock_, std::move(walk), {}};
    return &scan;
  }
  const auto scan = std::ranges::find(scans_, from.words[0], &Scan::id);
  if (scan == scans_.end() || scan->page != from.words[1]) {
    return Error{ErrorCode::kInvalidArgument, "fs",
                 "the scan was given up, or this page was read before: begin a new one"};
  }
  scan->used_at = ++clock_;
  return &*scan;
}

Result<std::optional<ScanPage::Entry>> Scans::entry_of(const NameWalk::Name& name,
                                                       const NameRules& rules) {
  EntryName parsed = parse_entry_name(name.text);
  if (parsed.kind == EntryKind::kHashedValue) {
    LARDER_ASSIGN(auto key, key_beside(name.folder_fd, name.text, rules));
    if (!key) return std::optional<ScanPage::Entry>{};
    parsed.key = std::move(*key);
  } else if (parsed.kind != EntryKind::kValue && parsed.kind != EntryKind::kLegacyValue) {
    return std::optional<ScanPage::Entry>{};
  } else if (!is_found_under(parsed, name.text, rules)) {
    return std::optional<ScanPage::Entry>{};  // Written by another client, which sees names
                                              // differently.
  }
  LARDER_ASSIGN(const auto bytes, FileStore::size_of(name.folder_fd, name.text));
  if (!bytes) return std::optional<ScanPage::Entry>{};
  return std::optional{ScanPage::Entry{std::move(parsed.key), *bytes}};
}

/// The scan's name stays empty at the end.
Result<std::optional<ScanPage::Entry>> Scans::next_entry(Scan& scan) {
  if (scan.name.text == nullptr) {
    LARDER_ASSIGN(scan.name, scan.walk->next());
  }
  if (scan.name.text == nullptr) return std::optional<ScanPage::Entry>{};
  return entry_of(scan.name, scan.walk->rules());
}

Result<ScanPage> Scans::next(ScanCursor from, std::size_t keys_max) {
  const MutexLock lock{mutex_};
  LARDER_ASSIGN(Scan* const scan, find(from));
  ScanPage page;
  while (page.entries.size() < keys_max) {
    auto entry = next_entry(*scan);
    if (!entry) {
      // Names read so far are not lost; the same cursor continues where this call failed.
      if (page.entries.empty()) return entry.error();
      break;
    }
    if (scan->name.text == nullptr) {
      page.done = true;
      *scan = {};
      return page;
    }
    scan->name = {};
    if (*entry) page.entries.push_back(std::move(**entry));
  }
  page.next.words[0] = scan->id;
  page.next.words[1] = ++scan->page;
  return page;
}

}  // namespace larder::fs
