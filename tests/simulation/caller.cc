#include "tests/simulation/caller.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "larder/base/check.h"
#include "larder/connectors/log/format/fingerprint.h"
#include "tests/simulation/forgery.h"

namespace larder::simulation {
namespace {

constexpr std::size_t kMemoryAlignment = 4096;
/// Between slices and behind the last one, so that a byte too many is seen.
constexpr std::byte kPoison{0xA5};
constexpr std::size_t kPoisonBytes = 32;

}  // namespace

Caller::Caller(const Plan& plan, Random& random, StoreUnderTest& store, Oracle& oracle,
               Coverage& coverage, bool trace)
    : plan_(plan),
      random_(random),
      store_(store),
      oracle_(oracle),
      coverage_(coverage),
      trace_(trace) {}

void Caller::name_keys() {
  if (!keys_.empty()) return;
  const log_store::Superblock& superblock = store_.path().superblock();
  const std::uint64_t mask = plan_.path.fingerprint_mask_for_test;
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    const bool is_twin = i == kTwins[1];
    for (std::uint64_t tries = 0;; ++tries) {
      std::string key = "key-" + std::to_string(i);
      if (tries > 0) key += "-" + std::to_string(tries);
      if (i % 7 == 0) {  // Of any length and with any bytes; the last one keeps it apart.
        key.resize(1 + random_.below(kKeyBytesMax));
        key.back() = static_cast<char>(0x80 + i);
      }
      auto fingerprint =
          log_store::fingerprint_of(std::as_bytes(std::span{key}), superblock.fingerprint_seed);
      fingerprint = {.low = fingerprint.low & mask, .high = fingerprint.high & mask};
      // The index knows a key by the low half.
      const bool fits =
          is_twin ? fingerprint.low == fingerprints_[kTwins[0]].low : keys_like(fingerprint) == 0;
      if (!fits && (is_twin || !plan_.all_collide)) continue;
      fingerprints_.push_back(fingerprint);
      keys_.push_back(std::move(key));
      break;
    }
    if (is_shared(i)) oracle_.share(i);
  }
}

std::uint64_t Caller::keys_like(std::size_t key) const {
  if (key >= fingerprints_.size()) return 0;
  return keys_like(fingerprints_[key]);
}

std::uint64_t Caller::keys_like(const log_store::Fingerprint& fingerprint) const {
  return static_cast<std::uint64_t>(
      std::ranges::count(fingerprints_, fingerprint.low, &log_store::Fingerprint::low));
}

std::span<const std::byte> Caller::key(std::size_t index) const {
  return std::as_bytes(std::span{keys_[index]});
}

void Caller::violation(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
}

void Caller::trace(const char* format, ...) {
  if (!trace_) return;
  std::printf("%12llu %8llu  ", static_cast<unsigned long long>(store_.clock().now_ns() / 1000),
              static_cast<unsigned long long>(oracle_.now()));
  std::va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::putchar('\n');
}

// --- Choosing -----------------------------------------------------------------------------------

std::size_t Caller::choose_key() {
  if (plan_.holds_prefixes && !random_.one_in(8)) {
    return static_cast<std::size_t>(random_.below(plan_.keys));
  }
  // A few hot keys, so that operations on one key meet.
  if (random_.one_in(3)) return static_cast<std::size_t>(random_.below(5));
  return static_cast<std::size_t>(random_.below(plan_.keys));
}

std::size_t Caller::choose_key_to_set() {
  constexpr std::uint64_t kHotKeys = 4;
  if (plan_.has_hot_keys && !random_.one_in(16)) {
    return static_cast<std::size_t>(random_.below(kHotKeys));
  }
  return choose_key();
}

std::uint64_t Caller::choose_value_bytes() {
  const std::uint64_t max = store_.options().value_bytes_max;
  switch (random_.below(10)) {
    case 0:
      return random_.below(20);
    case 1:
      return max - random_.below(3);
    case 2:
      return random_.below(max / 4096) * 4096;
    case 3:
    case 4:
      return random_.below(max / 512) * 512;
    case 5:
      return random_.below(4097);
    default:
      return random_.below(max + 1);
  }
}

Submission& Caller::take() {
  for (const auto& submission : submissions_) {
    if (!submission->is_out) return *submission;
  }
  submissions_.push_back(std::make_unique<Submission>());
  return *submissions_.back();
}

void Caller::prepare(Submission& submission, std::size_t count, Op op) {
  submission.items.assign(count, Item{});
  if (submission.operations.size() < count) submission.operations.resize(count);
  submission.was_cancelled = submission.path_was_down = false;
  Batch& batch = submission.batch;
  batch.items = submission.items;
  batch.op = op;
  batch.user_data = &submission;
  batch.urgency = static_cast<Urgency>(random_.below(kUrgencyCount));
  batch.set_mode = random_.one_in(3) ? SetMode::kIfAbsent : SetMode::kReplace;
  if (plan_.holds_prefixes && !random_.one_in(24)) batch.set_mode = SetMode::kIfAbsent;
  batch.allow_shorter = false;
  batch.waits_for_room = random_.one_in(2);
  batch.misses_wrong_sizes = random_.one_in(8);
  batch.deadline_ns = kNever;
  if (random_.one_in(6)) {
    batch.deadline_ns = store_.clock().now_ns() + random_.below(4 * plan_.faults.latency_max_ns);
  }
}

void Caller::set_key(Submission& submission, std::size_t at, std::size_t key_index) {
  Operation& operation = submission.operations[at];
  operation.key = key_index;
  operation.version = 0;
  operation.slice_count = 0;
  const auto place = store_.path().place_for_test(key(key_index));
  operation.place_generation = place ? place->generation : 0;
  operation.place_offset = place ? place->offset : 0;
  submission.items[at].key = key(key_index);
  const Op op = submission.batch.op;
  if (!place || (op != Op::kSet && op != Op::kDelete)) return;
  const log_store::Segments& segments = store_.path().segments_for_test();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    if (segments.at(i).generation == place->generation &&
        segments.at(i).state() == log_store::SegmentState::kReclaiming) {
      coverage_.note(op == Op::kSet ? Seen::kMoveRacingSet : Seen::kMoveRacingDelete);
    }
  }
}

/// One to three slices with gaps, aligned for direct I/O or not at all.
void Caller::lay_out(Operation& operation, std::uint64_t bytes) {
  const std::size_t room = plan_.path.value_bytes_max + 8 * kMemoryAlignment;
  if (operation.memory.size() < room) {
    auto memory = AlignedBuffer::create(room, kMemoryAlignment);
    LARDER_CHECK(memory.has_value());
    operation.memory = std::move(*memory);
  }
  const bool is_aligned = random_.one_in(2);
  std::size_t at = is_aligned ? 0 : 1 + random_.below(600);
  std::uint64_t left = bytes;
  const std::size_t count = 1 + random_.below(3);
  operation.slice_count = count;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t part = i + 1 == count ? left : random_.below(left + 1);
    if (is_aligned && i + 1 < count) part = part / 512 * 512;
    operation.slices[i] = {.data = operation.memory.data() + at, .bytes = part};
    at += part;
    std::memset(operation.memory.data() + at, static_cast<int>(kPoison), kPoisonBytes);
    at = is_aligned ? (at + kPoisonBytes + 511) / 512 * 512 : at + kPoisonBytes + random_.below(64);
    left -= part;
  }
}

// --- Submitting ---------------------------------------------------------------------------------

void Caller::act() {
  const std::uint64_t choice = random_.below(100);
  if (choice < (plan_.reads_much ? 27U : 42U)) {
    submit_sets();
  } else if (choice < 70 || (choice < 80 && plan_.holds_prefixes && !random_.one_in(12))) {
    submit_gets();
  } else if (choice < 80) {
    submit_keys_only(Op::kDelete);
  } else if (choice < 85) {
    submit_keys_only(Op::kTouch);
  } else if (choice < 95) {
    probe(choose_key());
  } else {
    cancel_one();
  }
}

void Caller::submit(Submission& submission) {
  submission.is_out = true;
  ++outstanding_;
  if (store_.path().health().is_down()) submission.path_was_down = true;
  const Batch& batch = submission.batch;
  const io::SimulatedFaults& faults = plan_.faults;
  submission.is_risky =
      batch.op == Op::kGet &&
      (batch.deadline_ns != kNever || batch.misses_wrong_sizes || corruption_allowed_ ||
       plan_.rots_while_running ||
       faults.read_error + faults.write_error + faults.sync_error + faults.stall > 0);
  for (std::size_t i = 0; submission.is_risky && i < submission.items.size(); ++i) {
    oracle_.begin_risk(submission.operations[i].key);
  }
  if (const Status submitted = store_.submit(submission.batch); !submitted) {
    return note_refused(submission, submitted.error());
  }
  operations_ += submission.items.size();
  if (batch.connector_waits) coverage_.note(Seen::kWaitedForRoom);
  const bool has_overtaken =
      !batch.connector_waits && std::ranges::any_of(submissions_, [&](const auto& other) {
        return other->is_out && other.get() != &submission && other->batch.connector_waits &&
               Intake::is_queued(other->batch) && class_of(other->batch.op) == class_of(batch.op);
      });
  if (has_overtaken) violation("C5: a batch was let in before one that waits for room");
  check_queues();
}

void Caller::check_queues() {
  struct InFlight {
    std::uint64_t batches = 0;
    std::uint64_t bytes = 0;
  };
  std::array<InFlight, kBatchClassCount> in_flight{};
  for (const auto& submission : submissions_) {
    const Batch& batch = submission->batch;
    if (!submission->is_out || Intake::items_left(batch) == 0) continue;
    if (Intake::is_queued(batch)) {
      if (submission->was_cancelled) violation("C8: a cancelled batch stays queued");
      if (is_stopping_) violation("C8: a batch stays queued while the store stops");
      if (store_.path().intake().is_down()) violation("P4: a batch is queued while it is down");
    }
    if (batch.connector_waits) continue;
    InFlight& of_class = in_flight.at(index_of(class_of(batch.op)));
    ++of_class.batches;
    of_class.bytes += batch.connector_bytes;
  }
  const BatchLimitOptions& limits = store_.options().limits;
  for (const InFlight& one : in_flight) {
    if (one.batches > 1 && (one.batches > limits.batches_max || one.bytes > limits.bytes_max)) {
      violation("C5: more is in flight than the limits allow");
    }
  }
}

/// Without a random choice, so that it changes nothing of the history.
Submission& Caller::prepare_touch() {
  Submission& submission = take();
  submission.items.assign(1, Item{});
  if (submission.operations.empty()) submission.operations.resize(1);
  submission.was_cancelled = submission.path_was_down = false;
  Batch& batch = submission.batch;
  batch.items = submission.items;
  batch.op = Op::kTouch;
  batch.user_data = &submission;
  batch.urgency = Urgency::kBackground;
  batch.waits_for_room = true;
  batch.deadline_ns = kNever;
  set_key(submission, 0, 0);
  return submission;
}

void Caller::touch_one() {
  submit(prepare_touch());
}

void Caller::check_refuses() {
  const Status submitted = store_.submit(prepare_touch().batch);
  if (submitted || submitted.error().code() != ErrorCode::kCancelled) {
    violation("C8: a batch was not refused after stop()");
  }
}

/// C5: it is untouched, and nothing of it happened.
void Caller::note_refused(Submission& submission, const Error& error) {
  coverage_.note(Seen::kBatchRefused);
  const Batch& batch = submission.batch;
  if (error.code() != ErrorCode::kResourceExhausted || batch.waits_for_room || outstanding_ == 1) {
    violation("C5: a batch was refused: " + error.to_string());
  }
  for (const Item& item : submission.items) {
    if (item.outcome != Outcome::kPending) violation("C5: a refused batch was touched");
  }
  submission.is_out = false;
  --outstanding_;
  end_risks(submission);
  if (batch.op != Op::kSet && batch.op != Op::kDelete) return;
  for (std::size_t i = 0; i < submission.items.size(); ++i) {
    oracle_.drop(submission.operations[i].key, submission.operations[i].version);
  }
}

void Caller::submit_sets() {
  Submission& submission = take();
  prepare(submission, 1 + random_.below(4), Op::kSet);
  for (std::size_t i = 0; i < submission.items.size(); ++i) {
    set_key(submission, i, choose_key_to_set());
    Operation& operation = submission.operations[i];
    const std::uint64_t bytes = choose_value_bytes();
    Write& write = oracle_.begin_write(operation.key, false, bytes);
    operation.version = write.version;
    operation.invoked = write.invoked;
    lay_out(operation, bytes);
    scratch_.resize(bytes);
    fill_value(scratch_, operation.key, operation.version);
    if (bytes >= 4096 && random_.one_in(6)) {
      auto forged = forge_value(random_, store_, bytes, key(choose_key()));
      if (!forged.empty()) {
        coverage_.note(Seen::kForgedHeaderInValue);
        std::ranges::copy(forged, scratch_.begin());
        write.forged = std::make_shared<const std::vector<std::byte>>(std::move(forged));
      }
    }
    std::size_t at = 0;
    for (std::size_t s = 0; s < operation.slice_count; ++s) {
      const Slice& slice = operation.slices[s];
      if (slice.bytes > 0) std::memcpy(slice.data, scratch_.data() + at, slice.bytes);
      at += slice.bytes;
    }
    submission.items[i].value = std::span{operation.slices}.first(operation.slice_count);
    if (bytes + 4096 > plan_.path.io_bytes) coverage_.note(Seen::kLongRecord);
    trace("set key %zu version %llu, %llu bytes, %s", operation.key,
          static_cast<unsigned long long>(operation.version),
          static_cast<unsigned long long>(bytes),
          submission.batch.set_mode == SetMode::kIfAbsent ? "if absent" : "replace");
  }
  submit(submission);
}

void Caller::submit_gets() {
  Submission& submission = take();
  prepare(submission, 1 + random_.below(5), Op::kGet);
  // Any size, the right one as the index tells, or a wrong one.
  const std::uint64_t manner = random_.below(20);
  submission.batch.allow_shorter = manner < 14;
  for (std::size_t i = 0; i < submission.items.size(); ++i) {
    set_key(submission, i, choose_key());
    Operation& operation = submission.operations[i];
    std::uint64_t bytes = plan_.path.value_bytes_max;
    if (!submission.batch.allow_shorter) {
      Item item;
      item.key = key(operation.key);
      store_.path().probe({&item, 1});
      if (item.outcome == Outcome::kHit) bytes = item.value_bytes;
      if (manner >= 18) bytes = choose_value_bytes();
    }
    lay_out(operation, bytes);
    for (std::size_t s = 0; s < operation.slice_count; ++s) {
      const Slice& slice = operation.slices[s];
      std::memset(slice.data, static_cast<int>(kPoison), std::min(slice.bytes, kPoisonBytes));
    }
    submission.items[i].value = std::span{operation.slices}.first(operation.slice_count);
    operation.invoked = oracle_.tick();
    trace("get key %zu into %llu bytes", operation.key, static_cast<unsigned long long>(bytes));
  }
  submit(submission);
}

void Caller::submit_keys_only(Op op) {
  Submission& submission = take();
  prepare(submission, 1 + random_.below(3), op);
  for (std::size_t i = 0; i < submission.items.size(); ++i) {
    set_key(submission, i, choose_key());
    Operation& operation = submission.operations[i];
    operation.invoked = oracle_.tick();
    if (op == Op::kDelete) {
      const Write& write = oracle_.begin_write(operation.key, true, 0);
      operation.version = write.version;
      operation.invoked = write.invoked;
      trace("delete key %zu version %llu", operation.key,
            static_cast<unsigned long long>(operation.version));
    }
  }
  submit(submission);
}

void Caller::probe(std::size_t key_index) {
  Item item;
  item.key = key(key_index);
  const std::uint64_t from = oracle_.tick();
  store_.path().probe({&item, 1});
  if (is_shared(key_index)) return;  // The other key of the fingerprint may answer.
  if (item.outcome == Outcome::kHit) {
    if (auto wrong = oracle_.check_presence(key_index, item.value_bytes, from); !wrong.empty()) {
      violation("probe: " + wrong);
    }
  } else if (item.outcome != Outcome::kMiss) {
    violation("probe: neither hit nor miss");
  } else if (!store_.path().health().is_down()) {
    if (auto wrong = oracle_.check_miss(key_index, from); !wrong.empty()) {
      violation("probe: " + wrong);
    }
  }
}

void Caller::cancel_one() {
  for (const auto& submission : submissions_) {
    if (!submission->is_out || submission->was_cancelled || !random_.one_in(3)) continue;
    submission->was_cancelled = true;
    trace("cancel a batch of key %zu", submission->operations[0].key);
    store_.cancel(submission->batch);
    return check_queues();
  }
}

void Caller::read_all() {
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    Submission& submission = take();
    prepare(submission, 1, Op::kGet);
    submission.batch.allow_shorter = true;
    submission.batch.waits_for_room = true;
    submission.batch.deadline_ns = kNever;
    set_key(submission, 0, i);
    Operation& operation = submission.operations[0];
    lay_out(operation, plan_.path.value_bytes_max);
    for (std::size_t s = 0; s < operation.slice_count; ++s) {
      const Slice& slice = operation.slices[s];
      std::memset(slice.data, static_cast<int>(kPoison), std::min(slice.bytes, kPoisonBytes));
    }
    submission.items[0].value = std::span{operation.slices}.first(operation.slice_count);
    operation.invoked = oracle_.tick();
    submit(submission);
  }
}

void Caller::probe_all() {
  for (std::size_t i = 0; i < plan_.keys; ++i) probe(i);
}

void Caller::note_path_is_down() {
  for (const auto& submission : submissions_) {
    if (submission->is_out) submission->path_was_down = true;
  }
}

void Caller::end_risks(Submission& submission) {
  for (std::size_t i = 0; submission.is_risky && i < submission.items.size(); ++i) {
    oracle_.end_risk(submission.operations[i].key);
  }
  submission.is_risky = false;
}

void Caller::forget_all() {
  for (const auto& submission : submissions_) {
    if (!submission->is_out) continue;
    for (std::size_t i = 0; submission->is_risky && i < submission->items.size(); ++i) {
      oracle_.excuse(submission->operations[i].key);
    }
    end_risks(*submission);
    submission->is_out = false;
  }
  outstanding_ = 0;
  is_stopping_ = false;
  late_.clear();
}

}  // namespace larder::simulation
