#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "larder/base/mutex.h"
#include "larder/connector/report.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/file_store.h"

namespace larder::fs {

/// Scans that are under way: each reads the directory once, in the order of the file system. The
/// one that was not continued for longest makes room for a new one when there are kScansMax.
/// Threads: any; one scan at a time makes progress.
class Scans {
 public:
  static constexpr std::size_t kScansMax = 16;

  explicit Scans(std::shared_ptr<FileStore> store) : store_(std::move(store)) {}

  Result<ScanPage> next(ScanCursor from, std::size_t keys_max) LARDER_EXCLUDES(mutex_);

 private:
  struct Scan {
    std::uint64_t id = 0;    ///< 0: none.
    std::uint64_t page = 0;  ///< The cursor that continues it.
    std::uint64_t used_at = 0;
    std::optional<NameWalk> walk;
    NameWalk::Name name;  ///< The walk's last, when it has not been looked at; else empty.
  };

  Result<Scan*> find(const ScanCursor& from) LARDER_REQUIRES(mutex_);
  static Result<std::optional<ScanPage::Entry>> next_entry(Scan& scan);
  static Result<std::optional<ScanPage::Entry>> entry_of(const NameWalk::Name& name,
                                                         const NameRules& rules);

  const std::shared_ptr<FileStore> store_;
  Mutex mutex_;
  std::array<Scan, kScansMax> scans_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t last_id_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t clock_ LARDER_GUARDED_BY(mutex_) = 0;
};

}  // namespace larder::fs
