#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/logging.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connector/connector.h"
#include "larder/connector/worker_pool.h"
#include "larder/connectors/fs/change_gate.h"
#include "larder/connectors/fs/counters.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/error_latch.h"
#include "larder/connectors/fs/file_name.h"
#include "larder/connectors/fs/file_system_facts.h"
#include "larder/connectors/fs/found_file.h"
#include "larder/connectors/fs/inventory.h"
#include "larder/connectors/fs/options.h"
#include "larder/connectors/fs/room.h"
#include "larder/connectors/fs/value_io.h"
#include "larder/connectors/fs/value_writer.h"
#include "larder/io/device.h"
#include "larder/io/file_lock.h"

namespace larder::fs {

/// One operation on one key, as system calls in the calling thread: the base of everything above.
/// Blocks for as long as the file system does.
///
/// A store writes a file under a name that no other writer uses and then gives it its name in one
/// step: a reader in any process sees no file or a whole one. Anything but a whole regular file (a
/// link, a directory, an empty file) is not a value, and the next store replaces it. Ownership: the
/// open directory; it keeps nothing of an item after a call. Threads: any.
class FileStore {
 public:
  static SetupResult<std::unique_ptr<FileStore>> open(const FsOptions& options);
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;
  ~FileStore();

  /// OK with an outcome, or the item's error, as a BlockingBackend's calls. A Set or Delete passes
  /// `gate` before each change. An exception is the item's error.
  Status run(Op op, Item& item, const CallOptions& options, StagingBuffer& staging,
             ChangeGate& gate) noexcept;
  Status get(Item& item, const CallOptions& options, StagingBuffer& staging);
  Status set(Item& item, const CallOptions& options, StagingBuffer& staging, ChangeGate& gate);
  Status exists(Item& item);
  Status remove(Item& item, ChangeGate& gate);
  Status touch(Item& item);

  /// A Get in parts, so that another component can make its transfer.
  struct OpenValue {
    UniqueFd fd;
    FileName name;
    io::Alignment alignment;  ///< {1, 1}: opened without O_DIRECT.
    std::int64_t modified_seconds = 0;
  };
  /// The file, with its length in item.value_bytes; null when the item is a miss.
  Result<std::optional<OpenValue>> open_value(Item& item, const CallOptions& options);
  /// Call it when all bytes have arrived: checks them, and makes the item a hit.
  Status finish_get(Item& item, const OpenValue& value);
  /// Call it when a transfer failed: true when O_DIRECT was the reason and the file is buffered
  /// now.
  bool falls_back(OpenValue& value, const Error& error) noexcept;
  /// Counts how a Get ended.
  void note_get(const Item& item, const Status& status) noexcept;

  /// The length of the value with this name in an open folder; empty when there is none. An error
  /// only where the same call may succeed later.
  static Result<std::optional<std::uint64_t>> size_of(int folder_fd, const char* name);

  /// Removes files until the bytes used are within the capacity.
  void evict_to_capacity() { room_.evict_to_capacity(*base_->get()); }

  const FsOptions& options() const noexcept { return options_; }
  const FileSystemFacts& facts() const noexcept { return facts_; }
  FsCounters& counters() noexcept { return counters_; }
  Inventory& inventory() noexcept { return inventory_; }
  BasePath& base() noexcept { return *base_; }
  /// Whether legacy names are looked for; true until it is known that there are none.
  void set_has_legacy(bool has_legacy) noexcept { has_legacy_.store(has_legacy); }
  /// A condition worth a line in the log and in every report; empty: none.
  void note_remark(std::string remark) LARDER_EXCLUDES(remarks_mutex_);
  /// Health, reasons and counters.
  void append_report(Report& report) const;

 private:
  FileStore(const FsOptions& options, std::unique_ptr<BasePath> base, FileSystemFacts facts,
            io::LockedFile lock);

  Status exists_here(Item& item);
  Status get_here(Item& item, const CallOptions& options, StagingBuffer& staging);
  Status set_here(Item& item, const CallOptions& options, StagingBuffer& staging, ChangeGate& gate);
  /// The length that a file with this value must have: all of it, or all but LMCache's padding.
  std::optional<std::uint64_t> bytes_to_load(const FoundFile& found, std::uint64_t room,
                                             bool allow_shorter) const noexcept;
  /// No descriptor: no regular file has the name.
  Result<UniqueFd> open_name(const Directory& directory, const std::string& name, bool& is_direct,
                             FoundFile& found);
  Result<UniqueFd> try_open(const Directory& directory, const std::string& name, bool& is_direct,
                            FoundFile& found, int& failed);
  /// The name under which the key has a regular file: its own, or its legacy one.
  Result<std::optional<std::string>> present_name(const Directory& directory, const Item& item,
                                                  FoundFile& found);
  std::optional<std::string> legacy_name(const Directory& directory, const Item& item) const;
  Status check_checksum(const Item& item, int fd);

  Result<bool> unlink_value(const Directory& directory, const std::string& name, ChangeGate& gate);
  void mark_used(const std::string& name, int folder_fd, int fd, std::int64_t modified_seconds);

  const FsOptions options_;
  const std::unique_ptr<BasePath> base_;
  const FileSystemFacts facts_;
  const io::LockedFile lock_;  ///< Those of this process alone, when exclusive.
  FsCounters counters_;
  Inventory inventory_;
  ErrorLatch store_errors_{"stores"};
  ErrorLatch load_errors_{"loads"};
  ErrorLatch lookup_errors_{"lookups"};
  Room room_{options_, facts_, counters_, inventory_, store_errors_};
  ValueWriter writer_{options_, facts_, counters_, inventory_, room_};
  std::atomic<bool> has_legacy_ = true;
  mutable Mutex remarks_mutex_;
  std::vector<std::string> remarks_ LARDER_GUARDED_BY(remarks_mutex_);
};

}  // namespace larder::fs
