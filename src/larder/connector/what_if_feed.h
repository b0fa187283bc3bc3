#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/connector.h"
#include "larder/connector/hit_rate_sketch.h"

namespace larder {

/// How many bytes of a capacity a value takes.
struct CapacityModel {
  std::uint64_t capacity_bytes = 0;  ///< 0: the capacity has no bound, and nothing is estimated.
  std::uint64_t grain_bytes = 1;     ///< A value takes a multiple of it.

  std::uint64_t taken(std::uint64_t value_bytes) const noexcept {
    return (value_bytes + grain_bytes - 1) / grain_bytes * grain_bytes;
  }
};

/// Hashes that a connector makes of its keys in any case: 64 good bits, the same for the same key.
class KeyHashes {
 public:
  virtual ~KeyHashes() = default;
  virtual std::uint64_t hash_of(std::span<const std::byte> key) const noexcept = 0;
  /// The hash of an item whose lookup has ended, from the item where that can hold it.
  virtual std::uint64_t hash_of_lookup(const Item& item) const noexcept {
    return hash_of(item.key);
  }
};

/// Feeds a HitRateSketch with the outcome of a connector's batches, from any number of threads.
///
/// Asks: the keys of lookups, where at least as many are looked up as are loaded, as engines do;
///   else those of loads. Each key counts alone. A key that could not be answered (down, late,
///   failed before) is no ask. Loads, stores and touches are uses.
/// Way: a thread hashes the keys of its batch, and puts those of the sample into a ring of 4,096. A
///   thread that finds the sketch free moves up to 128 of them into it; no thread waits for
///   another. Records that find the ring full are lost and counted; above 1 % lost there is no
///   estimate.
/// Threads: any. Cost: a hash and a comparison for each key, two atomic additions for
///   each batch; and the sketch's for each key of the sample. Memory: that of the sketch, and 128
///   KiB.
class WhatIfFeed {
 public:
  /// `hashes` outlives it. Null: it hashes by itself.
  explicit WhatIfFeed(const CapacityModel& model, const KeyHashes* hashes = nullptr);
  WhatIfFeed(const WhatIfFeed&) = delete;
  WhatIfFeed& operator=(const WhatIfFeed&) = delete;

  /// Once for each batch, when every item has its outcome.
  void note(const Batch& batch) noexcept {
    if (sketch_ != nullptr) note_batch(batch);
  }
  /// Lookups without a batch.
  void note_lookups(std::span<const Item> items) noexcept {
    if (sketch_ != nullptr) note_asks(Kind::kLookup, items);
  }
  /// Sets `what_if` where there is an estimate.
  void append_report(Report& report) LARDER_EXCLUDES(mutex_);

 private:
  enum class Kind : std::uint8_t { kLookup = 0, kLoad, kUse, kTouch, kErase };
  struct Record {
    std::uint64_t hash = 0;
    std::uint64_t bytes = 0;  ///< For a use. For an ask: 1 for a hit.
    Kind kind = Kind::kLookup;
  };
  struct Cell {
    std::atomic<std::uint64_t> number = 0;  ///< Number of its record, counted from 1.
    Record record;
  };
  struct Asked {
    std::atomic<std::uint64_t> keys = 0;
    std::atomic<std::uint64_t> hits = 0;
  };
  class Pushing;

  std::uint64_t hash_of(const Item& item, Kind kind) const noexcept;
  void note_batch(const Batch& batch) noexcept;
  void note_asks(Kind kind, std::span<const Item> items) noexcept;
  void push(std::span<const Record> records) noexcept;
  void drain_if_nobody_does() noexcept LARDER_EXCLUDES(mutex_);
  void drain(std::size_t records_max) noexcept LARDER_REQUIRES(mutex_);
  void count() noexcept LARDER_REQUIRES(mutex_);
  bool are_asks(Kind kind) const noexcept LARDER_REQUIRES(mutex_);
  void take(const Record& record) noexcept LARDER_REQUIRES(mutex_);

  const CapacityModel model_;
  const KeyHashes* const hashes_;
  /// Null: there is no capacity. mutex_ guards its state.
  const std::unique_ptr<HitRateSketch> sketch_;

  std::atomic<std::uint64_t> threshold_ = 0;  ///< The sketch's.
  std::array<Asked, 2> asked_;                ///< By Kind; asks that count() has not read yet.
  std::atomic<std::uint64_t> lost_ = 0;       ///< The same.

  std::vector<Cell> ring_;
  alignas(64) std::atomic<std::uint64_t> tail_ = 0;  ///< Position of the next record.
  alignas(64) std::atomic<std::uint64_t> head_ = 0;  ///< Changes under mutex_.

  Mutex mutex_;
  std::array<std::uint64_t, 2> recent_ LARDER_GUARDED_BY(mutex_){};  ///< Keys, by Kind.
};

}  // namespace larder
