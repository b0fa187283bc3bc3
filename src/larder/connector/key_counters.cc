#include "larder/connector/key_counters.h"

namespace larder {

void KeyCounters::note(const Batch& batch) noexcept {
  if (batch.op != Op::kGet && batch.op != Op::kSet) return;
  std::array<std::uint64_t, kNames> counts{};
  for (const Item& item : batch.items) {
    switch (item.outcome) {
      case Outcome::kHit:
        ++counts[kHits];
        counts[kBytesLoaded] += item.value_bytes;
        break;
      case Outcome::kMiss:
        ++counts[kMisses];
        break;
      case Outcome::kDone:
        ++counts[item.existed ? kSetsExisted : kSets];
        if (!item.existed) counts[kBytesStored] += bytes_of(item.value);
        break;
      case Outcome::kFailed:
      case Outcome::kPending:
        ++counts[batch.op == Op::kGet ? kGetFailures : kSetFailures];
        break;
    }
  }
  for (std::size_t i = 0; i < kNames; ++i) {
    if (counts[i] > 0) totals_[i].fetch_add(counts[i], std::memory_order_relaxed);
  }
}

void KeyCounters::append(std::vector<Counter>& counters) const {
  constexpr std::array<const char*, kNames> kTexts{
      "hits_total",         "misses_total",       "get_failures_total", "sets_total",
      "sets_existed_total", "set_failures_total", "bytes_loaded_total", "bytes_stored_total"};
  for (std::size_t i = 0; i < kNames; ++i) {
    counters.push_back({kTexts[i], totals_[i].load(std::memory_order_relaxed)});
  }
}

}  // namespace larder
