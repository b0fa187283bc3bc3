#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/connector.h"
#include "larder/connector/slices.h"
#include "larder/connectors/log/machine/hash_pool.h"
#include "larder/io/transfer_queue.h"

namespace larder::log_store {

struct Transfer;

/// HashJob::tag: the kind of its user_data.
inline constexpr std::uint32_t kHashOfTransfer = 1;
inline constexpr std::uint32_t kHashOfStoreTask = 2;

/// The receiver of a transfer's end.
class TransferSink {
 public:
  virtual ~TransferSink() = default;
  /// `transfer.request` has the result. The sink gives it back with Transfers::release(), now or
  /// later.
  virtual void on_transfer(Transfer& transfer) noexcept = 0;
};

/// One request to the device with its memory. Pooled; the scatter list keeps its memory.
struct Transfer {
  io::Request request;
  std::vector<iovec> vectors;
  TransferSink* sink = nullptr;
  void* task = nullptr;       ///< The sink's.
  std::uint32_t purpose = 0;  ///< The sink's.
  std::uint64_t from = 0;     ///< The sink's: range of the value that it moves, or 0.
  std::uint64_t to = 0;
  std::span<std::byte> staged;  ///< Bounce memory, or empty.
  HashJob hash_job;             ///< The sink's.
  bool has_arrived = false;     ///< The sink's.
  std::uint64_t bytes = 0;      ///< Sum of the vectors at submission.
  std::uint64_t submitted_ns = 0;
  Transfer* earlier = nullptr;  ///< List of those in flight, by submission.
  Transfer* later = nullptr;

  bool succeeded() const noexcept { return request.sys_errno == 0 && request.bytes_done == bytes; }
};

/// Hands requests to the device, bounded in number and bytes, and results to their sinks.
///
/// `depth` and kBytesInFlightMax bound the transfers of records: small ones need many in flight,
/// large ones few, and urgency cannot overtake requests that the device has already taken. The
/// store's own few transfers (headers, tables, syncs) are not bound, so that they never wait for
/// callers'
/// I/O. Threads: the path's one.
class Transfers {
 public:
  static constexpr std::uint64_t kBytesInFlightMax = std::uint64_t{128} << 20;

  Transfers(io::TransferQueue& queue, const Clock& clock, std::uint32_t depth);

  /// For records; null when `depth` or the limit of bytes is reached.
  Transfer* acquire() noexcept;
  /// For the store's own transfers, which its callers bound; never null.
  Transfer* acquire_internal() noexcept;
  std::uint32_t available() const noexcept {
    return depth_ > in_use_ && bytes_in_flight_ < kBytesInFlightMax ? depth_ - in_use_ : 0;
  }
  /// The caller has filled operation, file, offset, vectors and sink.
  void submit(Transfer& transfer) noexcept;
  void release(Transfer& transfer) noexcept;

  /// Takes some finished transfers, few enough that the device gets new work meanwhile; the rest
  /// makes TransferQueue::wait() return at once. It may block in the kernel, and touches nothing
  /// else.
  void reap() noexcept;
  /// Hands out the transfers that reap() has taken, and calls reap() itself if it was not called.
  void poll() noexcept;
  std::uint32_t in_flight() const noexcept { return in_flight_; }
  /// When the oldest read or write in flight was submitted; kNever when there is none. Syncs do not
  /// count: one may rightly take longer.
  std::uint64_t oldest_submitted_ns() const noexcept { return transfers_.oldest_ns(); }
  std::uint64_t oldest_sync_submitted_ns() const noexcept { return syncs_.oldest_ns(); }

 private:
  static constexpr std::size_t kReapedAtOnce = 16;
  /// By submission.
  struct List {
    Transfer* oldest = nullptr;
    Transfer* newest = nullptr;
    std::uint64_t oldest_ns() const noexcept {
      return oldest == nullptr ? kNever : oldest->submitted_ns;
    }
    void append(Transfer& transfer) noexcept;
    void remove(Transfer& transfer) noexcept;
  };
  List& list_of(const Transfer& transfer) noexcept {
    return transfer.request.operation == io::Operation::kSync ? syncs_ : transfers_;
  }

  io::TransferQueue& queue_;
  const Clock& clock_;
  const std::uint32_t depth_;
  std::vector<std::unique_ptr<Transfer>> all_;
  std::vector<Transfer*> free_;
  std::uint32_t in_use_ = 0;  ///< Acquired, the reserve included.
  std::uint32_t in_flight_ = 0;
  std::uint64_t bytes_in_flight_ = 0;
  List transfers_;
  List syncs_;
  std::array<io::Request*, kReapedAtOnce> reaped_{};
  std::size_t reaped_count_ = 0;
  bool has_reaped_ = false;
};

/// Appends the parts of `slices` that hold the value's bytes [from, to).
void append_range(std::vector<iovec>& vectors, std::span<const Slice> slices, std::uint64_t from,
                  std::uint64_t to);
/// Whether the device can move these bytes without a copy.
bool is_aligned(std::span<const Slice> slices, std::uint64_t bytes,
                io::Alignment alignment) noexcept;

}  // namespace larder::log_store
