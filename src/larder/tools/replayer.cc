#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <unordered_map>

#include "larder/base/aligned_buffer.h"
#include "larder/base/check.h"
#include "larder/base/size_text.h"
#include "larder/connector/metrics.h"
#include "larder/tools/completion_wait.h"
#include "larder/tools/lru_model.h"
#include "larder/tools/progress.h"
#include "larder/tools/replay.h"
#include "larder/tools/replay_values.h"

namespace larder::tools {
namespace {

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

std::span<const std::byte> bytes_of_key(const std::string& key) {
  return std::as_bytes(std::span{key});
}

/// Wall time during which at least one thing is in flight.
class BusyClock {
 public:
  void begin(std::uint64_t now) {
    if (in_flight_++ == 0) since_ns_ = now;
  }
  /// Returns the time that this end completes, 0 while others are in flight.
  std::uint64_t end(std::uint64_t now) { return --in_flight_ == 0 ? now - since_ns_ : 0; }

 private:
  std::uint32_t in_flight_ = 0;
  std::uint64_t since_ns_ = 0;
};

enum class Phase : std::uint8_t { kIdle = 0, kLookup, kLoad, kStore };

/// One request on its way. Fixed in memory: the connector holds pointers into it.
struct Slot {
  const TraceRequest* request = nullptr;
  Phase phase = Phase::kIdle;
  bool is_refused = false;   ///< Built, but submit() had no room; tried again later.
  std::size_t found = 0;     ///< Blocks of the prefix that the lookup saw.
  std::size_t good = 0;      ///< Blocks of it that were loaded and verified.
  std::size_t position = 0;  ///< First block of the batch in flight.
  std::uint64_t submitted_ns = 0;
  std::uint64_t phase_ns = 0;  ///< Batches of the phase that have ended.

  std::vector<std::string> keys;
  std::vector<Item> items;
  std::vector<Slice> slices;  ///< One per block that the buffer holds.
  AlignedBuffer buffer;
  Batch batch;
};

class Replayer {
 public:
  Replayer(const ReplayOptions& options, const std::vector<TraceRequest>& trace,
           Connector& connector, const std::atomic<bool>& stop)
      : options_(options),
        trace_(trace),
        connector_(connector),
        stop_(stop),
        progress_("replay", options.is_quiet) {}

  SetupResult<ReplayResult> run() {
    LARDER_TRY(prepare());
    started_ns_ = now_ns();
    while (next_request_ < trace_.size() || busy_slots_ > 0) {
      if (is_ending() && busy_slots_ == 0) break;
      start_requests();
      submit_refused();
      end_unaccepted();
      if (busy_slots_ == 0) {
        if (next_request_ < trace_.size() && !is_ending()) wait();  // For the trace's clock.
        continue;
      }
      if (unaccepted_.empty()) reap();
      show_progress();
    }
    finish();
    return std::move(result_);
  }

 private:
  SetupStatus prepare() {
    const Capabilities capabilities = connector_.capabilities();
    LARDER_TRY(check_block_bytes(options_, capabilities.value_bytes_max));
    const std::size_t alignment = std::max<std::size_t>(4096, capabilities.buffer_alignment);
    const std::size_t buffer_bytes = options_.batch_blocks * options_.block_bytes;
    for (std::uint32_t i = 0; i < options_.concurrency; ++i) {
      auto slot = std::make_unique<Slot>();
      auto buffer = AlignedBuffer::create(buffer_bytes, alignment);
      if (!buffer) {
        return SetupError{
            buffer.error().code(),
            fmt::format("no memory for {} buffers of {}: use a smaller --concurrency or --batch",
                        options_.concurrency, format_bytes(buffer_bytes))};
      }
      slot->buffer = std::move(*buffer);
      for (std::uint32_t block = 0; block < options_.batch_blocks; ++block) {
        slot->slices.push_back(
            Slice{slot->buffer.data() + block * options_.block_bytes, options_.block_bytes});
      }
      slots_.push_back(std::move(slot));
    }
    const Report report = connector_.report();
    result_.keys_at_start = report.keys;
    for (const Metric& metric : metrics_of(report)) {
      counters_at_start_[flat_name(metric)] = static_cast<std::uint64_t>(metric.value);
    }
    result_.has_model = options_.with_model;
    result_.model_capacity_bytes = report.capacity_bytes;
    if (report.capacity_bytes > 0) {
      lru_ = std::make_unique<LruModel>(report.capacity_bytes / options_.block_bytes);
    }
    return {};
  }

  bool is_ending() const { return stop_.load(std::memory_order_relaxed) || result_.mismatches > 0; }

  // Starting requests.

  void start_requests() {
    while (next_request_ < trace_.size() && !is_ending()) {
      const TraceRequest& request = trace_[next_request_];
      const auto idle = std::find_if(slots_.begin(), slots_.end(),
                                     [](const auto& slot) { return slot->phase == Phase::kIdle; });
      if (idle == slots_.end() || lookups_in_flight_ > 0 || !is_time(request)) return;
      if (waits_for_store(request)) return;
      ++next_request_;
      ++busy_slots_;
      begin_request(**idle, request);
    }
  }

  bool is_time(const TraceRequest& request) const {
    return options_.speed <= 0 || now_ns() - started_ns_ >= due_ns(request);
  }
  std::uint64_t due_ns(const TraceRequest& request) const {
    return tools::due_ns(request, trace_.front(), options_.speed);
  }

  bool waits_for_store(const TraceRequest& request) {
    if (blocked_request_ == next_request_) return true;
    for (const std::uint64_t block : request.blocks) {
      if (!about_to_be_stored_.contains(block)) continue;
      blocked_request_ = next_request_;  // Checked again when a request has ended.
      return true;
    }
    return false;
  }

  void begin_request(Slot& slot, const TraceRequest& request) {
    slot.request = &request;
    ++result_.requests;
    result_.total.blocks += request.blocks.size();
    result_.total.tokens += request.input_tokens;
    count_in_models(request);
    const std::string prefix = options_.key_prefix + format_bytes_exact(options_.block_bytes) + "/";
    slot.keys.clear();
    for (const std::uint64_t block : request.blocks) {
      slot.keys.push_back(prefix + std::to_string(block));
    }
    begin_lookup(slot);
  }

  void count_in_models(const TraceRequest& request) {
    if (!options_.with_model) return;
    const std::size_t unbounded = unbounded_.request(request.blocks);
    const std::size_t lru = lru_ ? lru_->request(request.blocks) : unbounded;
    result_.model_unbounded.blocks += unbounded;
    result_.model_unbounded.tokens += tokens_of(request, unbounded);
    result_.model_lru.blocks += lru;
    result_.model_lru.tokens += tokens_of(request, lru);
  }

  // Lookup.

  void begin_lookup(Slot& slot) {
    slot.phase = Phase::kLookup;
    slot.phase_ns = 0;
    slot.found = slot.good = slot.position = 0;
    make_items(slot, 0, slot.keys.size(), false);
    ++lookups_in_flight_;
    const std::uint64_t begin = now_ns();
    if (connector_.probe(slot.items)) {
      const std::uint64_t took = now_ns() - begin;
      slot.phase_ns = took;
      result_.lookup.busy_ns += took;
      end_lookup(slot);
      return;
    }
    slot.batch.op = Op::kExists;
    slot.batch.urgency = Urgency::kDemand;
    submit(slot);
  }

  void end_lookup(Slot& slot) {
    --lookups_in_flight_;
    result_.lookup.latency_ns.record(slot.phase_ns);
    for (const Item& item : slot.items) note_failure(item, result_.lookup);
    while (slot.found < slot.items.size() && slot.items[slot.found].outcome == Outcome::kHit) {
      ++slot.found;
    }
    for (std::size_t block = slot.found; block < slot.keys.size(); ++block) {
      ++about_to_be_stored_[slot.request->blocks[block]];
    }
    slot.phase_ns = 0;
    slot.phase = Phase::kLoad;
    next_load(slot);
  }

  // Loads.

  void next_load(Slot& slot) {
    const bool is_whole = slot.good == slot.position;  // The others are not worth loading.
    if (slot.position < slot.found && is_whole && !is_ending()) {
      const std::size_t count =
          std::min<std::size_t>(options_.batch_blocks, slot.found - slot.position);
      make_items(slot, slot.position, count, true);
      slot.batch.op = Op::kGet;
      slot.batch.urgency = Urgency::kDemand;
      submit(slot);
      return;
    }
    if (slot.found > 0) result_.load.latency_ns.record(slot.phase_ns);
    result_.hit.blocks += slot.good;
    result_.hit.tokens += tokens_of(*slot.request, slot.good);
    slot.phase = Phase::kStore;
    slot.phase_ns = 0;
    slot.position = slot.good;
    next_store(slot);
  }

  void end_load(Slot& slot) {
    for (std::size_t i = 0; i < slot.items.size(); ++i) {
      const Item& item = slot.items[i];
      note_failure(item, result_.load);
      if (item.outcome == Outcome::kMiss) ++result_.blocks_lost_before_load;
      if (item.outcome != Outcome::kHit) continue;
      result_.load.bytes += options_.block_bytes;
      if (verify(slot, i) && slot.good == slot.position + i) ++slot.good;
    }
    slot.position += slot.items.size();
    next_load(slot);
  }

  bool verify(Slot& slot, std::size_t index) {
    const Slice& slice = slot.slices[index];
    const auto mismatch =
        values_.mismatch(slot.keys[slot.position + index], {slice.data, slice.bytes},
                         slot.items[index].value_bytes, result_.requests);
    if (!mismatch) return true;
    if (result_.mismatches++ == 0) result_.first_mismatch = *mismatch;
    return false;
  }

  // Stores.

  void next_store(Slot& slot) {
    if (slot.position < slot.keys.size() && !is_ending()) {
      const std::size_t count =
          std::min<std::size_t>(options_.batch_blocks, slot.keys.size() - slot.position);
      make_items(slot, slot.position, count, true);
      for (std::size_t i = 0; i < count; ++i) {
        values_.fill(slot.keys[slot.position + i], {slot.slices[i].data, slot.slices[i].bytes});
      }
      slot.batch.op = Op::kSet;
      slot.batch.set_mode = SetMode::kIfAbsent;
      slot.batch.urgency = Urgency::kStore;
      submit(slot);
      return;
    }
    if (slot.phase_ns > 0) result_.store.latency_ns.record(slot.phase_ns);
    end_request(slot);
  }

  void end_store(Slot& slot) {
    for (const Item& item : slot.items) {
      if (item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kResourceExhausted) {
        count_failure(item.error, result_.blocks_refused);
        continue;
      }
      note_failure(item, result_.store);
      if (item.outcome != Outcome::kDone) continue;
      if (item.existed) {
        ++result_.blocks_already_there;
      } else {
        ++result_.blocks_stored;
        result_.store.bytes += options_.block_bytes;
      }
    }
    slot.position += slot.items.size();
    next_store(slot);
  }

  void end_request(Slot& slot) {
    for (std::size_t block = slot.found; block < slot.keys.size(); ++block) {
      const auto entry = about_to_be_stored_.find(slot.request->blocks[block]);
      if (--entry->second == 0) about_to_be_stored_.erase(entry);
    }
    slot.phase = Phase::kIdle;
    --busy_slots_;
    blocked_request_ = kNoRequest;
  }

  // Batches.

  void make_items(Slot& slot, std::size_t first, std::size_t count, bool with_values) {
    slot.items.assign(count, Item{});
    for (std::size_t i = 0; i < count; ++i) {
      slot.items[i].key = bytes_of_key(slot.keys[first + i]);
      if (with_values) slot.items[i].value = std::span<const Slice>{&slot.slices[i], 1};
    }
    slot.batch.items = slot.items;
    slot.batch.user_data = &slot;
  }

  void submit(Slot& slot) {
    slot.submitted_ns = now_ns();
    slot.batch.deadline_ns = slot.submitted_ns + kBatchPatienceNs;
    const Status status = connector_.submit(slot.batch);
    if (status) {
      slot.is_refused = false;
      ++batches_in_flight_;
      clock_of(slot.phase).begin(slot.submitted_ns);
      return;
    }
    // Room comes back with our own completions; without any in flight, the refusal is final.
    if (status.error().is_retryable() && batches_in_flight_ > 0) {
      slot.is_refused = true;
      return;
    }
    slot.is_refused = false;
    for (Item& item : slot.items) {
      item.outcome = Outcome::kFailed;
      item.error = status.error();
    }
    unaccepted_.push_back(&slot);
  }

  /// Batches that no submit() will ever take end here and not in submit(), which their end calls.
  void end_unaccepted() {
    std::vector<Slot*> ended;
    ended.swap(unaccepted_);
    for (Slot* const slot : ended) end_batch(*slot);
  }

  void submit_refused() {
    for (const auto& slot : slots_) {
      if (slot->is_refused) submit(*slot);
    }
  }

  void reap() {
    std::array<Batch*, 64> done;
    std::size_t count = connector_.reap(done);
    if (count == 0) {
      wait();
      count = connector_.reap(done);
    }
    const std::uint64_t now = now_ns();
    for (Batch* const batch : std::span{done}.first(count)) {
      Slot& slot = *static_cast<Slot*>(batch->user_data);
      --batches_in_flight_;
      slot.phase_ns += now - slot.submitted_ns;
      operation_of(slot.phase).busy_ns += clock_of(slot.phase).end(now);
    }
    for (Batch* const batch : std::span{done}.first(count)) {
      end_batch(*static_cast<Slot*>(batch->user_data));
    }
  }

  /// Waits for completions, for the next request's time, or for `stop`.
  void wait() {
    int timeout_ms = 200;
    if (next_request_ < trace_.size() && options_.speed > 0) {
      const std::uint64_t due = started_ns_ + due_ns(trace_[next_request_]);
      const std::uint64_t now = now_ns();
      const std::uint64_t left_ms = due > now ? (due - now) / 1'000'000 + 1 : 0;
      timeout_ms =
          static_cast<int>(std::min<std::uint64_t>(200, std::max<std::uint64_t>(1, left_ms)));
    }
    wait_readable(connector_.event_fd(), timeout_ms);
  }

  void end_batch(Slot& slot) {
    switch (slot.phase) {
      case Phase::kLookup:
        return end_lookup(slot);
      case Phase::kLoad:
        return end_load(slot);
      case Phase::kStore:
        return end_store(slot);
      case Phase::kIdle:
        break;
    }
    LARDER_CHECK(false);
  }

  BusyClock& clock_of(Phase phase) { return clocks_[static_cast<std::size_t>(phase)]; }
  ReplayOperation& operation_of(Phase phase) {
    if (phase == Phase::kLookup) return result_.lookup;
    return phase == Phase::kLoad ? result_.load : result_.store;
  }

  static void note_failure(const Item& item, ReplayOperation& operation) {
    if (item.outcome != Outcome::kFailed) return;
    count_failure(item.error, operation.failures[item.error.code()]);
  }

  // The end.

  void show_progress() {
    if (!progress_.is_due()) return;
    const double seconds = static_cast<double>(now_ns() - started_ns_) / 1e9;
    const std::uint64_t moved = result_.load.bytes + result_.store.bytes;
    progress_.update(
        next_request_, trace_.size(),
        fmt::format("hits {:.1f} %, {} moved, {:.2f} GB/s",
                    100.0 * static_cast<double>(result_.hit.blocks) /
                        static_cast<double>(std::max<std::uint64_t>(1, result_.total.blocks)),
                    format_bytes(moved), static_cast<double>(moved) / 1e9 / seconds));
  }

  void finish() {
    progress_.finish();
    result_.wall_ns = now_ns() - started_ns_;
    if (result_.mismatches > 0) {
      result_.interrupted_by = "a hit with wrong bytes";
    } else if (next_request_ < trace_.size()) {
      result_.interrupted_by = "a signal";
    }
    result_.report_at_end = connector_.report();
    for (const Metric& metric : metrics_of(result_.report_at_end)) {
      if (!metric.name.ends_with("_total")) continue;
      const std::string name = flat_name(metric);
      const auto value = static_cast<std::uint64_t>(metric.value);
      const auto before = counters_at_start_.find(name);
      const std::uint64_t start = before == counters_at_start_.end() ? 0 : before->second;
      result_.counters[name] = value - std::min(start, value);
    }
  }

  static constexpr std::size_t kNoRequest = static_cast<std::size_t>(-1);

  const ReplayOptions& options_;
  const std::vector<TraceRequest>& trace_;
  Connector& connector_;
  const std::atomic<bool>& stop_;
  Progress progress_;
  const ReplayValues values_;
  LruModel unbounded_{LruModel::kUnbounded};
  std::unique_ptr<LruModel> lru_;

  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*>
      unaccepted_;  ///< Their items have failed; the consequences are still to be handled.
  std::size_t next_request_ = 0;
  std::size_t blocked_request_ = kNoRequest;
  std::uint32_t busy_slots_ = 0;
  std::uint32_t lookups_in_flight_ = 0;
  std::uint32_t batches_in_flight_ = 0;
  /// Blocks that requests in flight did not find, with how many of them will store it.
  std::unordered_map<std::uint64_t, std::uint32_t> about_to_be_stored_;
  std::array<BusyClock, 4> clocks_;
  std::map<std::string, std::uint64_t> counters_at_start_;
  std::uint64_t started_ns_ = 0;
  ReplayResult result_;
};

}  // namespace

SetupResult<ReplayResult> replay(const ReplayOptions& options,
                                 const std::vector<TraceRequest>& trace, Connector& connector,
                                 const std::atomic<bool>& stop) {
  return Replayer{options, trace, connector, stop}.run();
}

}  // namespace larder::tools
