#include "larder/tools/tier_counts.h"

namespace larder::tools {
namespace {

class CountingTier final : public Connector {
 public:
  CountingTier(Connector& inner, TierCounts& counts) : inner_(inner), counts_(counts) {}

  Status submit(Batch& batch) noexcept override { return inner_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override {
    const std::size_t count = inner_.reap(done);
    for (const Batch* const batch : done.first(count)) note(*batch);
    return count;
  }
  int event_fd() const noexcept override { return inner_.event_fd(); }
  void cancel(Batch& batch) noexcept override { inner_.cancel(batch); }
  bool probe(std::span<Item> items) const noexcept override { return inner_.probe(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return inner_.load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override { return inner_.capabilities(); }
  Report report() const override { return inner_.report(); }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return inner_.scan(from, keys_max);
  }
  Status stop(std::uint64_t /*deadline_ns*/) noexcept override { return {}; }

 private:
  void note(const Batch& batch) {
    for (const Item& item : batch.items) {
      switch (batch.op) {
        case Op::kGet:
          note_load(item);
          break;
        case Op::kSet:
          note_store(item);
          break;
        default:
          note_failure(item, counts_.lookup_failures);
      }
    }
  }

  void note_load(const Item& item) {
    note_failure(item, counts_.load_failures);
    if (item.outcome == Outcome::kMiss) ++counts_.load_misses;
    if (item.outcome != Outcome::kHit) return;
    ++counts_.values_loaded;
    counts_.bytes_loaded += item.value_bytes;
  }

  void note_store(const Item& item) {
    if (item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kResourceExhausted) {
      count_failure(item.error, counts_.stores_refused);
      return;
    }
    note_failure(item, counts_.store_failures);
    if (item.outcome != Outcome::kDone) return;
    if (item.existed) {
      ++counts_.already_there;
      return;
    }
    ++counts_.values_stored;
    counts_.bytes_stored += bytes_of(item.value);
  }

  static void note_failure(const Item& item, Failures& failures) {
    if (item.outcome != Outcome::kFailed || item.error.code() == ErrorCode::kCancelled) return;
    count_failure(item.error, failures[item.error.code()]);
  }

  Connector& inner_;
  TierCounts& counts_;
};

}  // namespace

std::unique_ptr<Connector> count_tier(Connector& inner, TierCounts& counts) {
  return std::make_unique<CountingTier>(inner, counts);
}

}  // namespace larder::tools
