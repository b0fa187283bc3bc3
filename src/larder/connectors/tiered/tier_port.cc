#include "larder/connectors/tiered/tier_port.h"

#include <algorithm>
#include <array>

namespace larder::tiered {
namespace {

void add(std::atomic<std::uint64_t>& counter, std::uint64_t by) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

}  // namespace

/// The connector that the engine sees. Only the engine's thread uses it.
class TierPort::Face final : public Connector {
 public:
  explicit Face(TierPort& port) : port_(port) {}

  Status submit(Batch& batch) noexcept override { return port_.submit_of_engine(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override {
    std::vector<Batch*>& ended = port_.of_engine_;
    const std::size_t count = std::min(done.size(), ended.size());
    std::copy_n(ended.begin(), count, done.begin());
    ended.erase(ended.begin(), ended.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  int event_fd() const noexcept override { return port_.connector_->event_fd(); }
  void cancel(Batch& batch) noexcept override {
    // Operations that have come back are not the connector's any more.
    if (std::ranges::find(port_.of_engine_, &batch) != port_.of_engine_.end()) return;
    port_.connector_->cancel(batch);
  }
  bool probe(std::span<Item> items) const noexcept override {
    return port_.connector_->probe(items);
  }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return port_.connector_->load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override { return port_.connector_->capabilities(); }
  Report report() const override { return port_.connector_->report(); }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return port_.connector_->scan(from, keys_max);
  }
  Status stop(std::uint64_t /*deadline_ns*/) noexcept override { return {}; }

 private:
  TierPort& port_;
};

TierPort::TierPort(std::unique_ptr<Connector> connector, KeyTable& keys)
    : connector_(std::move(connector)), keys_(keys) {}

TierPort::~TierPort() = default;

std::unique_ptr<Connector> TierPort::make_face() {
  return std::make_unique<Face>(*this);
}

Status TierPort::submit_of_engine(Batch& batch) noexcept {
  // It must not stay queued in the engine: a store would begin when its key is in other hands.
  batch.waits_for_room = true;
  LARDER_TRY(connector_->submit(batch));
  if (batch.op == Op::kSet) {
    for (const Item& item : batch.items) keys_.begin_store(item.key);
  }
  return {};
}

Status TierPort::submit(Call& call) noexcept {
  call.batch.items = call.items;
  call.batch.user_data = &call;
  call.batch.waits_for_room = true;  // The outer limits are the bound.
  own_.insert(&call.batch);
  const Status submitted = connector_->submit(call.batch);
  if (submitted) return {};
  own_.erase(&call.batch);
  for (Item& item : call.items) {
    item.outcome = Outcome::kFailed;
    item.error = submitted.error();
  }
  note(call.batch);
  return submitted;
}

void TierPort::cancel(const Operation& operation) noexcept {
  for (Batch* const batch : own_) {
    if (static_cast<Call*>(batch->user_data)->operation == &operation) connector_->cancel(*batch);
  }
}

bool TierPort::reap(std::vector<Call*>& ended) noexcept {
  std::array<Batch*, 64> done{};
  while (const std::size_t count = connector_->reap(done)) {
    for (Batch* const batch : std::span{done}.first(count)) {
      note(*batch);
      if (own_.erase(batch) != 0) {
        ended.push_back(static_cast<Call*>(batch->user_data));
        continue;
      }
      if (batch->op == Op::kSet) {
        for (const Item& item : batch->items) keys_.end_store(item.key);
      }
      of_engine_.push_back(batch);
    }
  }
  return !of_engine_.empty();
}

void TierPort::note(const Batch& batch) noexcept {
  if (batch.op != Op::kGet && batch.op != Op::kSet) return;
  for (const Item& item : batch.items) {
    const bool is_get = batch.op == Op::kGet;
    if (item.outcome == Outcome::kFailed) {
      add(is_get ? counters_.load_failures : counters_.store_failures, 1);
    } else if (item.outcome == Outcome::kMiss) {
      add(counters_.misses, 1);
    } else if (is_get) {
      add(counters_.hits, 1);
      add(counters_.bytes_loaded, item.value_bytes);
    } else if (!item.existed) {
      add(counters_.stores, 1);
      add(counters_.bytes_stored, bytes_of(item.value));
    }
  }
}

}  // namespace larder::tiered
