#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>

#include "larder/base/aligned_buffer.h"
#include "larder/base/hash.h"
#include "larder/connector/connector.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

struct LoadTask;

class LoadSink {
 public:
  virtual ~LoadSink() = default;
  /// `task.outcome` and its fields are set; the task is the sink's again.
  virtual void on_load(LoadTask& task) noexcept = 0;
};

/// One record on its way from the disk into `value`. Pooled by the starter.
struct LoadTask {
  static constexpr std::size_t kPiecesInFlightMax = 8;

  // In.
  Fingerprint fingerprint;
  std::span<const std::byte> key;
  std::span<const Slice> value;
  bool allow_shorter = false;
  LoadSink* sink = nullptr;
  void* user_data = nullptr;

  // Out.
  Outcome outcome = Outcome::kPending;  ///< kHit, kMiss or kFailed.
  Error error;
  std::uint64_t value_bytes = 0;
  Hash128 checksum{};

  // The loads' own.
  AlignedBuffer header;  ///< One grain, allocated at the task's first use. Packed values need none.
  Location location;
  bool is_packed = false;
  std::uint64_t tag = 0;  ///< If packed.
  SegmentPin pin;  ///< Pins the location's segment, from the start of the task to its end (L6).
  bool is_direct = false;
  bool hashes_inline = true;
  bool is_hashing = false;
  bool is_waiting = false;      ///< In the list of those that need a transfer or staging memory.
  std::uint64_t submitted = 0;  ///< Value bytes [0, submitted) are read or being read.
  bool header_submitted = false;
  std::array<Transfer*, kPiecesInFlightMax> pieces{};  ///< A ring in order of place.
  std::uint32_t first_piece = 0;
  std::uint32_t piece_count = 0;
  StreamingHash128 hash;
};

/// Verified reads (L5): a Get is a hit after MAC, identity, key, length and checksum held, or the
/// tag of a packed value, which covers them; otherwise the entry is removed, if it still points
/// there, before the outcome is told.
///
/// A record is read in pieces of at most `io_bytes`, straight into the caller's memory where that
/// meets the device's alignment, through staging memory otherwise, and hashed piece by piece.
/// Threads: the path's one. A task that was started pins its segment until it ends (L6).
class Loads final : public TransferSink {
 public:
  explicit Loads(PathState& state) : state_(state) {}

  /// Begins, or ends at once (a miss, a wrong size): then the sink was called already.
  void start(LoadTask& task) noexcept;
  /// Goes on with tasks that waited for a transfer or for staging memory.
  void pump() noexcept;
  /// The path is down: tasks without I/O in the kernel end now, the others when their I/O ends.
  void fail_waiting() noexcept;
  void on_transfer(Transfer& transfer) noexcept override;
  void on_hashed(Transfer& transfer) noexcept;
  std::uint32_t in_flight() const noexcept { return in_flight_; }
  bool has_waiting() const noexcept { return !waiting_.empty(); }

 private:
  bool submit_pieces(LoadTask& task) noexcept;
  bool submit_piece(LoadTask& task) noexcept;
  void advance(LoadTask& task) noexcept;
  bool hash_front(LoadTask& task, Transfer& transfer) noexcept;
  void pop_front(LoadTask& task) noexcept;
  void fail(LoadTask& task, const Error& error) noexcept;
  void finish(LoadTask& task) noexcept;
  Error verify(LoadTask& task) noexcept;
  Error verify_packed(const LoadTask& task) const noexcept;

  PathState& state_;
  std::deque<LoadTask*> waiting_;
  std::uint32_t in_flight_ = 0;
};

}  // namespace larder::log_store
