#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "larder/connector/report.h"

namespace larder {

/// Estimates the hit rate of an LRU cache with half, the same, twice and an unlimited capacity in
/// bytes, and measures the actual one, from a sample of the keys that are asked for.
///
/// Method: SHARDS with a fixed size (Waldspurger, Park, Garthwaite, Ahmad: "Efficient MRC
/// construction with SHARDS", USENIX FAST 2015). A key is in the sample if its hash is below a
/// threshold, which sinks as the sample fills, so that all uses of one key are seen or none is. The
/// sample is kept as a recency stack (Mattson, Gecsei, Slutz, Traiger, IBM Systems Journal 9(2),
/// 1970) with a Fenwick tree over the bytes: the bytes used since a key's last use, divided by the
/// sampled share, are the capacity from which on the key is resident. Misses are counted by their
/// weight, the inverse of the share, and divided by all asks (SHARDS-adj).
///
/// Beyond SHARDS: the stack ends a little deeper than twice the capacity, so that the sample does
/// not thin out over months. Keys that fall out of it stay in a second sample of a lower threshold,
/// which tells for the unlimited capacity whether a key was ever there.
///
/// Prefixes: where a key stands for a whole prefix, ask() gets the keys of a request from its head
/// on, and use() from its tail on. Then a key is never there without those before it, and the
/// estimate, which counts each key, is that of the longest resident prefix, as in `larder size`.
/// Where keys are not prefixes, begin_request() makes the deepest key of a request count.
///
/// Ageing: counts are halved each half_life_asks sampled asks, that is about twice the number of
/// keys that twice the capacity holds; a phase that has ended weighs 1/8 three of these spans
/// later. Those of the unlimited capacity are halved after half as many asks of the second sample.
/// Time alone does not age anything.
///
/// Error, of the hit rate: below 0.02 (a test compares with the exact curve of `larder size`); none
/// up to keys_max keys. An estimate has at least 1,000 sampled asks and 100 sampled keys, or it is
/// not known yet. It is an estimate for LRU: `same` and the measured rate differ by the effects of
/// policy, overheads and deletions. Keys that were stored before the sketch began are unknown to
/// it: while such keys are hit, capacities other than the same have no estimate yet.
///
/// Deterministic. Threads: one. Memory: 390 KiB with the default options, no allocation after the
/// construction. Cost: a comparison for a key outside the sample, 50 to 150 ns for one in it
/// (bench/what_if_benchmark.cc). The share of these is keys_max to the keys that twice the capacity
/// holds.
class HitRateSketch {
 public:
  struct Options {
    std::uint64_t capacity_bytes = 0;      ///< Above 0.
    std::uint32_t keys_max = 4096;         ///< Keys in each of the two samples. From 64 to 2^20.
    std::uint32_t half_life_asks = 16384;  ///< At least 4096.
  };

  explicit HitRateSketch(const Options& options);

  /// A key belongs to the sample if its hash, 64 good bits, is below it. It only sinks.
  std::uint64_t threshold() const noexcept { return threshold_; }

  /// Counts asks, of sampled keys or not, and the hits among them.
  void count(std::uint64_t asked, std::uint64_t hits) noexcept {
    asked_ += static_cast<double>(asked);
    far_asked_ += static_cast<double>(asked);
    hits_ += static_cast<double>(hits);
  }
  /// The keys asked for next are a prefix in their order: one is hit only where all before it are.
  void begin_request() noexcept {
    deepest_ = 0;
    was_never_there_ = false;
  }
  /// A sampled key is asked for; count() has it, too. It moves nowhere: a hit, or the store after a
  /// miss, is a use().
  void ask(std::uint64_t hash, bool was_hit) noexcept {
    if (hash < threshold_) [[unlikely]]
      ask_sampled(hash, was_hit);
  }
  /// A sampled key was loaded or stored, or refreshed: it is the most recent one now. Without
  /// `bytes` it keeps its size; where that is not known the call does nothing.
  void use(std::uint64_t hash, std::optional<std::uint64_t> bytes) noexcept {
    if (hash < threshold_) [[unlikely]]
      use_sampled(hash, bytes);
  }
  /// The same of a key that was found after it had been asked for as one that was not.
  void use_found(std::uint64_t hash, std::uint64_t bytes) noexcept;
  void erase(std::uint64_t hash) noexcept;
  /// Every key was deleted.
  void erase_all() noexcept;
  /// Counts sampled asks or uses that were lost before they reached the sketch.
  void note_lost(std::uint64_t records) noexcept { lost_ += static_cast<double>(records); }

  WhatIf estimate() const noexcept;
  std::uint32_t keys() const noexcept { return near_ + far_; }
  std::size_t memory_bytes() const noexcept;

 private:
  static constexpr std::size_t kFactors = 3;  ///< Half, same, double.
  static constexpr std::uint32_t kNone = 0xFFFF'FFFF;
  static constexpr std::uint32_t kFar = 0xFFFF'FFFE;  ///< A slot: it has left the stack.
  static constexpr std::size_t kBlock = 16;           ///< Slots that the tree counts together.

  struct Entry {
    std::uint64_t hash = 0;  ///< 0: the place is empty.
    std::uint32_t slot = kNone;
  };
  struct Slot {
    std::uint64_t hash = 0;  ///< 0: the slot is empty.
    std::uint64_t bytes = 0;
  };

  void ask_sampled(std::uint64_t hash, bool was_hit) noexcept;
  void use_sampled(std::uint64_t hash, std::optional<std::uint64_t> bytes) noexcept;
  static std::uint64_t stored(std::uint64_t hash) noexcept { return hash == 0 ? 1 : hash; }
  std::size_t place_of(std::uint64_t hash) const noexcept;
  Entry* find(std::uint64_t hash) noexcept;
  bool is_known(double capacity_bytes) const noexcept;
  void remove(std::size_t place) noexcept;
  void push(std::uint64_t hash, std::uint64_t bytes) noexcept;
  void take_from_stack(std::uint32_t slot) noexcept;
  void take_out(const Entry& entry) noexcept;
  void add(std::uint32_t slot, std::uint64_t bytes) noexcept;
  std::uint64_t bytes_above(std::uint32_t slot) const noexcept;
  double depth_of(std::uint32_t slot) const noexcept;
  void move_together() noexcept;
  void cut() noexcept;
  void thin_out() noexcept;
  void sweep() noexcept;
  void decay() noexcept;
  void decay_far() noexcept;

  const Options options_;
  std::uint64_t threshold_;      ///< Of both samples.
  std::uint64_t far_threshold_;  ///< For keys that left the stack; not above threshold_.
  double weight_ = 1;            ///< Of a key below threshold_, and of one below far_threshold_.
  double far_weight_ = 1;
  std::vector<Entry> table_;         ///< Probed linearly, at most half full.
  std::vector<Slot> slots_;          ///< The last use is the highest.
  std::vector<std::uint64_t> tree_;  ///< Fenwick: bytes by block of slots.
  std::uint32_t next_slot_ = 0;
  std::uint32_t lowest_slot_ = 0;  ///< There is nothing below it.
  std::uint32_t near_ = 0;         ///< Keys in the stack.
  std::uint32_t far_ = 0;
  std::uint64_t near_bytes_ = 0;
  bool was_cut_ = false;          ///< A key has left the stack.
  double deepest_ = 0;            ///< Of the request.
  bool was_never_there_ = false;  ///< Any key of the request.

  // Decaying: keys by weight, except those that count samples.
  double asked_ = 0;
  double hits_ = 0;
  std::array<double, kFactors> missed_{};
  double unknown_ = 0;  ///< Hits of keys from before the sketch began.
  double lost_ = 0;     ///< Samples.
  double samples_ = 0;  ///< Sampled asks.
  std::uint32_t asks_until_decay_;
  // The same below far_threshold_.
  double far_asked_ = 0;
  double never_there_ = 0;  ///< Misses of the unlimited capacity.
  double far_samples_ = 0;
  std::uint32_t far_asks_until_decay_;
};

}  // namespace larder
