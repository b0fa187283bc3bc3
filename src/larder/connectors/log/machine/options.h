#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "larder/connector/intake.h"
#include "larder/connectors/log/format/geometry.h"

namespace larder::log_store {

/// When a Set is acknowledged. docs/format_log.md has the table of what a power cut may take.
enum class SyncMode : std::uint8_t {
  kNone = 0,  ///< When its bytes were transferred; the segment is synced when it is sealed.
  kBatch,     ///< When its segment was synced after that.
};

/// Which new keys are written.
enum class AdmissionMode : std::uint8_t {
  kAll = 0,
  kLearned,  ///< Of stores with kIfAbsent, those that are worth it: UseLedger.
};

/// Which segment is emptied next, and what of it is kept.
enum class EvictionOrder : std::uint8_t {
  kWorth = 0,  ///< The least worthy one; keeps the worthiest records: UseLedger.
  kOldest,     ///< The oldest; keeps records that were read since they were written: a clock.
};

/// The hints that a path carries out: it has one place, from which values are loaded.
inline constexpr HintMask kHints =
    static_cast<HintMask>(bit_of(Hint::kRetain) | bit_of(Hint::kRelease));

/// Everything one path is opened with; the parameter table of log_connector.cc fills it.
struct PathOptions {
  std::uint64_t capacity_bytes = 0;   ///< 0: the remembered one.
  std::uint64_t value_bytes_max = 0;  ///< 0: the remembered one, or the default.
  std::uint64_t segment_bytes = 0;    ///< 0: by the rule of make_geometry().
  std::uint32_t io_bytes = 4U << 20;  ///< Longest single transfer.
  /// Adjacent short records are written together up to this: sixteen of 64 KiB and a header.
  std::uint32_t coalesce_bytes = (1U << 20) + kGrainBytesMax;
  std::uint64_t staging_bytes = 64U << 20;  ///< Bounce memory for buffers that miss the alignment.
  std::uint32_t hash_threads = 1;           ///< 0: in line.
  bool has_file_thread = false;      ///< Calls to the file system do not keep the path waiting.
  std::uint32_t depth = 128;         ///< Transfers in flight.
  std::uint64_t min_free_bytes = 0;  ///< Least free space on the file system.
  std::uint64_t index_bytes_max = std::uint64_t{64} << 30;
  std::uint64_t stall_ns = 5'000'000'000;
  std::uint64_t miss_after_failure_ns = 30'000'000'000;
  BatchLimitOptions limits;
  std::uint64_t lock_wait_ns = 5'000'000'000;
  /// If set: counts the transfers of opening, for the thread that waits for it.
  std::shared_ptr<std::atomic<std::uint64_t>> opening_steps;
  double pins_share = 0.25;      ///< Share of the capacity that retained values may take.
  std::uint32_t events_max = 0;  ///< Size of the event ring; 0: none kept.
  SyncMode sync = SyncMode::kNone;
  EvictionOrder eviction = EvictionOrder::kWorth;
  AdmissionMode admission = AdmissionMode::kAll;
  /// Keys' worth is used.
  bool wants_worth() const noexcept {
    return eviction == EvictionOrder::kWorth || admission == AdmissionMode::kLearned;
  }
  bool delete_sync = false;  ///< Deletes are acknowledged after a sync, also under kNone.
  std::string owner_note;    ///< "pid 7 on host a": told to who finds the store locked.
  std::uint64_t id_seed =
      0;  ///< Tests: ids and secret of a new store from here; 0: from the kernel.
  std::uint32_t segments_min = kSegmentCountMin;  ///< Tests: fewer, from 4 on.
  /// Tests: of each half of a fingerprint only these bits are used, so that keys collide.
  std::uint64_t fingerprint_mask_for_test = ~std::uint64_t{0};
};

/// What an open asks of a store's sizes.
inline GeometryRequest geometry_request(const PathOptions& options,
                                        std::uint32_t offset_alignment) noexcept {
  return {.capacity_bytes = options.capacity_bytes,
          .value_bytes_max = options.value_bytes_max,
          .offset_alignment = offset_alignment,
          .segment_bytes = options.segment_bytes,
          .segments_min = options.segments_min};
}

/// Scatter list of one value: a header grain and padding join it in one transfer.
inline constexpr std::size_t kSlicesMax = 1000;

/// All work of a path competes for one disk, and so is in one lane of its intake.
inline constexpr LaneNumber kLane = 0;

/// Values from this size on are hashed by the hash threads, so that lookups do not wait for them.
inline constexpr std::uint64_t kHashInlineBytesMax = 256U << 10;

}  // namespace larder::log_store
