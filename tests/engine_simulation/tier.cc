#include "tests/engine_simulation/tier.h"

#include <algorithm>
#include <array>
#include <utility>

#include "larder/connector/slices.h"
#include "tests/engine_simulation/lookup_watch.h"

namespace larder::cache::simulation {

/// What an engine holds of a tier.
class TierUnderTest::Shell final : public Connector {
 public:
  explicit Shell(TierUnderTest& tier) : tier_(tier) {}
  Status submit(Batch& batch) noexcept override { return tier_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return tier_.reap(done); }
  int event_fd() const noexcept override { return -1; }
  void cancel(Batch& batch) noexcept override { tier_.cancel(batch); }
  bool probe(std::span<Item> items) const noexcept override { return tier_.probe(items); }
  Capabilities capabilities() const noexcept override {
    Capabilities capabilities = tier_.inner_->capabilities();
    capabilities.has_probe = tier_.plan_.has_probe;
    return capabilities;
  }
  Report report() const override { return {}; }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return tier_.inner_->scan(from, keys_max);
  }
  Status stop(std::uint64_t) noexcept override { return {}; }

 private:
  TierUnderTest& tier_;
};

TierUnderTest::TierUnderTest(World& world, TierId number)
    : world_(world), number_(number), plan_(world.plan.tiers[number]) {
  if (plan_.is_log) {
    log_ = std::make_unique<LogTier>(world.seed, 4 * world.plan.unit_bytes, world.now_ns);
    inner_ = log_.get();
    return;
  }
  owned_scripted_ = std::make_unique<ScriptedTier>();
  scripted_ = owned_scripted_.get();
  inner_ = scripted_;
  scripted_->copies = true;
  scripted_->holds = plan_.holds;
  scripted_->ignores_cancel = plan_.ignores_cancel;
  scripted_->has_probe = plan_.has_probe;
  scripted_->locality = plan_.locality;
}

std::unique_ptr<Connector> TierUnderTest::connect() {
  return std::make_unique<Shell>(*this);
}

void TierUnderTest::fill() {
  if (scripted_ == nullptr || !plan_.is_filled) return;
  for (std::uint32_t number = 0; number < world_.plan.prompts * kSpaces; ++number) {
    const std::uint32_t space = number % kSpaces;
    const std::uint32_t prompt = number / kSpaces;
    if (world_.one_in(4)) continue;
    const bool is_value = space == kValueSpace;
    const std::uint32_t rows = is_value ? 1 : world_.ranks() * world_.groups();
    const std::uint32_t cells = (1 + world_.below32(kChunksMax)) * rows;
    const std::uint64_t version = world_.oracle.next_version();
    for (std::uint32_t i = 0; i < cells; ++i) {
      CellId cell{space, prompt, i / rows, 0, 0};
      if (!is_value) {
        cell.rank = i / world_.groups() % world_.ranks();
        cell.group = i % world_.groups();
      }
      const std::uint64_t bytes = is_value ? world_.bytes_of_value(prompt, cell.chunk)
                                           : world_.layout.groups[cell.group].cell_bytes;
      std::string& value = scripted_->values[key_of(cell)];
      value.resize(bytes);
      write_version(std::as_writable_bytes(std::span{value}), cell, version);
      scripted_->sizes[key_of(cell)] = bytes;
      world_.oracle.commit(cell, version);
      had_since_[cell] = 0;
    }
  }
}

// ---- What the engine does.

Status TierUnderTest::submit(Batch& batch) noexcept {
  Flight flight;
  flight.batch = &batch;
  flight.load_disturbances = world_.load_disturbances;
  flight.overtakes = world_.overtakes;
  look_at(batch, flight);
  if (world_.purges.running().empty() && batch.op == Op::kDelete) {
    world_.fail("E36: something is deleted that nobody purges");
  }
  flights_.push_back(flight);
  const Status submitted = inner_->submit(batch);
  world_.log(
      {20, number_, static_cast<std::uint64_t>(batch.op), batch.items.size(), submitted ? 1U : 0U});
  if (submitted) return submitted;
  world_.coverage.note(Seen::kTierRefused);
  if (flight.is_store) paused_until_ns_ = down_until_ns_ = retry_ns();
  world_.memory.remove(flight.use);
  std::erase_if(flights_, [&](const Flight& other) { return other.batch == &batch; });
  return submitted;
}

std::size_t TierUnderTest::reap(std::span<Batch*> done) noexcept {
  const std::size_t count = inner_->reap(done);
  for (const Batch* const batch : done.first(count)) {
    const auto at = std::ranges::find(flights_, batch, &Flight::batch);
    if (at == flights_.end()) {
      world_.fail("C1: a batch comes back twice");
      continue;
    }
    const Flight flight = *at;
    flights_.erase(at);
    world_.memory.remove(flight.use);
    on_ended(flight);
  }
  return count;
}

void TierUnderTest::cancel(Batch& batch) noexcept {
  const auto at = std::ranges::find(flights_, &batch, &Flight::batch);
  world_.expect(at != flights_.end(), "P4: a batch is cancelled that is not in flight");
  if (at != flights_.end()) at->is_cancelled = true;
  inner_->cancel(batch);
}

bool TierUnderTest::probe(std::span<Item> items) noexcept {
  if (!plan_.has_probe || !inner_->probe(items)) return false;
  watch_->on_probe(items);
  return true;
}

// ---- What happens to it.

/// Of each item of the batch by chance.
void TierUnderTest::fail_some_of(const Batch& batch) {
  for (const Item& item : batch.items) {
    if (world_.one_in(2)) continue;
    const std::string key{reinterpret_cast<const char*>(item.key.data()), item.key.size()};
    if (batch.op == Op::kGet) scripted_->failing.insert(key);
    if (batch.op == Op::kSet) scripted_->failing_stores.insert(key);
    if (batch.op == Op::kDelete) scripted_->failing_deletes.insert(key);
  }
}

void TierUnderTest::event() {
  if (scripted_ == nullptr || !plan_.has_faults) return finish_some();
  ScriptedTier& tier = *scripted_;
  switch (world_.below(9)) {
    case 0:
      tier.is_down = !tier.is_down;
      up_since_ = world_.steps;
      world_.coverage.note(Seen::kTierDown);
      if (has_loads()) world_.coverage.note(Seen::kTierDownDuringLoad);
      break;
    case 1:
      tier.fail_all(plan_.fails ? ErrorCode::kIo : ErrorCode::kUnavailable);
      break;
    case 2:
      tier.refuses = tier.refuses == ErrorCode::kNone && world_.one_in(2)
                         ? ErrorCode::kResourceExhausted
                         : ErrorCode::kNone;
      break;
    case 3:
    case 5:
      if (plan_.fails && !tier.held.empty()) {
        fail_some_of(*tier.held[static_cast<std::size_t>(world_.below(tier.held.size()))]);
      }
      break;
    case 4:
      tier.is_full = !tier.is_full && world_.one_in(2);
      if (tier.is_full) world_.coverage.note(Seen::kTierFull);
      break;
    default:
      break;
  }
  if (world_.one_in(6)) tier.failing.clear();
  if (world_.one_in(20)) tier.failing_stores.clear();
  if (world_.one_in(6)) tier.failing_deletes.clear();
  finish_some();
}

void TierUnderTest::finish_some() {
  if (scripted_ != nullptr) {
    std::uint64_t left = 1 + world_.below(4);
    for (; left > 0 && !scripted_->held.empty(); --left) {
      const auto at = static_cast<std::size_t>(world_.below(scripted_->held.size()));
      scripted_->finish(*scripted_->held[at]);
    }
    scripted_->calls.clear();
  } else {
    log_->pump(world_.now_ns);
  }
  world_.engine->on_tier(number_);
}

void TierUnderTest::pass_time() {
  if (log_ != nullptr) {
    log_->pump(world_.now_ns);
    if (!log_->failure().empty()) world_.fail(log_->failure());
  } else if (plan_.keeps_deadlines) {
    scripted_->expire(world_.now_ns);
  }
}

void TierUnderTest::heal() {
  if (scripted_ == nullptr) return;
  if (scripted_->is_down) up_since_ = world_.steps;
  scripted_->is_down = false;
  scripted_->is_full = false;
  scripted_->refuses = ErrorCode::kNone;
  scripted_->failing.clear();
  scripted_->failing_stores.clear();
  scripted_->failing_deletes.clear();
  scripted_->holds = false;
}

void TierUnderTest::finish_all() {
  if (scripted_ != nullptr) {
    scripted_->finish_all();
  } else {
    log_->pump(world_.now_ns);
  }
  world_.engine->on_tier(number_);
}

void TierUnderTest::restart() {
  world_.expect(flights_.empty(), "P4: an engine ends before its batches");
  paused_until_ns_ = down_until_ns_ = 0;
  if (log_ == nullptr || !world_.one_in(2)) return;
  log_->reopen();
  world_.coverage.note(Seen::kLogReopened);
}

}  // namespace larder::cache::simulation
