#include "larder/tools/bench_phases.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/tools/completion_wait.h"

namespace larder::tools {
namespace {

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

/// Added to a key's number: a key that no store gives out.
constexpr std::uint64_t kNeverStored = std::uint64_t{1} << 40;

double process_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::optional<double> share(std::uint64_t before, std::uint64_t after, std::uint64_t payload) {
  if (payload == 0) return std::nullopt;
  return static_cast<double>(after - before) / static_cast<double>(payload);
}

}  // namespace

/// One batch's memory. Its buffers are [index * batch, (index + 1) * batch) of either kind.
struct BenchPhases::Slot {
  std::size_t index = 0;
  bool is_active = false;
  bool is_refused = false;  ///< Waits for room in the connector.
  bool is_ended = false;    ///< Answered without a completion; counted in the next round.
  std::uint64_t submitted_ns = 0;
  std::vector<std::uint64_t> numbers;
  std::vector<std::string> keys;
  std::vector<Item> items;
  Batch batch;
};

SetupStatus BenchPhases::check_shape(const BenchOptions& options, std::uint64_t value_bytes,
                                     std::uint64_t value_bytes_max, std::size_t slices_max) {
  if (value_bytes > value_bytes_max) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        fmt::format("--size {} is above the connector's largest value {}",
                    format_bytes_exact(value_bytes), format_bytes_exact(value_bytes_max))};
  }
  if (options.slices > slices_max) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        fmt::format("--slices {}: the connector takes at most {}", options.slices, slices_max)};
  }
  return {};
}

SetupResult<std::unique_ptr<BenchPhases>> BenchPhases::create(
    const BenchOptions& options, std::uint64_t value_bytes, Connector& connector,
    std::optional<Disk> disk, bool has_huge_pages, const std::atomic<bool>& stop) {
  const Capabilities capabilities = connector.capabilities();
  LARDER_TRY(
      check_shape(options, value_bytes, capabilities.value_bytes_max, capabilities.slices_max));
  WorkloadShape shape;
  shape.value_bytes = value_bytes;
  shape.slices = options.slices;
  shape.unaligned_bytes = options.unaligned_bytes;
  shape.alignment = std::max<std::uint32_t>(4096, capabilities.buffer_alignment);
  shape.has_huge_pages = has_huge_pages;
  const std::uint32_t buffers = options.batch * options.in_flight;
  LARDER_ASSIGN(ValueBuffers stores, ValueBuffers::create(shape, buffers, true));
  LARDER_ASSIGN(ValueBuffers loads, ValueBuffers::create(shape, buffers, false));
  return SetupResult<std::unique_ptr<BenchPhases>>{std::unique_ptr<BenchPhases>{new BenchPhases{
      options, value_bytes, connector, disk, stop, std::move(stores), std::move(loads)}}};
}

BenchPhases::BenchPhases(const BenchOptions& options, std::uint64_t value_bytes,
                         Connector& connector, std::optional<Disk> disk,
                         const std::atomic<bool>& stop, ValueBuffers stores, ValueBuffers loads)
    : options_(options),
      value_bytes_(value_bytes),
      connector_(connector),
      disk_(disk),
      stop_(stop),
      run_(fmt::format("{:x}-{:x}-{}", RealClock::instance().wall_seconds(), ::getpid(),
                       value_bytes)),
      stores_(std::move(stores)),
      loads_(std::move(loads)) {
  // One more than is in flight, for Exists beside stores.
  for (std::uint32_t i = 0; i <= options.in_flight; ++i) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->index = i;
  }
}

BenchPhases::~BenchPhases() = default;

// The loop.

BenchPass BenchPhases::run(const NextBatch& next, std::uint64_t keys_total, Progress& progress) {
  BenchPass pass;
  keys_done_ = 0;
  const auto disk_before = disk_ ? disk_->counts() : std::nullopt;
  const double cpu_before = process_cpu_seconds();
  const std::uint64_t begin = now_ns();
  for (const auto& slot : slots_) start(*slot, next, pass);
  const auto is_active = [](const auto& slot) { return slot->is_active; };
  while (std::any_of(slots_.begin(), slots_.end(), is_active)) {
    bool has_moved = false;
    for (const auto& slot : slots_) {
      if (slot->is_refused) submit(*slot, pass);
      if (!slot->is_ended) continue;
      has_moved = true;
      end(*slot, pass);
      start(*slot, next, pass);
    }
    std::array<Batch*, 64> done;
    std::size_t count = connector_.reap(done);
    if (count == 0 && !has_moved) {
      wait_readable(connector_.event_fd(), 200);
      count = connector_.reap(done);
    }
    const std::uint64_t now = now_ns();
    for (Batch* const batch : std::span{done}.first(count)) {
      Slot& slot = *static_cast<Slot*>(batch->user_data);
      --in_flight_;
      // Beside stores, the Exists batches are measured.
      if (options_.mode != BenchMode::kExists || batch->op == Op::kExists) {
        pass.batch_ns.record(now - slot.submitted_ns);
      }
      end(slot, pass);
      start(slot, next, pass);
    }
    if (progress.is_due()) {
      const auto seconds = static_cast<double>(now - begin) / 1e9;
      progress.update(
          keys_done_, keys_total,
          fmt::format("{:.2f} GB/s",
                      static_cast<double>(pass.bytes_loaded + pass.bytes_stored) / 1e9 / seconds));
    }
  }
  pass.wall_ns = now_ns() - begin;
  pass.cpu_seconds = process_cpu_seconds() - cpu_before;
  const auto disk_after = disk_ ? disk_->counts() : std::nullopt;
  if (disk_before && disk_after) {
    pass.disk_read_share =
        share(disk_before->bytes_read, disk_after->bytes_read, pass.bytes_loaded);
    pass.disk_write_share =
        share(disk_before->bytes_written, disk_after->bytes_written, pass.bytes_stored);
  }
  if (options_.is_verified) check_whole_values(pass);
  return pass;
}

void BenchPhases::start(Slot& slot, const NextBatch& next, BenchPass& pass) {
  const bool is_stopped = stop_.load(std::memory_order_relaxed) && !ignores_stop_;
  slot.is_active = !is_stopped && next(slot);
  if (slot.is_active) submit(slot, pass);
}

void BenchPhases::submit(Slot& slot, BenchPass& pass) {
  slot.is_refused = slot.is_ended = false;
  slot.submitted_ns = now_ns();
  if (slot.batch.op == Op::kExists && connector_.probe(slot.items)) {
    pass.batch_ns.record(now_ns() - slot.submitted_ns);
    slot.is_ended = true;
    return;
  }
  slot.batch.deadline_ns = slot.submitted_ns + kBatchPatienceNs;
  const Status status = connector_.submit(slot.batch);
  if (status) {
    ++in_flight_;
    return;
  }
  if (status.error().is_retryable() && in_flight_ > 0) {
    slot.is_refused = true;
    return;
  }
  for (Item& item : slot.items) {
    item.outcome = Outcome::kFailed;
    item.error = status.error();
  }
  slot.is_ended = true;
}

void BenchPhases::end(Slot& slot, BenchPass& pass) {
  slot.is_ended = false;
  for (std::size_t i = 0; i < slot.items.size(); ++i) {
    const Item& item = slot.items[i];
    ++keys_done_;
    if (options_.mode != BenchMode::kExists || slot.batch.op == Op::kExists) ++pass.keys;
    if (item.outcome == Outcome::kFailed) {
      const bool is_store = slot.batch.op == Op::kSet;
      if (is_store && item.error.code() == ErrorCode::kResourceExhausted) {
        if (pass.refused++ == 0) pass.first_refusal = item.error.to_string();
      } else if (pass.failed++ == 0) {
        pass.first_failure = item.error.to_string();
      }
    } else if (slot.batch.op == Op::kGet) {
      check_loaded(slot, i, pass);
    } else if (slot.batch.op == Op::kSet && !item.existed) {
      pass.bytes_stored += value_bytes_;
    } else if (slot.batch.op == Op::kExists && item.outcome == Outcome::kHit &&
               slot.numbers[i] >= kNeverStored) {
      ++pass.mismatches;
    }
  }
}

void BenchPhases::check_loaded(const Slot& slot, std::size_t index, BenchPass& pass) {
  if (slot.items[index].outcome == Outcome::kMiss) {
    ++pass.misses;
    return;
  }
  pass.bytes_loaded += value_bytes_;
  if (!options_.is_verified) return;
  const std::size_t buffer = slot.index * options_.batch + index;
  if (!loads_.is_stamped_with(buffer, slot.numbers[index])) ++pass.mismatches;
}

/// After the clock has stopped: the last batches' buffers, byte for byte.
void BenchPhases::check_whole_values(BenchPass& pass) {
  for (const auto& slot : slots_) {
    if (slot->batch.op != Op::kGet) continue;
    for (std::size_t i = 0; i < slot->items.size(); ++i) {
      if (slot->items[i].outcome != Outcome::kHit) continue;
      const std::size_t buffer = slot->index * options_.batch + i;
      if (!loads_.holds_value_of(buffer, slot->numbers[i])) ++pass.mismatches;
    }
    slot->items.clear();
  }
}

void BenchPhases::set_keys(Slot& slot, Op op, std::vector<std::uint64_t> numbers) {
  slot.numbers = std::move(numbers);
  slot.keys.clear();
  for (const std::uint64_t number : slot.numbers) slot.keys.push_back(bench_key(run_, number));
  slot.items.assign(slot.numbers.size(), Item{});
  for (std::size_t i = 0; i < slot.items.size(); ++i) {
    Item& item = slot.items[i];
    item.key = std::as_bytes(std::span{slot.keys[i]});
    const std::size_t buffer = slot.index * options_.batch + i;
    if (op == Op::kGet) item.value = loads_.slices(buffer);
    if (op == Op::kSet) {
      stores_.stamp(buffer, slot.numbers[i]);
      item.value = stores_.slices(buffer);
    }
  }
  slot.batch.items = slot.items;
  slot.batch.user_data = &slot;
  slot.batch.op = op;
  slot.batch.urgency = op == Op::kSet ? Urgency::kStore : Urgency::kDemand;
}

void BenchPhases::set_new_keys(Slot& slot, std::uint64_t count) {
  std::vector<std::uint64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), next_key_);
  next_key_ += count;
  set_keys(slot, Op::kSet, std::move(numbers));
}

std::uint64_t BenchPhases::random_known_key(std::uint64_t window) {
  const std::uint64_t known = std::min(window, next_key_);
  return next_key_ - known + random_.below(known);
}

// The phases.

BenchPass BenchPhases::store(std::uint64_t keys, Progress& progress) {
  std::uint64_t left = keys;
  return run(
      [&](Slot& slot) {
        const std::uint64_t count = std::min<std::uint64_t>(left, options_.batch);
        if (count == 0 || slot.index == options_.in_flight) return false;
        left -= count;
        set_new_keys(slot, count);
        return true;
      },
      keys, progress);
}

BenchPass BenchPhases::load(std::uint64_t keys, Progress& progress) {
  std::vector<std::uint64_t> order(std::min(keys, next_key_));
  std::iota(order.begin(), order.end(), next_key_ - order.size());
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  std::size_t position = 0;
  return run(
      [&](Slot& slot) {
        const std::size_t count = std::min<std::size_t>(order.size() - position, options_.batch);
        if (count == 0 || slot.index == options_.in_flight) return false;
        const auto first = order.begin() + static_cast<std::ptrdiff_t>(position);
        set_keys(slot, Op::kGet, {first, first + static_cast<std::ptrdiff_t>(count)});
        position += count;
        return true;
      },
      keys, progress);
}

BenchPass BenchPhases::mixed(std::uint64_t keys, std::uint64_t window, Progress& progress) {
  std::uint64_t left = keys;
  // Keys whose store is in flight are not loaded.
  const std::uint64_t settled = next_key_;
  return run(
      [&](Slot& slot) {
        const std::uint64_t count = std::min<std::uint64_t>(left, options_.batch);
        if (count == 0 || slot.index == options_.in_flight) return false;
        left -= count;
        if (random_.below(100) >= options_.load_percent) {
          set_new_keys(slot, count);
          return true;
        }
        std::vector<std::uint64_t> numbers(count);
        const std::uint64_t known = std::min(window, settled);
        for (std::uint64_t& number : numbers) number = settled - known + random_.below(known);
        set_keys(slot, Op::kGet, std::move(numbers));
        return true;
      },
      keys, progress);
}

BenchPass BenchPhases::exists(std::uint64_t keys, std::uint64_t window, Progress& progress) {
  std::uint64_t left = keys;
  return run(
      [&](Slot& slot) {
        if (left == 0) return false;
        const bool is_lookup = slot.index == options_.in_flight;
        if (!is_lookup) {
          if (options_.with_stores) set_new_keys(slot, options_.batch);
          return options_.with_stores;
        }
        const std::uint64_t count = std::min<std::uint64_t>(left, options_.batch);
        left -= count;
        std::vector<std::uint64_t> numbers(count);
        for (std::uint64_t& number : numbers) {
          number = random_known_key(window);
          if (random_.one_in(2)) number += kNeverStored;
        }
        set_keys(slot, Op::kExists, std::move(numbers));
        return true;
      },
      keys, progress);
}

void BenchPhases::touch(std::uint64_t window, std::uint32_t percent, Progress& progress) {
  std::uint64_t left = std::min(window, next_key_) * percent / 100;
  run(
      [&](Slot& slot) {
        const std::uint64_t count = std::min<std::uint64_t>(left, options_.batch);
        if (count == 0 || slot.index == options_.in_flight) return false;
        left -= count;
        std::vector<std::uint64_t> numbers(count);
        for (std::uint64_t& number : numbers) number = random_known_key(window);
        set_keys(slot, Op::kTouch, std::move(numbers));
        return true;
      },
      left, progress);
}

void BenchPhases::remove_all(Progress& progress) {
  std::uint64_t position = 0;
  ignores_stop_ = true;
  run(
      [&](Slot& slot) {
        const std::uint64_t count = std::min<std::uint64_t>(next_key_ - position, options_.batch);
        if (count == 0 || slot.index == options_.in_flight) return false;
        std::vector<std::uint64_t> numbers(count);
        std::iota(numbers.begin(), numbers.end(), position);
        position += count;
        set_keys(slot, Op::kDelete, std::move(numbers));
        return true;
      },
      next_key_, progress);
  ignores_stop_ = false;
}

}  // namespace larder::tools
