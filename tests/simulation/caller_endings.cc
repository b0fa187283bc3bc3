// What comes back to the caller, and whether it may.
#include <algorithm>
#include <cstring>

#include "larder/connector/failed_keys.h"
#include "tests/simulation/caller.h"
#include "tests/support/io/simulated_history.h"

namespace larder::simulation {
namespace {

constexpr std::byte kPoison{0xA5};
constexpr std::size_t kPoisonBytes = 32;

bool is_poison(const std::byte* data, std::size_t bytes) {
  return std::all_of(data, data + bytes, [](std::byte byte) { return byte == kPoison; });
}

}  // namespace

void Caller::on_batch(Batch& batch) {
  Submission& submission = *static_cast<Submission*>(batch.user_data);
  if (!submission.is_out) return violation("C1: a batch came back twice");
  submission.is_out = false;
  --outstanding_;
  if (store_.path().health().is_down()) submission.path_was_down = true;
  look_();
  // What failed first: another Get of the same batch may be a miss because of it.
  for (const bool takes_failed : {true, false}) {
    for (std::size_t i = 0; i < submission.items.size(); ++i) {
      Item& item = submission.items[i];
      if ((item.outcome == Outcome::kFailed) == takes_failed) {
        end(submission, item, submission.operations[i]);
      }
    }
  }
  end_risks(submission);
}

void Caller::end(Submission& submission, Item& item, Operation& operation) {
  hash_ = io::mix_history(hash_, operation.key * 8 + static_cast<std::uint64_t>(item.outcome));
  hash_ = io::mix_history(hash_, item.value_bytes);
  const bool has_error = item.error.code() != ErrorCode::kNone;
  if (item.outcome == Outcome::kPending) return violation("C2: an item without an outcome");
  if (has_error != (item.outcome == Outcome::kFailed)) {
    return violation("C2: an error without failure, or a failure without error");
  }
  if (has_error) check_error(submission, item, operation);
  switch (submission.batch.op) {
    case Op::kGet:
      return end_get(submission, item, operation);
    case Op::kSet:
      return end_set(submission, item, operation);
    case Op::kDelete:
      return end_delete(item, operation);
    default:
      if (item.outcome != Outcome::kDone && item.outcome != Outcome::kMiss && !has_error) {
        violation("touch: a wrong outcome");
      }
  }
}

/// Is this error one that can happen here?
void Caller::check_error(const Submission& submission, const Item& item,
                         const Operation& operation) {
  const Batch& batch = submission.batch;
  const bool may_fail_io =
      plan_.faults.read_error > 0 || plan_.faults.write_error > 0 || plan_.faults.sync_error > 0;
  bool is_legal = false;
  switch (item.error.code()) {
    case ErrorCode::kDeadlineExceeded:
      coverage_.note(Seen::kDeadline);
      is_legal = batch.deadline_ns <= store_.clock().now_ns();
      break;
    case ErrorCode::kCancelled:
      coverage_.note(Seen::kCancelled);
      is_legal = submission.was_cancelled || is_stopping_;
      break;
    case ErrorCode::kCorruption:
      coverage_.note(is_shared(operation.key) ? Seen::kCollidingKeys : Seen::kCorruptionFound);
      is_legal = batch.op == Op::kGet && (corruption_allowed_ || is_shared(operation.key));
      break;
    case ErrorCode::kIo:
      is_legal = may_fail_io;
      break;
    case ErrorCode::kSizeMismatch:
      is_legal = batch.op == Op::kGet && (!batch.allow_shorter || is_shared(operation.key));
      break;
    case ErrorCode::kResourceExhausted:
      coverage_.note(Seen::kSetRefused);
      if (item.error.what().find("index") != std::string_view::npos) {
        coverage_.note(Seen::kIndexFull);
      }
      is_legal = batch.op == Op::kSet || batch.op == Op::kDelete;
      break;
    case ErrorCode::kUnavailable:
      is_legal = submission.path_was_down;
      break;
    default:
      break;
  }
  if (!is_legal) violation("an error that cannot happen here: " + item.error.to_string());
}

// --- Gets ---------------------------------------------------------------------------------------

void Caller::end_get(const Submission& submission, const Item& item, const Operation& operation) {
  trace("get key %zu of step %llu: %s, %llu bytes %s", operation.key,
        static_cast<unsigned long long>(operation.invoked),
        item.outcome == Outcome::kHit    ? "hit"
        : item.outcome == Outcome::kMiss ? "miss"
                                         : "failed",
        static_cast<unsigned long long>(item.value_bytes),
        item.outcome == Outcome::kFailed ? item.error.to_string().c_str() : "");
  const auto slices = std::span{operation.slices}.first(operation.slice_count);
  for (const Slice& slice : slices) {
    if (!is_poison(slice.data + slice.bytes, kPoisonBytes)) {
      return violation("a Get wrote behind a slice");
    }
  }
  switch (item.outcome) {
    case Outcome::kHit: {
      coverage_.note(Seen::kHit);
      if (item.value_bytes > store_.options().value_bytes_max) {
        coverage_.note(Seen::kValueAboveMaxValue);
      }
      const std::uint64_t room = bytes_of(slices);
      if (item.value_bytes > room || (item.value_bytes < room && !submission.batch.allow_shorter)) {
        return violation("a hit of another size than the buffers");
      }
      scratch_.clear();
      for (const Slice& slice : slices) {
        const std::size_t bytes =
            std::min<std::size_t>(slice.bytes, item.value_bytes - scratch_.size());
        scratch_.insert(scratch_.end(), slice.data, slice.data + bytes);
      }
      if (auto wrong = oracle_.check_hit(operation.key, scratch_, operation.invoked);
          !wrong.empty()) {
        violation("get: " + wrong);
      }
      return;
    }
    case Outcome::kMiss:
      coverage_.note(Seen::kMiss);
      for (const Slice& slice : slices) {
        if (!is_poison(slice.data, std::min(slice.bytes, kPoisonBytes))) {
          return violation("a miss touched the buffer");
        }
      }
      if (submission.path_was_down || is_shared(operation.key)) return;
      if (auto wrong = oracle_.check_miss(operation.key, operation.invoked); !wrong.empty()) {
        violation("get: " + wrong);
      }
      return;
    case Outcome::kFailed:
      if (item.error.code() == ErrorCode::kSizeMismatch && !is_shared(operation.key)) {
        if (auto wrong = oracle_.check_presence(operation.key, item.value_bytes, operation.invoked);
            !wrong.empty()) {
          violation("get, size mismatch: " + wrong);
        }
      }
      end_failed_get(submission, item, operation);
      return;
    default:
      violation("get: a wrong outcome");
  }
}

/// C6, by what failed: nothing is said about the value, it is a miss for some time, or for good.
void Caller::end_failed_get(const Submission& submission, const Item& item,
                            const Operation& operation) {
  const AfterFailedGet after = after_failed_get(item.error.code());
  const bool is_missed_size =
      item.error.code() == ErrorCode::kSizeMismatch && submission.batch.misses_wrong_sizes;
  if (after == AfterFailedGet::kNothing && !is_missed_size) return;
  const std::uint64_t step = oracle_.tick();
  if (item.error.code() == ErrorCode::kDeadlineExceeded) {
    late_[operation.key] = {operation.invoked, step,
                            submission.batch.deadline_ns + store_.options().miss_after_failure_ns};
  }
  const bool is_lasting = after == AfterFailedGet::kMissUntilStored;
  const std::uint64_t since_ns = item.error.code() == ErrorCode::kDeadlineExceeded
                                     ? submission.batch.deadline_ns
                                     : store_.clock().now_ns();
  // Of a batch with others it may have failed long before they ended, and the while be over.
  const bool is_since_known =
      item.error.code() == ErrorCode::kDeadlineExceeded || submission.items.size() == 1;
  const bool is_within =
      is_since_known && store_.clock().now_ns() < since_ns + store_.options().miss_after_failure_ns;
  if (is_lasting || is_within) {
    check_miss_after_failure(operation, is_lasting);
  }
  oracle_.excuse(operation.key);
}

/// C6: until it is stored again. A move that overtook the Get is a newer, verified record.
void Caller::check_miss_after_failure(const Operation& operation, bool is_lasting) {
  if (is_shared(operation.key) || oracle_.was_written_since(operation.key, operation.invoked))
    return;
  const auto place = store_.path().place_for_test(key(operation.key));
  if (place && (place->generation != operation.place_generation ||
                place->offset != operation.place_offset)) {
    return;
  }
  Item item;
  item.key = key(operation.key);
  store_.path().probe({&item, 1});
  if (item.outcome == Outcome::kHit) {
    violation("C6: a key is present although a Get of it failed; " +
              oracle_.describe(operation.key));
  } else if (is_lasting) {
    oracle_.note_gone(operation.key);
  }
}

/// C6: to callers a late key is a miss, so its value must not be what keeps theirs out.
void Caller::check_late_key_is_replaced(const Operation& operation) {
  const auto late = late_.find(operation.key);
  if (late == late_.end() || late->second.returned >= operation.invoked ||
      store_.clock().now_ns() >= late->second.until_ns ||
      oracle_.was_written_since(operation.key, late->second.invoked)) {
    return;
  }
  violation("C6: a value was kept though its Get was late; " + oracle_.describe(operation.key));
}

// --- Sets and deletes ---------------------------------------------------------------------------

void Caller::end_set(const Submission& submission, const Item& item, const Operation& operation) {
  trace("set key %zu version %llu: %s %s", operation.key,
        static_cast<unsigned long long>(operation.version),
        item.outcome == Outcome::kDone ? (item.existed ? "existed" : "done") : "failed",
        item.outcome == Outcome::kFailed ? item.error.to_string().c_str() : "");
  if (item.outcome == Outcome::kFailed) return oracle_.fail(operation.key, operation.version);
  if (item.outcome != Outcome::kDone) return violation("set: a wrong outcome");
  if (item.existed) {
    coverage_.note(Seen::kSetExisted);
    oracle_.drop(operation.key, operation.version);
    if (submission.batch.set_mode != SetMode::kIfAbsent) violation("set: existed, but it replaces");
    if (is_shared(operation.key)) return;
    check_late_key_is_replaced(operation);
    if (auto wrong = oracle_.check_presence(operation.key, std::nullopt, operation.invoked);
        !wrong.empty()) {
      violation("set if absent: " + wrong);
    }
    return;
  }
  const bool was_admitted = item.value_bytes > 0 || bytes_of(item.value) == 0;
  if (!was_admitted) {
    coverage_.note(Seen::kNotAdmitted);
    oracle_.drop(operation.key, operation.version);
    if (submission.batch.set_mode != SetMode::kIfAbsent ||
        plan_.path.admission != log_store::AdmissionMode::kLearned) {
      violation("set: it was not written, and it had to be");
    }
    if (oracle_.must_be_there(operation.key, operation.invoked)) {
      violation("set if absent: not admitted although the key is there; " +
                oracle_.describe(operation.key));
    }
    return;
  }
  coverage_.note(Seen::kSetAcknowledged);
  if (submission.batch.set_mode == SetMode::kIfAbsent &&
      oracle_.must_be_there(operation.key, operation.invoked)) {
    violation("set if absent: wrote although the key is there; " + oracle_.describe(operation.key));
  }
  const auto place = store_.path().place_for_test(key(operation.key));
  oracle_.note_home(operation.key, place ? place->generation : 0);
  oracle_.acknowledge(operation.key, operation.version,
                      store_.options().sync == log_store::SyncMode::kBatch, newest_generation_);
}

void Caller::end_delete(const Item& item, const Operation& operation) {
  trace("delete key %zu version %llu: %s", operation.key,
        static_cast<unsigned long long>(operation.version),
        item.outcome == Outcome::kFailed ? item.error.to_string().c_str()
        : item.outcome == Outcome::kDone ? "done"
                                         : "miss");
  if (item.outcome == Outcome::kFailed) return oracle_.fail(operation.key, operation.version);
  if (item.outcome != Outcome::kDone && item.outcome != Outcome::kMiss) {
    return violation("delete: a wrong outcome");
  }
  if (item.outcome == Outcome::kMiss) coverage_.note(Seen::kDeleteOfAbsentKey);
  if (item.outcome == Outcome::kDone && operation.place_generation == 0) {
    coverage_.note(Seen::kDeleteOvertook);
  }
  if (!is_shared(operation.key)) {
    if (auto wrong = oracle_.check_delete(operation.key, operation.version, operation.invoked,
                                          item.outcome == Outcome::kDone);
        !wrong.empty()) {
      violation(wrong);
    }
  }
  const bool is_durable =
      store_.options().delete_sync || store_.options().sync == log_store::SyncMode::kBatch;
  oracle_.acknowledge(operation.key, operation.version, is_durable, newest_generation_);
}

}  // namespace larder::simulation
