#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "larder/base/clock.h"
#include "larder/base/result.h"
#include "larder/server/copy/block_checksums.h"
#include "larder/server/copy/copy_loop.h"
#include "larder/server/copy/copy_plan.h"

namespace larder::server {

/// A worker's memory that a backend has mapped. Not reused after it has ended.
enum class ViewId : std::uint64_t { kNone = 0 };

enum class CopyOp : std::uint8_t {
  kMap = 0,   ///< Maps the memory of `plan`; the view comes back in `view`.
  kUnmap,     ///< Ends the view.
  kStore,     ///< From the view's blocks into cells.
  kRetrieve,  ///< From cells into the view's blocks.
  kChecksum,  ///< Checksums of the view's blocks, into `checksums`.
};

enum class CopyOutcome : std::uint8_t { kPending = 0, kDone, kFailed };

/// One cell of a transfer.
struct JobCell {
  std::uint64_t offset = 0;  ///< In the arena.
  std::uint32_t chunk = 0;   ///< Offset from the begin of the range.
  std::uint32_t group = 0;   ///< Object group.
};

/// One job. Everything it points to is the caller's, unchanged until reap() returns the job.
struct CopyJob {
  CopyOp op = CopyOp::kStore;
  ViewId view = ViewId::kNone;             ///< Input; output for kMap.
  std::shared_ptr<const CopyPlan> plan{};  ///< kMap.
  std::span<const JobCell> cells{};        ///< For a transfer: at least one.
  const wire::BlockIds* blocks = nullptr;  ///< For a transfer.
  std::uint64_t skip_tokens = 0;           ///< kRetrieve: as CellCopy::skip_tokens.
  /// The event that the worker wants to be awaited, as it sent it. On a CPU there is no event to
  /// wait for.
  std::span<const std::byte> event{};
  std::uint64_t deadline_ns = kNever;    ///< For a transfer: it begins before this, or fails.
  ChecksumRequest* checksums = nullptr;  ///< kChecksum: input and output.
  void* user_data = nullptr;

  CopyOutcome outcome = CopyOutcome::kPending;  ///< Out.
  Error error{};                                ///< Out, iff kFailed.
  std::string reason{};                         ///< Out, iff kMap failed: for a person.

  // The backend's while the job is in flight, without meaning to the caller.
  CopyJob* backend_next = nullptr;
  CopyJob* backend_previous = nullptr;
  std::size_t backend_place = 0;
  std::uint32_t backend_taken = 0;  ///< Cells that were begun.
  std::uint32_t backend_left = 0;   ///< Cells that have not ended.
  bool backend_is_queued = false;
};

struct CopyStatistics {
  std::uint64_t views = 0;           ///< Now.
  std::uint64_t jobs_in_flight = 0;  ///< Now.
  std::uint64_t stores = 0;          ///< Done; the next three likewise.
  std::uint64_t retrieves = 0;
  std::uint64_t bytes_stored = 0;  ///< Of cells.
  std::uint64_t bytes_retrieved = 0;
  std::uint64_t failed = 0;     ///< Transfers, for whatever reason.
  std::uint64_t expired = 0;    ///< Of these: failed at their deadline.
  std::uint64_t cancelled = 0;  ///< Of these.
  std::uint64_t faults = 0;     ///< Of these: failed because the worker's memory was gone.
};

/// Moves bytes between workers' memory and the arena: the contract of the server's copies (S23),
/// for CPUs and GPUs alike. Caller-owned jobs go in, the same jobs come back, one event fd says
/// when.
///
/// K1  Every job for which submit() returned OK comes back from reap() exactly once, whatever
///     happens, also after stop(). A refused job is unchanged. reap() works after stop() until no
///     job is left.
/// K2  submit() never waits for a copy, a mapping or a device. Transfers are checked in it: cells
///     within the arena, blocks within the view. It refuses with kInvalidArgument what can never be
///     done, with kUnavailable a view that ends and a backend that stops, and with
///     kResourceExhausted a job beyond the limits, but never a kUnmap.
/// K3  A transfer is done or failed as a whole. The cells of a failed store, and the blocks of a
///     failed retrieve, have unspecified contents: a failed store must not be published.
/// K4  Transfers of one view may run side by side and in any order. kMap, kUnmap and kChecksum have
///     threads of their own: a slow mapping delays no transfer.
/// K5  kUnmap: transfers of the view that have not begun come back as kCancelled, running ones and
///     checksums end first, then the memory is unmapped, and then the job comes back, after all
///     others of its view.
/// K6  At its deadline a transfer that has not begun fails with kDeadlineExceeded; cancel() does
///     the same at once with kCancelled, also with the cells of a running one that have not begun.
///     A backend may notice a deadline late by as long as one cell takes.
/// K7  reap() is called by one thread at a time. event_fd() is readable while reap() would return
///     something.
/// K8  Nothing that a worker does to its memory ends the process: its transfer fails with kIo.
class CopyBackend {
 public:
  CopyBackend() = default;
  CopyBackend(const CopyBackend&) = delete;
  CopyBackend& operator=(const CopyBackend&) = delete;
  /// Everything accepted must have been reaped.
  virtual ~CopyBackend() = default;

  /// Call it before the first transfer: the memory of the cells, which outlives the backend. A
  /// backend of a device registers it there when it first needs to, in pieces.
  virtual Status prepare_arena(std::span<std::byte> arena) noexcept = 0;
  /// Any thread. On an error the job is unchanged and still the caller's.
  virtual Status submit(CopyJob& job) noexcept = 0;
  /// Moves finished jobs into `done`; returns how many. By one thread at a time. Never waits.
  virtual std::size_t reap(std::span<CopyJob*> done) noexcept = 0;
  /// For poll(): readable when reap() is worth calling. The backend's; do not close or read it.
  virtual int event_fd() const noexcept = 0;
  /// Any thread, only before reap() gave the job back; of transfers. The job still comes back.
  virtual void cancel(CopyJob& job) noexcept = 0;
  /// Cells begin before this time only (S15); without a call always. The driver advances it in
  /// every turn, so that nothing begins while the driver is stopped: by then workers may have given
  /// the blocks to other requests. Queued jobs wait. Any thread.
  virtual void begin_until(std::uint64_t until_ns) noexcept = 0;
  /// Any thread.
  virtual CopyStatistics statistics() const noexcept = 0;
  /// Refuses new jobs, cancels those that have not begun, and waits for the others. kUnavailable
  /// when some still run at `deadline_ns` of the real clock: the object must not be destroyed until
  /// they end. Idempotent. Views that were not unmapped end with the object.
  virtual Status stop(std::uint64_t deadline_ns) noexcept = 0;
};

}  // namespace larder::server
