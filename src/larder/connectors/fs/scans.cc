#include "larder/connectors/fs/scans.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

namespace larder::fs {
namespace {

/// The key that stands beside a hashed value; nothing when it is not there or is another one's.
std::optional<std::string> key_beside(int folder_fd, const char* name, const NameRules& rules) {
  const UniqueFd fd{::openat(folder_fd, key_file_of(name).c_str(),
                             O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd) return std::nullopt;
  std::string key(kKeyBytesMax + 1, '\0');
  // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): one listing at a time reads.
  const ssize_t bytes = ::read(fd.get(), key.data(), key.size());
  if (bytes <= 0) return std::nullopt;
  key.resize(static_cast<std::size_t>(bytes));
  if (file_name_of(key, rules).text != name) return std::nullopt;
  return key;
}

}  // namespace

Result<Scans::Scan*> Scans::find(const ScanCursor& from) {
  if (from.words[0] == 0) {
    LARDER_ASSIGN(NameWalk walk,
                  NameWalk::begin(store_->base().get(), store_->options().has_shards));
    Scan& scan = *std::ranges::min_element(scans_, {}, &Scan::used_at);
    scan = {++last_id_, 0, ++clock_, std::move(walk)};
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
    auto key = key_beside(name.folder_fd, name.text, rules);
    if (!key) return std::optional<ScanPage::Entry>{};
    parsed.key = std::move(*key);
  } else if (parsed.kind != EntryKind::kValue && parsed.kind != EntryKind::kLegacyValue) {
    return std::optional<ScanPage::Entry>{};
  } else if (!is_found_under(parsed, name.text, rules)) {
    return std::optional<ScanPage::Entry>{};  // Another client's, who sees names differently.
  }
  const auto bytes = FileStore::size_of(name.folder_fd, name.text);
  if (!bytes) return std::optional<ScanPage::Entry>{};
  return std::optional{ScanPage::Entry{std::move(parsed.key), *bytes}};
}

Result<ScanPage> Scans::next(ScanCursor from, std::size_t keys_max) {
  const MutexLock lock{mutex_};
  LARDER_ASSIGN(Scan* const scan, find(from));
  ScanPage page;
  while (page.entries.size() < keys_max) {
    LARDER_ASSIGN(const NameWalk::Name name, scan->walk->next());
    if (name.text == nullptr) {
      page.done = true;
      *scan = {};
      return page;
    }
    LARDER_ASSIGN(auto entry, entry_of(name, scan->walk->rules()));
    if (entry) page.entries.push_back(std::move(*entry));
  }
  page.next.words[0] = scan->id;
  page.next.words[1] = ++scan->page;
  return page;
}

}  // namespace larder::fs
