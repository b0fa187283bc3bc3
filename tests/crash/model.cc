#include "tests/crash/model.h"

#include <algorithm>
#include <set>

#include "larder/connectors/log/format/format.h"

namespace larder::crash {
namespace {

/// Reclaim begins below three free segments, one more may be on its way to the head, and one is the
/// head itself; the rest is a margin.
constexpr std::uint32_t kSegmentsApart = 6;
/// A table and its trailer waste less than a grain each for entries and keys.
constexpr std::uint64_t kGrainsNotForRecords = 4;

bool is_write(Op op) noexcept {
  return op == Op::kSet || op == Op::kDelete;
}

}  // namespace

// --- The ring -----------------------------------------------------------------------------------

double RingBound::segments_begun_max(std::uint64_t bytes, std::uint64_t kills) const noexcept {
  const auto filled_min =
      static_cast<double>(segment_bytes - kGrainsNotForRecords * grain_bytes - record_bytes_max);
  // Every segment begun empties one at most, which brings half of it back.
  const double brought_back = static_cast<double>(segment_bytes) / 2 / filled_min;
  // The segments that were begun when it started, and when a writer was killed, may be almost
  // empty.
  return (static_cast<double>(bytes) / filled_min + static_cast<double>(kills) + 1) /
         (1 - brought_back);
}

bool RingBound::may_evict(std::uint64_t bytes, std::uint64_t kills) const noexcept {
  return segments_begun_max(bytes, kills) >= static_cast<double>(segments - kSegmentsApart);
}

std::uint64_t RingBound::bytes_of(Op op, std::uint64_t value_bytes,
                                  std::uint64_t key_bytes) const noexcept {
  const std::uint64_t of_table = log_store::kTableEntryBytes + key_bytes;
  if (op == Op::kDelete) return grain_bytes + of_table;
  return log_store::record_bytes(value_bytes, grain_bytes) + of_table;
}

// --- The keys -----------------------------------------------------------------------------------

Model::Model(const Content& content, const RingBound& ring) : content_(content), ring_(ring) {
  // A new store is one in which everything was deleted.
  const Write absent{.is_delete = true, .is_acknowledged = true, .returned = 0};
  keys_.assign(content.keys(), {absent});
}

std::string Model::take(const Message& message) {
  ++step_;
  switch (message.kind) {
    case Kind::kInvoked:
      invoke(message);
      return {};
    case Kind::kEnded:
      return end(message);
    case Kind::kFound:
      return found(message);
    default:
      return {};
  }
}

void Model::invoke(const Message& message) {
  Pending pending{.op = message.op, .key = message.key, .version = message.version};
  if (message.op == Op::kGet) {
    pending.readable = keys_[message.key];
  } else {
    const Write write{.version = message.version,
                      .is_delete = message.op == Op::kDelete,
                      .invoked = step_,
                      .mark = {.bytes_settled = bytes_settled_, .life = life_}};
    pending.bytes = ring_.bytes_of(message.op, content_.value_bytes(message.key, message.version),
                                   content_.key(message.key).size());
    bytes_invoked_ += pending.bytes;
    keys_[message.key].push_back(write);
    // Deletes have no version: what identifies the write is when it was invoked.
    pending.version = step_;
    for (auto& [operation, other] : pending_) {
      if (other.op == Op::kGet && other.key == message.key) other.readable.push_back(write);
    }
  }
  pending_[message.operation] = std::move(pending);
}

std::string Model::end(const Message& message) {
  const auto at = pending_.find(message.operation);
  if (at == pending_.end()) return "an operation ended that was never invoked";
  const Pending pending = std::move(at->second);
  pending_.erase(at);
  if (pending.op == Op::kGet) return end_get(message, pending);
  bytes_settled_ += pending.bytes;
  auto& writes = keys_[message.key];
  const auto write = std::ranges::find(writes, pending.version, &Write::invoked);
  if (write == writes.end()) return "the model lost a write of " + content_.key(message.key);
  write->returned = step_;
  if (message.existed) {
    writes.erase(write);
  } else if (message.outcome == Outcome::kFailed) {
    ++counts_.refused;
  } else {
    ++(message.op == Op::kSet ? counts_.sets_acknowledged : counts_.deletes_acknowledged);
    acknowledge(message.key, *write);
  }
  return {};
}

void Model::acknowledge(std::uint32_t key, Write& write) {
  write.is_acknowledged = true;
  const std::uint64_t began = write.invoked;
  std::erase_if(keys_[key], [&](const Write& other) { return other.returned < began; });
}

bool Model::may_be_evicted(const Write& write) const noexcept {
  if (ring_.leaves_early && ring_.may_evict(bytes_invoked_, life_)) return true;
  return ring_.may_evict(bytes_invoked_ - write.mark.bytes_settled, life_ - write.mark.life);
}

std::string Model::end_get(const Message& message, const Pending& get) {
  ++counts_.gets_checked;
  const bool is_hit = message.outcome == Outcome::kHit;
  const bool is_right = std::ranges::any_of(get.readable, [&](const Write& write) {
    if (is_hit) return !write.is_delete && write.version == message.version;
    return write.is_delete || may_be_evicted(write);
  });
  if (is_right) return {};
  return content_.key(message.key) +
         ", under load: " + (is_hit ? "version " + std::to_string(message.version) : "a miss") +
         ", not of " + describe(message.key);
}

/// Nothing is in flight: this is what the last life left.
std::string Model::found(const Message& message) {
  auto& writes = keys_[message.key];
  const bool is_settled = writes.size() == 1 && writes.front().is_acknowledged;
  const bool is_evictable = std::ranges::any_of(
      writes, [&](const Write& write) { return !write.is_delete && may_be_evicted(write); });
  if (message.outcome == Outcome::kHit) {
    const auto write = std::ranges::find_if(
        writes, [&](const Write& one) { return !one.is_delete && one.version == message.version; });
    if (write == writes.end()) {
      return content_.key(message.key) + ": version " + std::to_string(message.version) +
             " is back, not one of " + describe(message.key);
    }
    ++(!is_settled ? counts_.unsettled : is_evictable ? counts_.evictable : counts_.kept_values);
    Write seen = *write;
    seen.is_acknowledged = true;
    writes = {seen};
    return {};
  }
  const bool may_be_deleted = std::ranges::any_of(writes, &Write::is_delete);
  if (!may_be_deleted && !is_evictable) {
    return content_.key(message.key) + " is gone, of " + describe(message.key);
  }
  if (!is_settled) {
    ++counts_.unsettled;
  } else if (is_evictable) {
    ++counts_.evictable;
    ++counts_.evicted;
  } else if (writes.front().invoked > 0) {
    ++counts_.kept_deletes;
  }
  if (!is_evictable) {  // A Delete it was, and it stays so.
    Write seen = *std::ranges::find_if(writes, &Write::is_delete);
    seen.is_acknowledged = true;
    writes = {seen};
  }
  return {};
}

void Model::end_life() {
  ++step_;
  for (auto& [operation, pending] : pending_) bytes_settled_ += pending.bytes;
  for (auto& writes : keys_) {
    for (Write& write : writes) write.returned = std::min(write.returned, step_);
  }
  pending_.clear();
}

std::size_t Model::write_batches_in_flight() const {
  std::set<std::uint64_t> batches;
  for (const auto& [operation, pending] : pending_) {
    if (is_write(pending.op)) batches.insert(operation / kOperationsPerBatch);
  }
  return batches.size();
}

std::string Model::describe(std::uint32_t key) const {
  std::string text;
  for (const Write& write : keys_[key]) {
    text += text.empty() ? "" : ", ";
    text += write.is_delete ? "deleted" : std::to_string(write.version);
    text += write.is_acknowledged ? "" : " (not acknowledged)";
  }
  return "{" + text + "}";
}

}  // namespace larder::crash
