#pragma once

#include <sys/stat.h>

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
#include "larder/connectors/fs/draft.h"
#include "larder/connectors/fs/file_name.h"
#include "larder/connectors/fs/inventory.h"
#include "larder/connectors/fs/options.h"
#include "larder/connectors/fs/value_io.h"
#include "larder/io/device.h"
#include "larder/io/file_lock.h"

namespace larder::fs {

/// What the file system under the base directory can do; found out at opening.
struct FileSystemFacts {
  std::string name;  ///< "ext4", "nfs", ...
  bool is_network = false;
  bool is_direct = false;  ///< O_DIRECT was asked for and works.
  std::string no_direct_why;
  io::Alignment alignment;  ///< Of direct transfers.
  std::uint64_t block_bytes = 4096;
  bool has_unnamed_files = false;  ///< O_TMPFILE; see Draft.
};

/// Whether the last operation of a kind met an error of the file system: a change is a line of log,
/// at most one a minute. Any thread.
class Trouble {
 public:
  explicit Trouble(const char* operations) : operations_(operations) {}
  void note(const Error& error) noexcept;
  void clear() noexcept;

 private:
  const char* const operations_;  ///< "stores", ...
  std::atomic<bool> is_there_ = false;
  std::atomic<bool> is_logged_ = false;  ///< Its end is worth a line too.
  LogLimiter limiter_{60'000'000'000};
};

/// One operation on one key, as system calls in the calling thread: what everything above is made
/// of. Blocks for as long as the file system does.
///
/// A store writes a file under a name that nobody else uses and then gives it its name in one step:
/// a reader, in whichever process, sees no file or a whole one. What is found instead of a whole
/// regular file (a link, a directory, nothing in it) is no value, and is replaced by the next
/// store. Ownership: the open directory; nothing of an item after a call. Threads: any.
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

  /// A Get in parts, so that its transfer can be somebody else's.
  struct OpenValue {
    UniqueFd fd;
    FileName name;
    io::Alignment alignment;  ///< {1, 1}: opened without O_DIRECT.
    std::int64_t modified_seconds = 0;
  };
  /// The file, with item.value_bytes its length; nothing when the item is a miss.
  Result<std::optional<OpenValue>> open_value(Item& item, const CallOptions& options);
  /// After all bytes came: checks them, and makes the item a hit.
  Status finish_get(Item& item, const OpenValue& value);
  /// After a transfer failed: true when O_DIRECT was the reason and the file is buffered now.
  bool falls_back(OpenValue& value, const Error& error) noexcept;
  /// Counts how a Get ended.
  void note_get(const Item& item, const Status& status) noexcept;

  /// How long the value is that has this name in an open folder; nothing when none has. An error
  /// only where the same call may succeed later.
  static Result<std::optional<std::uint64_t>> size_of(int folder_fd, const char* name);

  /// Removes what makes the bytes used more than the capacity.
  void evict_to_capacity();

  const FsOptions& options() const noexcept { return options_; }
  const FileSystemFacts& facts() const noexcept { return facts_; }
  FsCounters& counters() noexcept { return counters_; }
  Inventory& inventory() noexcept { return inventory_; }
  BasePath& base() noexcept { return *base_; }
  /// Whether legacy names are looked for; true until it is known that there are none.
  void set_has_legacy(bool has_legacy) noexcept { has_legacy_.store(has_legacy); }
  /// Health, reasons and counters.
  /// Nothing that is wrong, and worth a line in the log and in every report; empty: nothing.
  void note_remark(std::string remark) LARDER_EXCLUDES(remarks_mutex_);
  void append_report(Report& report) const;

 private:
  /// What has a name.
  struct Found {
    bool is_there = false;
    bool is_regular = false;
    bool is_directory = false;
    std::uint64_t bytes = 0;       ///< Of the value.
    std::uint64_t file_bytes = 0;  ///< More, where it is padded.
    int size_errno = 0;            ///< Why `bytes` is not known.
    std::uint64_t blocks_bytes = 0;
    std::int64_t modified_seconds = 0;

    /// No Get can take it.
    bool is_too_large() const noexcept { return bytes > kValueBytesMax; }
    /// What a Set kIfAbsent leaves alone. A file without content is what a power cut leaves.
    bool is_value(std::uint64_t wanted_bytes) const noexcept {
      return is_regular && !is_too_large() && (bytes > 0 || wanted_bytes == 0);
    }
  };
  struct Stored {
    bool existed = false;
    std::optional<std::uint64_t> replaced_bytes;
  };

  FileStore(const FsOptions& options, std::unique_ptr<BasePath> base, FileSystemFacts facts,
            io::LockedFile lock);

  Status exists_here(Item& item);
  Status get_here(Item& item, const CallOptions& options, StagingBuffer& staging);
  Status set_here(Item& item, const CallOptions& options, StagingBuffer& staging, ChangeGate& gate);
  static Found found_of(const struct stat& status) noexcept;
  /// What a value in a file like this is asked to be: the whole of it, or all but LMCache's
  /// padding.
  std::optional<std::uint64_t> bytes_to_load(const Found& found, std::uint64_t room,
                                             bool allow_shorter) const noexcept;
  Result<Found> look(const Directory& directory, const std::string& name) const;
  static Error unknown_size(const Found& found) noexcept;
  static Result<Found> look_in(int folder_fd, const char* name);
  /// No descriptor: no regular file has the name.
  Result<UniqueFd> open_name(const Directory& directory, const std::string& name, bool& is_direct,
                             Found& found);
  Result<UniqueFd> try_open(const Directory& directory, const std::string& name, bool& is_direct,
                            Found& found, int& failed);
  /// The name under which the key has a regular file: its own, or its legacy one.
  Result<std::optional<std::string>> present_name(const Directory& directory, const Item& item,
                                                  Found& found);
  std::optional<std::string> legacy_name(const Directory& directory, const Item& item) const;
  Status check_checksum(const Item& item, int fd);

  // How a value is stored (file_store_set.cc).
  Status write_value(const Directory& directory, Item& item, const FileName& name, bool replace,
                     StagingBuffer& staging, ChangeGate& gate);
  Status write_and_publish(const Directory& directory, Item& item, const FileName& name,
                           bool replace, std::uint64_t& reserved, StagingBuffer& staging,
                           ChangeGate& gate);
  Result<Draft> create_draft(const Directory& directory, bool& is_direct);
  Status fill(Draft& draft, const Item& item, bool is_direct, StagingBuffer& staging);
  Result<Stored> publish(const Directory& directory, const Folder& folder, Draft& draft,
                         const FileName& name, const Item& item, bool replace, ChangeGate& gate);
  Status keep_key_beside(const Directory& directory, int folder_fd, const FileName& name,
                         const Item& item, ChangeGate& gate);
  Status make_way(int folder_fd, const std::string& name) noexcept;

  // Room (file_store_room.cc).
  std::uint64_t file_bytes_of(const Item& item) const noexcept;
  Result<std::uint64_t> reserve(const Directory& directory, std::uint64_t file_bytes,
                                ChangeGate& gate);
  bool evict_one(const Directory& directory, ChangeGate& gate);
  bool lacks_free_space(const Directory& directory, std::uint64_t bytes) const;
  Result<bool> unlink_value(const Directory& directory, const std::string& name, ChangeGate& gate);
  void mark_used(const std::string& name, int folder_fd, int fd, std::int64_t modified_seconds);

  const FsOptions options_;
  const std::unique_ptr<BasePath> base_;
  const FileSystemFacts facts_;
  const io::LockedFile lock_;  ///< Of the only process, when exclusive.
  FsCounters counters_;
  Inventory inventory_;
  Trouble store_trouble_{"stores"};
  Trouble load_trouble_{"loads"};
  Trouble lookup_trouble_{"lookups"};
  std::atomic<bool> has_legacy_ = true;
  mutable Mutex remarks_mutex_;
  std::vector<std::string> remarks_ LARDER_GUARDED_BY(remarks_mutex_);
};

}  // namespace larder::fs
