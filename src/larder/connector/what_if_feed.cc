#include "larder/connector/what_if_feed.h"

#include <ranges>

#include "larder/base/hash.h"

namespace larder {
namespace {

constexpr std::size_t kRing = 4096;
constexpr std::size_t kPushedTogether = 32;
/// More than are pushed together, so that the ring does not fill.
constexpr std::size_t kDrainedTogether = 128;
/// The age, in keys, at which an ask counts half when lookups or loads are chosen.
constexpr std::uint64_t kRecentMost = std::uint64_t{1} << 20;
/// "what if": the sample must differ from those of hash tables.
constexpr std::uint64_t kSeed = 0x7768'6174'2069'6621;

/// Nothing but its absence made it a miss.
bool is_answered(const Item& item) noexcept {
  return item.outcome == Outcome::kHit ||
         (item.outcome == Outcome::kMiss && item.miss_reason == MissReason::kAbsent);
}

}  // namespace

/// The sampled records of one batch, on their way.
class WhatIfFeed::Pushing {
 public:
  explicit Pushing(WhatIfFeed& feed) noexcept
      : feed_(feed), threshold_(feed.threshold_.load(std::memory_order_relaxed)) {}
  Pushing(const Pushing&) = delete;
  Pushing& operator=(const Pushing&) = delete;
  ~Pushing() { flush(); }

  void add(const Item& item, Kind kind, std::uint64_t bytes) noexcept {
    const std::uint64_t hash = feed_.hash_of(item, kind);
    if (hash >= threshold_) return;
    records_[size_++] = {hash, bytes, kind};
    if (size_ == records_.size()) flush();
  }

 private:
  void flush() noexcept {
    if (size_ == 0) return;
    feed_.push(std::span{records_}.first(size_));
    size_ = 0;
    feed_.drain_if_nobody_does();
  }

  WhatIfFeed& feed_;
  const std::uint64_t threshold_;
  std::size_t size_ = 0;
  std::array<Record, kPushedTogether> records_;
};

WhatIfFeed::WhatIfFeed(const CapacityModel& model, const KeyHashes* hashes)
    : model_(model),
      hashes_(hashes),
      sketch_(model.capacity_bytes == 0 ? nullptr
                                        : std::make_unique<HitRateSketch>(HitRateSketch::Options{
                                              .capacity_bytes = model.capacity_bytes})),
      ring_(sketch_ == nullptr ? 0 : kRing) {
  if (sketch_ != nullptr) threshold_.store(sketch_->threshold(), std::memory_order_relaxed);
}

// ---- The threads that end batches.

std::uint64_t WhatIfFeed::hash_of(const Item& item, Kind kind) const noexcept {
  if (hashes_ == nullptr) return hash64(item.key, kSeed);
  return kind == Kind::kLookup ? hashes_->hash_of_lookup(item) : hashes_->hash_of(item.key);
}

void WhatIfFeed::note_batch(const Batch& batch) noexcept {
  switch (batch.op) {
    case Op::kExists:
      return note_asks(Kind::kLookup, batch.items);
    case Op::kGet:
      note_asks(Kind::kLoad, batch.items);
      break;
    case Op::kSet:
    case Op::kTouch:
    case Op::kDelete:
      break;
  }
  // Tails before heads: the key that is used last is evicted last.
  Pushing pushing{*this};
  for (const Item& item : batch.items | std::views::reverse) {
    if (item.outcome == Outcome::kHit) {
      pushing.add(item, Kind::kUse, model_.taken(item.value_bytes));
    } else if (item.outcome == Outcome::kDone && batch.op == Op::kSet) {
      pushing.add(item, Kind::kUse, model_.taken(bytes_of(item.value)));
    } else if (item.outcome == Outcome::kDone) {
      pushing.add(item, batch.op == Op::kTouch ? Kind::kTouch : Kind::kErase, 0);
    }
  }
}

void WhatIfFeed::note_asks(Kind kind, std::span<const Item> items) noexcept {
  std::uint64_t keys = 0;
  std::uint64_t hits = 0;
  Pushing pushing{*this};
  for (const Item& item : items) {
    if (!is_answered(item)) continue;
    const std::uint64_t is_hit = item.outcome == Outcome::kHit ? 1 : 0;
    ++keys;
    hits += is_hit;
    pushing.add(item, kind, is_hit);
  }
  Asked& asked = asked_[static_cast<std::size_t>(kind)];
  if (keys > 0) asked.keys.fetch_add(keys, std::memory_order_relaxed);
  if (hits > 0) asked.hits.fetch_add(hits, std::memory_order_relaxed);
}

/// Pushes all of them or none.
void WhatIfFeed::push(std::span<const Record> records) noexcept {
  std::uint64_t tail = tail_.load(std::memory_order_relaxed);
  do {
    // Acquire: the thread that took out the records at these positions has read them.
    if (tail + records.size() - head_.load(std::memory_order_acquire) > kRing) {
      lost_.fetch_add(records.size(), std::memory_order_relaxed);
      return;
    }
  } while (!tail_.compare_exchange_weak(tail, tail + records.size(), std::memory_order_relaxed));
  for (const Record& record : records) {
    Cell& cell = ring_[tail % kRing];
    cell.record = record;
    cell.number.store(++tail, std::memory_order_release);
  }
}

// ---- The thread that holds the sketch.

void WhatIfFeed::drain_if_nobody_does() noexcept {
  if (!mutex_.try_lock()) return;
  drain(kDrainedTogether);
  mutex_.unlock();
}

void WhatIfFeed::count() noexcept {
  for (const Kind kind : {Kind::kLookup, Kind::kLoad}) {
    const auto index = static_cast<std::size_t>(kind);
    const std::uint64_t keys = asked_[index].keys.exchange(0, std::memory_order_relaxed);
    const std::uint64_t hits = asked_[index].hits.exchange(0, std::memory_order_relaxed);
    recent_[index] += keys;
    if (recent_[index] > kRecentMost) {
      for (std::uint64_t& recent : recent_) recent /= 2;
    }
    if (are_asks(kind)) sketch_->count(keys, hits);
  }
  sketch_->note_lost(lost_.exchange(0, std::memory_order_relaxed));
}

void WhatIfFeed::drain(std::size_t records_max) noexcept {
  count();
  std::uint64_t head = head_.load(std::memory_order_relaxed);
  for (std::size_t taken = 0; taken < records_max; ++taken) {
    const Cell& cell = ring_[head % kRing];
    if (cell.number.load(std::memory_order_acquire) != head + 1) break;
    take(cell.record);
    ++head;
  }
  head_.store(head, std::memory_order_release);
  threshold_.store(sketch_->threshold(), std::memory_order_relaxed);
}

bool WhatIfFeed::are_asks(Kind kind) const noexcept {
  const bool are_lookups = recent_[0] >= recent_[1];
  return (kind == Kind::kLookup) == are_lookups;
}

void WhatIfFeed::take(const Record& record) noexcept {
  switch (record.kind) {
    case Kind::kLookup:
    case Kind::kLoad:
      if (!are_asks(record.kind)) return;
      sketch_->begin_request();
      return sketch_->ask(record.hash, record.bytes != 0);
    case Kind::kUse:
      return sketch_->use(record.hash, record.bytes);
    case Kind::kTouch:
      return sketch_->use(record.hash, std::nullopt);
    case Kind::kErase:
      return sketch_->erase(record.hash);
  }
}

void WhatIfFeed::append_report(Report& report) {
  if (sketch_ == nullptr) return;
  const MutexLock lock{mutex_};
  drain(kRing);
  report.what_if = sketch_->estimate();
  report.what_if.of = are_asks(Kind::kLookup) ? BatchClass::kLookup : BatchClass::kLoad;
}

}  // namespace larder
