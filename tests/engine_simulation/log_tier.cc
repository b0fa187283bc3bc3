#include "tests/engine_simulation/log_tier.h"

#include <algorithm>
#include <array>

#include "larder/base/check.h"
#include "larder/base/random.h"

namespace larder::cache::simulation {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr int kTurnsMax = 20'000;

log_store::PathOptions path_options(std::uint64_t seed, std::uint64_t value_bytes_max) {
  log_store::PathOptions options;
  options.segment_bytes = 256 * kKiB;
  options.capacity_bytes = 5 * options.segment_bytes;
  options.segments_min = 4;
  options.value_bytes_max = value_bytes_max;
  options.io_bytes = 64 * kKiB;
  options.coalesce_bytes = 64 * kKiB;
  options.staging_bytes = 1024 * kKiB;
  options.hash_threads = 0;
  options.depth = 8;
  options.events_max = 4096;
  options.owner_note = "the simulation";
  options.id_seed = seed | 1;
  return options;
}

io::SimulatedDiskOptions disk_options(std::uint64_t seed) {
  Random random{seed};
  io::SimulatedDiskOptions options;
  options.seed = random.next();
  options.faults.latency_max_ns = random.one_in(2) ? 1'000'000 : 50'000'000;
  return options;
}

std::string text_of(const Item& item) {
  return {reinterpret_cast<const char*>(item.key.data()), item.key.size()};
}

}  // namespace

LogTier::LogTier(std::uint64_t seed, std::uint64_t value_bytes_max, std::uint64_t now_ns)
    : store_(path_options(seed, value_bytes_max), disk_options(seed),
             [this](Batch& batch) { on_batch(batch); }) {
  store_.clock().advance_to_ns(now_ns);
  LARDER_CHECK(store_.open());
}

LogTier::~LogTier() {
  store_.kill();
}

Capabilities LogTier::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.value_bytes_max = store_.options().value_bytes_max;
  capabilities.locality = Locality::kLocalDisk;
  capabilities.has_probe = true;
  return capabilities;
}

Status LogTier::submit(Batch& batch) noexcept {
  if (batch.op != Op::kExists) {
    submitted_[&batch] = moments_;
    return store_.submit(batch);
  }
  const Status looked = store_.path().look_up(batch);
  if (looked) {
    for (const Item& item : batch.items) check_found(item, moments_);
  }
  return looked;
}

std::size_t LogTier::reap(std::span<Batch*> done) noexcept {
  // What was answered at once is in the intake still.
  std::array<Batch*, 16> more{};
  while (const std::size_t count = store_.path().intake().reap(more)) {
    for (Batch* const batch : std::span{more}.first(count)) on_batch(*batch);
  }
  const std::size_t count = std::min(done.size(), done_.size());
  std::copy_n(done_.begin(), count, done.begin());
  done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

void LogTier::cancel(Batch& batch) noexcept {
  const bool has_ended = std::ranges::find(done_, &batch) != done_.end();
  if (!has_ended) store_.cancel(batch);
}

bool LogTier::probe(std::span<Item> items) const noexcept {
  store_.path().probe(items);
  for (const Item& item : items) check_found(item, moments_);
  return true;
}

void LogTier::on_batch(Batch& batch) {
  const auto submitted = submitted_.find(&batch);
  const std::uint64_t since = submitted == submitted_.end() ? 0 : submitted->second;
  for (const Item& item : batch.items) {
    const bool is_stored = batch.op == Op::kSet && item.outcome == Outcome::kDone;
    if (is_stored) {
      ++stored_;
      // An item may have been done, or have existed, long before its batch came back.
      const auto removed = removed_.find(text_of(item));
      const bool is_there = removed == removed_.end() || removed->second <= since;
      if (is_there) acknowledged_[text_of(item)] = ++moments_;
    }
    if (batch.op == Op::kGet && item.outcome == Outcome::kHit) ++hits_;
    // A load that failed takes its key out (C6).
    if (batch.op == Op::kGet && item.outcome == Outcome::kFailed)
      acknowledged_.erase(text_of(item));
    if (batch.op == Op::kDelete) acknowledged_.erase(text_of(item));
    // It may have been evicted in this turn, whose events are still to be read.
    if (must_be_found(item, since)) missed_.push_back(text_of(item));
  }
  if (submitted != submitted_.end()) submitted_.erase(submitted);
  done_.push_back(&batch);
}

void LogTier::read_events() {
  const EventPage page = store_.path().events().read(events_from_, SIZE_MAX);
  events_from_ = page.next;
  if (page.lost > 0) acknowledged_.clear();
  for (const EventPage::Event& event : page.events) {
    if (event.kind != EventPage::Kind::kRemoved) continue;
    evicted_ += acknowledged_.erase(event.key);
    removed_[event.key] = ++moments_;
  }
  for (const std::string& key : missed_) {
    if (acknowledged_.contains(key)) fail();
  }
  missed_.clear();
}

/// `since`: when the item was submitted.
bool LogTier::must_be_found(const Item& item, std::uint64_t since) const {
  if (item.outcome != Outcome::kMiss || item.miss_reason != MissReason::kAbsent) return false;
  const auto stored = acknowledged_.find(text_of(item));
  return stored != acknowledged_.end() && stored->second <= since;
}

void LogTier::check_found(const Item& item, std::uint64_t since) const {
  if (must_be_found(item, since)) fail();
}

void LogTier::fail() const {
  failure_ = "the log does not find what it has acknowledged and not evicted";
}

void LogTier::start_scan(std::uint64_t number, ScanCursor from, std::size_t keys_max) {
  Scan& scan = scans_.emplace_back();
  scan.number = number;
  scan.task.from = from;
  scan.task.keys_max = keys_max;
  scan.task.user_data = &scan.is_done;
  scan.task.on_done = [](log_store::ScanTask& task) noexcept {
    *static_cast<bool*>(task.user_data) = true;
  };
  store_.path().start_scan(scan.task);
}

std::optional<Result<ScanPage>> LogTier::take_scan(std::uint64_t number) {
  const auto scan = std::ranges::find(scans_, number, &Scan::number);
  LARDER_CHECK(scan != scans_.end());
  if (!scan->is_done) return std::nullopt;
  std::optional<Result<ScanPage>> page{std::move(scan->task.page)};
  scans_.erase(scan);
  return page;
}

bool LogTier::has(std::span<const std::byte> key) const {
  Item item;
  item.key = key;
  store_.path().probe({&item, 1});
  return item.outcome == Outcome::kHit;
}

void LogTier::pump(std::uint64_t now_ns) {
  for (int turns = 0; turns < kTurnsMax; ++turns) {
    store_.turn();
    read_events();
    if (store_.clock().now_ns() >= now_ns && !store_.has_news()) return;
    store_.wait(now_ns);
  }
  failure_ = "the log turns and turns, and nothing happens";
}

void LogTier::reopen() {
  store_.begin_stop();
  for (int turns = 0; turns < kTurnsMax && !store_.path().is_idle(); ++turns) {
    store_.turn();
    store_.wait(store_.clock().now_ns() + 1'000'000'000);
  }
  read_events();
  LARDER_CHECK(store_.path().is_idle() && store_.close() && store_.open());
  events_from_ = {};
}

}  // namespace larder::cache::simulation
