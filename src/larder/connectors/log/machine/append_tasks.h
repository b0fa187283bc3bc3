#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/hash.h"
#include "larder/connector/connector.h"
#include "larder/connectors/log/format/fingerprint.h"
#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/place.h"
#include "larder/connectors/log/index/index.h"
#include "larder/connectors/log/index/key_guard.h"
#include "larder/connectors/log/machine/hash_pool.h"

namespace larder::log_store {

struct StoreTask;
struct DeleteTask;

class StoreSink {
 public:
  virtual ~StoreSink() = default;
  /// The record was written (and synced, where asked for), or `task.error` says why not. The task
  /// is the sink's again.
  virtual void on_store(StoreTask& task) noexcept = 0;
  virtual void on_delete(DeleteTask& task) noexcept = 0;
  /// The record is written and waits for a sync. True when its whole batch does: the sync is due.
  virtual bool on_written(StoreTask& task) noexcept = 0;
};

/// One record, or value of a pack, on its way from `value` to the head. Pooled by its sink.
struct StoreTask {
  // In.
  Fingerprint fingerprint;
  std::span<const std::byte> key;
  std::span<const Slice> value;
  std::uint64_t value_bytes = 0;
  bool wants_sync = false;
  std::uint32_t note = 0;  ///< UseLedger's.
  /// A move (L8): the checksum is known, and the index changes only if it still points to `source`.
  std::optional<Location> source;
  Hash128 checksum{};
  StoreSink* sink = nullptr;
  void* user_data = nullptr;

  // Out.
  Error error;
  bool was_published = false;

  // Used by the classes that write it.
  AlignedBuffer header;  ///< One grain, allocated at the task's first use.
  Location location;     ///< Of the header; of a packed value: of the value.
  bool is_packed = false;
  bool begins_pack = false;  ///< The pack's header stands before it, in `header`.
  bool is_direct = false;
  bool is_hashed = false;
  bool is_waiting = false;  ///< In WaitingRecords.
  bool header_submitted = false;
  std::uint64_t submitted = 0;
  std::uint32_t transfers_in_flight = 0;
  std::vector<iovec> hash_memory;
  HashJob hash_job;
  StreamingHash128 hash;
  StoreTask* next_in_write = nullptr;

  RecordKind kind() const noexcept { return is_packed ? RecordKind::kPack : RecordKind::kValue; }
};

struct DeleteTask {
  Fingerprint fingerprint;
  std::span<const std::byte> key;
  bool wants_sync = false;
  StoreSink* sink = nullptr;
  void* user_data = nullptr;
  bool existed = false;  ///< Out.
  Error error;           ///< Out.

  // Used by the classes that write it.
  Place value_before;  ///< The latest value of the key when the task began, in the index or in
                       ///< flight.
};

/// The result of a start_* call.
enum class Admission : std::uint8_t {
  kStarted = 0,  ///< The sink will be called.
  kWait,         ///< The next segment is being prepared: try again after the next turn.
  kRefused,      ///< No free segment (L10): nothing was done.
};

/// The stores and deletes that have a place and whose sinks have not been called yet.
///
/// Invariant: the key of each of them is in the guard.
/// Threads: the path's one.
class TasksInFlight {
 public:
  explicit TasksInFlight(KeyGuard& guard) : guard_(guard) {}

  void begin(const Fingerprint& fingerprint) {
    guard_.enter(fingerprint);
    ++count_;
  }
  void end(StoreTask& task) noexcept {
    guard_.leave(task.fingerprint);
    --count_;
    task.sink->on_store(task);
  }
  void end(DeleteTask& task) noexcept {
    guard_.leave(task.fingerprint);
    --count_;
    task.sink->on_delete(task);
  }
  std::uint32_t count() const noexcept { return count_; }

 private:
  KeyGuard& guard_;
  std::uint32_t count_ = 0;
};

/// Records that lack a transfer or staging memory, first come first served: a long record itself,
/// or the first of a run of short ones.
class WaitingRecords {
 public:
  bool empty() const noexcept { return tasks_.empty(); }
  StoreTask& front() noexcept { return *tasks_.front(); }
  void push(StoreTask& task) {
    task.is_waiting = true;
    tasks_.push_back(&task);
  }
  void pop() noexcept {
    tasks_.front()->is_waiting = false;
    tasks_.pop_front();
  }

 private:
  std::deque<StoreTask*> tasks_;
};

}  // namespace larder::log_store
