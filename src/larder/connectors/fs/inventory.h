#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/base/mutex.h"

namespace larder::fs {

/// The files that larder knows: how many, and, with a capacity, which ones and how large, in the
/// order of their last use. Knows no file system; only the file system says what exists.
///
/// Without a capacity it only counts, and changes by other processes make the counts drift. With
/// one every file has an entry (about 300 bytes), and `used` is never less than what larder's files
/// take: room is reserved before a file is written, and released after it was unlinked.
/// While existing files are counted after opening (note_found() to counted()), stores and removals
/// in that time are remembered, so that no file is counted twice.
/// Threads: any. Cost: a short lock; sorting at counted().
class Inventory {
 public:
  /// 0: no capacity. A hard one refuses to reserve anything before counted().
  Inventory(std::uint64_t capacity_bytes, bool is_hard)
      : capacity_bytes_(capacity_bytes), is_hard_(is_hard) {}

  bool is_tracking() const noexcept { return capacity_bytes_ != 0; }

  struct Victim {
    std::string name;
    std::uint64_t bytes = 0;
  };
  enum class Room : std::uint8_t { kReserved = 0, kFull, kNotCounted, kTooLarge };
  /// Takes room for a file before it is written.
  Room reserve(std::uint64_t bytes) LARDER_EXCLUDES(mutex_);
  void cancel(std::uint64_t reserved_bytes) LARDER_EXCLUDES(mutex_);
  /// The file was published; its real size replaces the reservation. `replaced`: the bytes of the
  /// file that had the name before.
  void stored(const std::string& name, std::uint64_t reserved_bytes, std::uint64_t bytes,
              std::optional<std::uint64_t> replaced) LARDER_EXCLUDES(mutex_);

  /// Takes the file that was used longest ago out. Its bytes count until gone().
  std::optional<Victim> take_oldest() LARDER_EXCLUDES(mutex_);
  /// The same for a file that will be removed. Nothing: it is not known.
  std::optional<Victim> take(const std::string& name) LARDER_EXCLUDES(mutex_);
  /// A victim's file is unlinked (or was not there).
  void gone(const Victim& victim) LARDER_EXCLUDES(mutex_);
  /// It could not be unlinked.
  void kept(const Victim& victim) LARDER_EXCLUDES(mutex_);
  /// A file was unlinked. Without a capacity only this is counted.
  void removed(const std::string& name, std::uint64_t bytes) LARDER_EXCLUDES(mutex_);
  void used(const std::string& name) LARDER_EXCLUDES(mutex_);
  /// A file was not there. `since`: clock() before that was looked for.
  void missing(const std::string& name, std::uint64_t since) LARDER_EXCLUDES(mutex_);
  std::uint64_t clock() const LARDER_EXCLUDES(mutex_);

  /// A file that was there at opening.
  void found(std::string name, std::uint64_t bytes, std::int64_t modified_ns)
      LARDER_EXCLUDES(mutex_);
  /// All files were reported.
  void counted() LARDER_EXCLUDES(mutex_);

  struct Totals {
    std::uint64_t keys = 0;
    std::uint64_t bytes = 0;  ///< With a capacity: of all files; without: of those stored here.
    bool is_counted = false;
  };
  Totals totals() const LARDER_EXCLUDES(mutex_);
  bool is_over() const LARDER_EXCLUDES(mutex_);

 private:
  struct Entry {
    std::uint64_t bytes = 0;
    std::uint64_t stored_at = 0;  ///< clock_ when it was last stored.
    std::list<const std::string*>::iterator use;
  };
  struct Found {
    std::string name;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;
  };

  void put_locked(const std::string& name, std::uint64_t bytes, bool is_newest)
      LARDER_REQUIRES(mutex_);
  std::optional<Victim> take_locked(std::unordered_map<std::string, Entry>::iterator place)
      LARDER_REQUIRES(mutex_);
  std::uint64_t used_locked() const LARDER_REQUIRES(mutex_) {
    return bytes_ + leaving_bytes_ + reserved_bytes_;
  }

  const std::uint64_t capacity_bytes_;
  const bool is_hard_;
  mutable Mutex mutex_;
  std::unordered_map<std::string, Entry> entries_ LARDER_GUARDED_BY(mutex_);
  std::list<const std::string*> by_use_ LARDER_GUARDED_BY(mutex_);  ///< Oldest first.
  std::vector<Found> found_ LARDER_GUARDED_BY(mutex_);              ///< Until counted().
  /// Stored (true) or removed (false) until counted().
  std::unordered_map<std::string, bool> changed_ LARDER_GUARDED_BY(mutex_);
  bool is_counted_ LARDER_GUARDED_BY(mutex_) = false;
  std::uint64_t keys_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t bytes_ LARDER_GUARDED_BY(mutex_) = 0;  ///< Of the entries.
  std::uint64_t leaving_bytes_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t reserved_bytes_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t clock_ LARDER_GUARDED_BY(mutex_) = 0;
};

}  // namespace larder::fs
