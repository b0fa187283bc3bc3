#include "larder/connectors/log/machine/item_runner.h"

#include <algorithm>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

/// Keys of a batch that the ledger gets at once: bounds the time that this takes.
constexpr std::size_t kUsesAtOnce = 256;
/// In an item's note word: it is not worth a write.
constexpr std::uint64_t kNotAdmitted = std::uint64_t{1} << 32;
/// The index had the key.
constexpr std::uint64_t kIsThere = std::uint64_t{1} << 33;

}  // namespace

template <class Task>
Task& ItemRunner::Pool<Task>::take() {
  if (free.empty()) return all.emplace_back();
  Task& task = *free.back();
  free.pop_back();
  return task;
}

void ItemRunner::turn() noexcept {
  QueueMask blocked = 0;
  while (state_.transfers.available() > 0) {
    const Ticket ticket = state_.intake.take(kLane, blocked);
    if (!ticket) return;
    Item& item = ticket.items.front();
    const auto number = static_cast<std::size_t>(&item - ticket.batch->items.data());
    if (number == 0) unsynced(*ticket.batch) = 0;
    Waiting& waiting = waiting_[queue_of(ticket.batch->op, ticket.batch->urgency)];
    const bool has_waited =
        std::exchange(waiting, {}) == Waiting{.batch = ticket.batch,
                                              .submitted_ns = ticket.batch->connector_submitted_ns,
                                              .number = number};
    if (number % kUsesAtOnce == 0 && !has_waited) note_uses(*ticket.batch, number);
    if (!state_.intake.begin(*ticket.batch, item)) {
      state_.intake.finish(ticket);
    } else if (start(*ticket.batch, item) == Start::kBlocked) {
      blocked |= QueueMask{1} << queue_of(ticket.batch->op, ticket.batch->urgency);
      waiting = {.batch = ticket.batch,
                 .submitted_ns = ticket.batch->connector_submitted_ns,
                 .number = number};
      state_.intake.put_back(ticket);
    }
  }
}

void ItemRunner::note_uses(Batch& batch, std::size_t first) noexcept {
  if (batch.op == Op::kDelete || batch.hint == Hint::kRelease) return;
  const std::span<Item> items =
      batch.items.subspan(first, std::min(kUsesAtOnce, batch.items.size() - first));
  const bool is_set = batch.op == Op::kSet;
  if (!state_.options.wants_worth()) {
    if (!is_set) return;
    for (Item& item : items) note_word(item) = 0;  // A lookup may have left its own word.
    return;
  }
  // The length of the request according to a lookup; without one, the batch is a request.
  const auto told = state_.requests.find(state_.fingerprint(batch.items.front().key));
  const std::size_t before = is_set && told ? told->known : 0;
  const std::size_t keys =
      std::max<std::size_t>(told ? told->keys : 0, before + batch.items.size());
  const std::size_t known = told ? told->known : is_set ? 0 : batch.items.size();
  const auto number = [](std::size_t count) {
    return static_cast<std::uint32_t>(std::min<std::size_t>(count, UINT32_MAX));
  };
  state_.ledger.begin(number(keys), number(known), number(before + first + items.size()));
  const std::uint64_t newest = state_.segments.newest_generation();
  for (std::size_t i = items.size(); i > 0; --i) {
    Item& item = items[i - 1];
    const Fingerprint fingerprint = state_.fingerprint(item.key);
    const auto entry = state_.index.find(fingerprint);
    note_word(item) = 0;
    if (!entry && !is_set) continue;
    const std::uint64_t bytes = entry ? entry->value_bytes : bytes_of(item.value);
    const std::uint32_t note =
        state_.ledger.use(fingerprint, entry ? &*entry : nullptr, state_.bytes_of_new(bytes));
    if (entry) state_.index.set_note(fingerprint, note);
    note_word(item) = note | (entry ? kIsThere : 0);
    state_.ledger.look(state_.index, newest);
  }
  if (!is_set || batch.set_mode == SetMode::kReplace || !reclaimer_.admits_by_worth()) return;
  // Keys behind one that is not written are useless.
  bool is_admitted = first == 0 || (note_word(batch.items[first - 1]) & kNotAdmitted) == 0;
  for (Item& item : items) {
    if (is_admitted && (note_word(item) & kIsThere) == 0) {
      const auto note = static_cast<std::uint32_t>(note_word(item));
      is_admitted = state_.ledger.worth_when_new(note) > state_.ledger.admission_threshold();
    }
    if (!is_admitted && bytes_of(item.value) > 0) note_word(item) |= kNotAdmitted;
  }
}

ItemRunner::Start ItemRunner::start(Batch& batch, Item& item) noexcept {
  switch (batch.op) {
    case Op::kGet:
      return start_get(batch, item);
    case Op::kSet:
      return start_set(batch, item);
    case Op::kDelete:
      return start_delete(batch, item);
    default:
      touch(batch, item);
      return Start::kStarted;
  }
}

ItemRunner::Start ItemRunner::start_get(Batch& batch, Item& item) noexcept {
  if (loads_.has_waiting()) return Start::kBlocked;
  GetTask& task = gets_.take();
  task.owner = {.batch = &batch, .item = &item};
  task.load.fingerprint = state_.fingerprint(item.key);
  task.load.key = item.key;
  task.load.value = item.value;
  task.load.allow_shorter = batch.allow_shorter;
  task.load.sink = this;
  task.load.user_data = &task;
  loads_.start(task.load);
  return Start::kStarted;
}

void ItemRunner::on_load(LoadTask& load) noexcept {
  GetTask& task = *static_cast<GetTask*>(load.user_data);
  const Owner owner = task.owner;
  const Outcome outcome = load.outcome;
  const Error error = load.error;
  const auto entry = state_.index.find(load.fingerprint);
  if (outcome == Outcome::kHit || error.code() == ErrorCode::kSizeMismatch) {
    owner.item->value_bytes = load.value_bytes;
  }
  if (outcome == Outcome::kHit && entry && !entry->was_read) {
    state_.index.set_was_read(load.fingerprint);
  }
  const bool is_current = entry && entry->location == load.location;
  gets_.give(task);
  // A bad record has left the index, and a record that replaced it meanwhile is another value.
  if (outcome == Outcome::kFailed) return end(owner, error, is_current);
  end(owner, outcome);
}

ItemRunner::Start ItemRunner::start_set(Batch& batch, Item& item) noexcept {
  if (appender_.has_waiting()) return Start::kBlocked;
  const Fingerprint fingerprint = state_.fingerprint(item.key);
  if (state_.intake.set_mode_of(batch, item) == SetMode::kIfAbsent) {
    if (const auto entry = state_.index.find(fingerprint)) {
      if (!entry->was_read) state_.index.set_was_read(fingerprint);
      reclaimer_.note_stored(bytes_taken(*entry, state_.grain_bytes()), false);
      item.existed = true;
      end({.batch = &batch, .item = &item}, Outcome::kDone);
      return Start::kStarted;
    }
    // C4: of several in flight one writes. The others wait to see whether it succeeds.
    if (state_.guard.busy(fingerprint)) return Start::kBlocked;
    if ((note_word(item) & kNotAdmitted) != 0) {
      state_.ledger.note_gone(fingerprint, static_cast<std::uint32_t>(note_word(item)));
      state_.counters.records_not_written_total.add();
      state_.counters.bytes_not_written_total.add(bytes_of(item.value));
      state_.events.note(EventPage::Kind::kRemoved, as_text(item.key), bytes_of(item.value));
      end({.batch = &batch, .item = &item}, Outcome::kDone);
      return Start::kStarted;
    }
  }
  SetTask& task = sets_.take();
  task.owner = {.batch = &batch, .item = &item};
  task.store.fingerprint = fingerprint;
  task.store.key = item.key;
  task.store.value = item.value;
  task.store.value_bytes = bytes_of(item.value);
  task.store.wants_sync = state_.options.sync == SyncMode::kBatch;
  task.store.note = static_cast<std::uint32_t>(note_word(item));
  task.store.source.reset();
  task.store.sink = this;
  task.store.user_data = &task;
  const Admission admission = appender_.start_store(task.store);
  if (admission == Admission::kStarted) return Start::kStarted;
  const Owner owner = task.owner;
  sets_.give(task);
  if (admission == Admission::kWait) return Start::kBlocked;
  state_.counters.sets_refused_total.add();
  end(owner, appender_.refusal());
  return Start::kStarted;
}

bool ItemRunner::on_written(StoreTask& store) noexcept {
  Batch& batch = *static_cast<SetTask*>(store.user_data)->owner.batch;
  return ++unsynced(batch) >= Intake::items_left(batch);
}

void ItemRunner::on_store(StoreTask& store) noexcept {
  SetTask& task = *static_cast<SetTask*>(store.user_data);
  const Owner owner = task.owner;
  const Error error = store.error;
  if (error.code() == ErrorCode::kNone) {
    owner.item->value_bytes = store.value_bytes;
    reclaimer_.note_stored(state_.bytes_of_new(store.value_bytes), true);
  } else if (error.code() == ErrorCode::kResourceExhausted && error.sys_errno() == 0) {
    reclaimer_.request_early();  // The index is full. A full file system gains nothing by it.
  }
  if (store.wants_sync && unsynced(*owner.batch) > 0) --unsynced(*owner.batch);
  sets_.give(task);
  if (error.code() != ErrorCode::kNone) return end(owner, error);
  end(owner, Outcome::kDone);
}

ItemRunner::Start ItemRunner::start_delete(Batch& batch, Item& item) noexcept {
  const Owner owner{.batch = &batch, .item = &item};
  if (appender_.has_waiting()) return Start::kBlocked;
  if (is_broken(Rule::kTombstoneAlways) && !state_.index.find(state_.fingerprint(item.key))) {
    end(owner, Outcome::kMiss);
    return Start::kStarted;
  }
  EraseTask& task = erases_.take();
  task.owner = owner;
  task.erase.fingerprint = state_.fingerprint(item.key);
  task.erase.key = item.key;
  task.erase.wants_sync = state_.options.delete_sync || state_.options.sync == SyncMode::kBatch;
  task.erase.sink = this;
  task.erase.user_data = &task;
  const Admission admission = appender_.start_delete(task.erase);
  if (admission == Admission::kStarted) return Start::kStarted;
  erases_.give(task);
  if (admission == Admission::kWait) return Start::kBlocked;
  end(owner, Error{ErrorCode::kResourceExhausted, "log",
                   "no segment with room for the tombstone; nothing was deleted"});
  return Start::kStarted;
}

void ItemRunner::on_delete(DeleteTask& erase) noexcept {
  EraseTask& task = *static_cast<EraseTask*>(erase.user_data);
  const Owner owner = task.owner;
  const Error error = erase.error;
  const bool existed = erase.existed;
  erases_.give(task);
  if (error.code() != ErrorCode::kNone) return end(owner, error);
  end(owner, existed ? Outcome::kDone : Outcome::kMiss);
}

void ItemRunner::touch(Batch& batch, Item& item) noexcept {
  const Fingerprint fingerprint = state_.fingerprint(item.key);
  const auto entry = state_.index.find(fingerprint);
  const Owner owner{.batch = &batch, .item = &item};
  if (entry && batch.hint == Hint::kRelease) {
    return end(owner, state_.end_retention(fingerprint) ? Outcome::kDone : Outcome::kMiss);
  }
  if (entry && !entry->was_read) state_.index.set_was_read(fingerprint);
  if (entry && batch.hint == Hint::kRetain && !retain(batch, fingerprint, *entry)) {
    return end(owner, Error{ErrorCode::kResourceExhausted, "log",
                            "retained values have all that they may take (pins=); release some"});
  }
  end(owner, entry ? Outcome::kDone : Outcome::kMiss);
}

bool ItemRunner::retain(const Batch& batch, const Fingerprint& fingerprint,
                        const IndexEntry& entry) noexcept {
  const std::uint64_t now_ns = state_.clock.now_ns();
  const bool is_retained = state_.retentions.add(fingerprint, entry.location.segment,
                                                 entry.value_bytes, now_ns + batch.hold_ns, now_ns);
  if (!is_retained) state_.counters.retentions_refused_total.add();
  state_.count_retentions();
  return is_retained;
}

void ItemRunner::end(const Owner& owner, Outcome outcome) noexcept {
  owner.item->outcome = outcome;
  state_.intake.end(*owner.batch, *owner.item, {});
  state_.intake.finish(*owner.batch, 1);
}

void ItemRunner::end(const Owner& owner, const Error& error, bool says_of_key) noexcept {
  state_.intake.end(*owner.batch, *owner.item, error, says_of_key);
  state_.intake.finish(*owner.batch, 1);
}

}  // namespace larder::log_store
