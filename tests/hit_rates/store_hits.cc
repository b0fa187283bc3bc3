#include "tests/hit_rates/store_hits.h"

#include <optional>
#include <vector>

#include "larder/connector/blocking_client.h"

namespace larder::testing {
namespace {

using Block = cache::testing::Workload::Block;

class Requests {
 public:
  Requests(Connector& store, std::size_t value_bytes)
      : client_(store), value_(value_bytes), loaded_(value_bytes) {}

  void run(std::span<const Block> chain, StoreHits& total) {
    const std::size_t hits = find(chain);
    total.hits += hits;
    total.misses += chain.size() - hits;
    total.loaded += load(chain.first(hits));
    store(chain.subspan(hits));
  }
  std::uint64_t failures() const noexcept { return failures_; }

 private:
  /// A batch of the chain's keys, with the slice of all of them.
  Batch& batch_of(Op op, std::span<const Block> chain, std::span<std::byte> memory) {
    slice_ = {.data = memory.data(), .bytes = memory.size()};
    keys_.assign(chain.begin(), chain.end());
    items_.assign(chain.size(), {});
    for (std::size_t i = 0; i < chain.size(); ++i) {
      items_[i].key = std::as_bytes(std::span{&keys_[i], 1});
      if (!memory.empty()) items_[i].value = {&slice_, 1};
    }
    Batch& batch = batch_.emplace();
    batch.op = op;
    batch.items = items_;
    return batch;
  }
  void run(Batch& batch) {
    if (!client_.run(batch)) ++failures_;
  }

  std::size_t find(std::span<const Block> chain) {
    run(batch_of(Op::kExists, chain, {}));
    std::size_t found = 0;
    while (found < items_.size() && items_[found].outcome == Outcome::kHit) ++found;
    return found;
  }
  std::size_t load(std::span<const Block> chain) {
    if (chain.empty()) return 0;
    run(batch_of(Op::kGet, chain, loaded_));
    std::size_t loaded = 0;
    for (const Item& item : items_) {
      if (item.outcome == Outcome::kHit) {
        ++loaded;
      } else if (item.outcome != Outcome::kMiss) {
        ++failures_;
      }
    }
    return loaded;
  }
  void store(std::span<const Block> chain) {
    if (chain.empty()) return;
    Batch& batch = batch_of(Op::kSet, chain, value_);
    batch.set_mode = SetMode::kIfAbsent;
    run(batch);
    for (const Item& item : items_) failures_ += item.outcome == Outcome::kDone ? 0 : 1;
  }

  BlockingClient client_;
  std::vector<std::byte> value_;
  std::vector<std::byte> loaded_;
  Slice slice_;
  std::vector<Block> keys_;
  std::vector<Item> items_;
  std::optional<Batch> batch_;
  std::uint64_t failures_ = 0;
};

}  // namespace

StoreHits run_workload(Connector& store, const cache::testing::Workload& workload,
                       std::size_t value_bytes, std::uint64_t& failures) {
  Requests requests{store, value_bytes};
  StoreHits total;
  for (std::size_t i = 0; i < workload.requests(); ++i) requests.run(workload.chain(i), total);
  failures = requests.failures();
  return total;
}

}  // namespace larder::testing
