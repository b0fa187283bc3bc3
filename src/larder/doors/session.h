#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/completion_queue.h"
#include "larder/connector/connector.h"
#include "larder/connector/registry.h"

namespace larder::doors {

/// A batch with the memory that it points to. A door derives its own, which also holds whatever
/// keeps keys and buffers alive.
///
/// Ownership: the session has it from submit() until wait() or take() gives it back.
struct Operation {
  Operation() noexcept { batch.waits_for_room = true; }
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  Batch batch;  ///< waits_for_room, unless the door says otherwise.
  std::vector<Item> items;
  std::vector<Slice> slices;
  /// Comes back through take() instead of wait().
  bool is_taken = false;

 private:
  friend class Session;
  bool is_out_ = false;            // The connector has it.
  Operation* previous_ = nullptr;  // Link of the in-flight list.
  Operation* next_ = nullptr;
};

struct SessionOptions {
  /// A thread takes finished batches from the connector, so that take() and event_fd() need no
  /// caller inside wait(). Without it the waiting callers take them themselves, which is quicker.
  bool has_thread = false;
  /// For every batch: see Batch::waits_for_room.
  bool misses_wrong_sizes = false;
  /// Shows the log lines of opening and closing at the default level too: for the cache tier of a
  /// service, whose operator wants to read them.
  bool is_announced = false;
};

/// One user of a connector with many threads: each submits operations and waits for its own, or
/// takes finished ones when event_fd() is readable.
///
/// Ownership: owns the connector. Destroy it only after close() was OK.
/// Threads: any, all calls. Without `has_thread` one of the waiting threads reaps for all of them.
/// Cost: a short lock per submit and per return; no thread hand-over when the connector has
/// finished by the time of wait().
/// Invariant: an operation is in the in-flight list exactly while the session has it and it is not
///   finished.
class Session {
 public:
  /// Opens the store that `spec` names and logs one line; close() logs another. May block.
  static SetupResult<std::unique_ptr<Session>> open(const Registry& registry, const Spec& spec,
                                                    const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// On an error the operation is unchanged and stays the caller's. kCancelled after close() has
  /// begun.
  Status submit(Operation& operation) noexcept LARDER_EXCLUDES(mutex_);
  /// False at `until_ns`: the session still has it.
  bool wait(Operation& operation, std::uint64_t until_ns) noexcept LARDER_EXCLUDES(mutex_);
  /// A hint to end it soon. Only while the session has the operation.
  void cancel(Operation& operation) noexcept LARDER_EXCLUDES(mutex_);
  /// The caller gives up waiting: true, and it will come through take(); false, it is back already.
  bool leave(Operation& operation) noexcept LARDER_EXCLUDES(mutex_);
  /// For an operation that was finished without the connector: take() returns it.
  void post(Operation& operation) noexcept;
  /// A finished operation that no thread waits for, or nullptr. Never waits.
  Operation* take() noexcept LARDER_EXCLUDES(mutex_);
  /// Readable while take() would return an operation, and always after close().
  int event_fd() const noexcept { return finished_.event_fd(); }

  /// Answers an Exists from the connector's memory where possible; false, and nothing changed,
  /// where not: submit it then.
  bool probe(std::span<Item> items) const noexcept;

  /// Refuses new operations, lets the others run until `finish_by_ns`, then cancels them.
  /// kUnavailable when the kernel or a peer still has something at `deadline_ns`, which stuck()
  /// names; call it again to continue waiting. Idempotent.
  Status close(std::uint64_t finish_by_ns, std::uint64_t deadline_ns) noexcept
      LARDER_EXCLUDES(mutex_);
  bool is_open() const noexcept { return !is_closing_.load(std::memory_order_acquire); }
  /// The operations that close() waits for: "2 loads of 18 keys and 64MiB". Empty: nothing.
  std::string stuck() const LARDER_EXCLUDES(mutex_);

  Connector& connector() noexcept { return *connector_; }
  const Connector& connector() const noexcept { return *connector_; }
  /// The connector's report with the session's own counts.
  Report report() const;

 private:
  /// Takes the connector unless it throws.
  Session(std::unique_ptr<Connector>&& connector, EventFd wake, const SessionOptions& options);

  static SetupResult<std::unique_ptr<Session>> start(std::unique_ptr<Connector> connector,
                                                     const SessionOptions& options);
  /// Logs a line if the options ask for it; a line that cannot be built is left out.
  void say_opened(std::uint64_t took_ns) const noexcept;
  void say_closed() const noexcept;
  void say(const std::string& type, const std::string& line) const noexcept;
  void run_thread() noexcept LARDER_EXCLUDES(mutex_);
  bool may_lead() const noexcept LARDER_REQUIRES(mutex_) {
    return !has_leader_ && !options_.has_thread;
  }
  /// Reaps once, waiting for at most until `until_ns`, on behalf of everybody.
  void lead(std::uint64_t until_ns) noexcept LARDER_REQUIRES(mutex_);
  std::size_t reap_ready() noexcept LARDER_REQUIRES(mutex_);
  void finish(Operation& operation) noexcept LARDER_REQUIRES(mutex_);
  bool wait_until_empty(std::uint64_t until_ns) noexcept LARDER_REQUIRES(mutex_);
  void link(Operation& operation) noexcept LARDER_REQUIRES(mutex_);
  void unlink(Operation& operation) noexcept LARDER_REQUIRES(mutex_);

  const SessionOptions options_;
  EventFd wake_;
  CompletionQueue finished_;
  const std::unique_ptr<Connector> connector_;  ///< Last, after everything that may throw.
  std::atomic<bool> is_closing_ = false;
  std::atomic<std::uint64_t> refused_total_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  Operation* in_flight_ LARDER_GUARDED_BY(mutex_) = nullptr;
  bool has_leader_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_thread_wanted_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_closed_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::doors
