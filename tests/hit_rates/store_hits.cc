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

  void run(std::span<const Block> chain) {
    const std::size_t hits = find(chain);
    total_.hits += hits;
    total_.misses += chain.size() - hits;
    load(chain.first(hits));
    store(chain.subspan(hits));
  }
  const StoreHits& total() const noexcept { return total_; }

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
    if (!client_.run(batch)) ++total_.failures;
  }

  std::size_t find(std::span<const Block> chain) {
    run(batch_of(Op::kExists, chain, {}));
    std::size_t found = 0;
    while (found < items_.size() && items_[found].outcome == Outcome::kHit) ++found;
    return found;
  }
  void load(std::span<const Block> chain) {
    if (chain.empty()) return;
    run(batch_of(Op::kGet, chain, loaded_));
    for (const Item& item : items_) {
      if (item.outcome == Outcome::kHit) {
        ++total_.loaded;
      } else if (item.outcome != Outcome::kMiss) {
        ++total_.failures;
      }
    }
  }
  void store(std::span<const Block> chain) {
    if (chain.empty()) return;
    Batch& batch = batch_of(Op::kSet, chain, value_);
    batch.set_mode = SetMode::kIfAbsent;
    run(batch);
    for (const Item& item : items_) total_.failures += item.outcome == Outcome::kDone ? 0 : 1;
  }

  BlockingClient client_;
  std::vector<std::byte> value_;
  std::vector<std::byte> loaded_;
  Slice slice_;
  std::vector<Block> keys_;
  std::vector<Item> items_;
  std::optional<Batch> batch_;
  StoreHits total_;
};

}  // namespace

StoreHits run_workload(Connector& store, const cache::testing::Workload& workload,
                       std::size_t value_bytes) {
  Requests requests{store, value_bytes};
  for (std::size_t i = 0; i < workload.requests(); ++i) requests.run(workload.chain(i));
  return requests.total();
}

}  // namespace larder::testing
