// How a node's items end: answers, and other ends. node.cc has the way to the server.
#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/connectors/resp/node.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {
namespace {

constexpr std::size_t kExistsKeysMax = 64;
/// If INFO was, or seemed to be, the reason why a connection was lost.
constexpr std::uint64_t kInfoAfterLossNs = 60'000'000'000;

}  // namespace

// ---- Answers ------------------------------------------------------------------------------------

void Node::on_ready(Connection& connection) noexcept {
  view_.note_attempt();
  if (connection.index() == 0 && !is_info_fatal_) next_info_ns_ = 0;
  needs_turn_ = true;
  health_log_.note_event(now_ns_);
}

bool Node::on_reply(Connection& connection, Command& command, const Reply& reply) noexcept {
  Operation& operation = command.operation;
  if (operation.kind == CommandKind::kInfo) return on_info(reply);
  if (operation.kind == CommandKind::kAudit) return on_audited(reply);
  const bool is_set = operation.kind == CommandKind::kSet;
  if (reply.kind != Reply::Kind::kError) note_served(connection, changes(operation.kind));
  const bool is_understood = [&] {
    const bool is_answer = operation.kind == CommandKind::kSizeOfKept;
    if (reply.kind == Reply::Kind::kError && !is_answer) {
      return on_error_reply(connection, operation, reply);
    }
    switch (operation.kind) {
      case CommandKind::kGet:
        return on_value(operation, reply);
      case CommandKind::kSet:
        return on_stored(operation, reply);
      case CommandKind::kSize:
        return on_size(operation, reply);
      case CommandKind::kAnyExists:
        return on_any_exists(operation, reply);
      case CommandKind::kSizeByValue:
        return on_size_by_value(operation, reply);
      case CommandKind::kSizeOfKept:
        return on_size_of_kept(operation, reply);
      case CommandKind::kDelete:
      case CommandKind::kTouch:
        return on_count(operation, reply);
      case CommandKind::kInfo:
      case CommandKind::kAudit:
        break;
    }
    return true;
  }();
  // An answer that was not understood counts as lost, and is released there.
  if (is_understood && is_set) view_.stored.release(command.payload_bytes);
  return is_understood;
}

bool Node::on_info(const Reply& reply) {
  is_info_asked_ = false;
  if (reply.kind != Reply::Kind::kValue) return true;
  ServerInfo info;
  info.read(reply.text, options_.database);
  if (view_.note_info(info)) audit_.note_losses();
  health_log_.note_event(now_ns_);
  // The keys themselves are not known then, but how many there can be.
  OwnWrites& stored = view_.stored;
  if (!stored.keeps_keys() && info.has_keyspace) {
    stored.keep_at_most(info.database_keys + (stored.stored_total() - stored_before_info_));
  }
  return true;
}

bool Node::on_audited(const Reply& reply) noexcept {
  std::optional<std::uint64_t> bytes;
  if (reply.kind == Reply::Kind::kInteger && reply.integer >= 0) {
    bytes = static_cast<std::uint64_t>(reply.integer);
  } else if (reply.kind != Reply::Kind::kError) {
    return false;
  } else if (find_reply_error(reply.text).error.code() == ErrorCode::kCorruption) {
    bytes = 0;  // Of another type: another program's key.
  }
  if (audit_.note_answer(bytes)) add_one(view_.counters.audited_gone);
  return true;
}

void Node::note_served(const Connection& connection, bool is_write) noexcept {
  const Relocation::Finding finding = relocation_.note_served(connection.is_suspect(), is_write);
  if (finding == Relocation::Finding::kNothing) return;
  for (const auto& one : connections_) {
    if (finding == Relocation::Finding::kElsewhere && one->is_suspect()) one->renew();
    one->suspect(false);
  }
}

bool Node::on_error_reply(Connection& connection, const Operation& operation,
                          const Reply& reply) noexcept {
  const ReplyError& known = find_reply_error(reply.text);
  view_.note_refusal(known);
  health_log_.note_event(now_ns_);
  const Relocation::Verdict verdict = relocation_.note_refusal(known, now_ns_);
  if (verdict.suspects_all) {
    for (const auto& one : connections_) one->suspect(one->is_ready());
  }
  if (verdict.suspects_this) connection.suspect(true);
  if (verdict.renews_this) {
    connection.renew();
    add_one(view_.counters.connections_renewed);
  }
  fail_all(operation, known.error);
  return true;
}

bool Node::on_value(Operation& operation, const Reply& reply) noexcept {
  BatchState& state = *operation.batch;
  Item& item = state.batch->items[operation.item];
  if (reply.kind == Reply::Kind::kNull) {
    view_.stored.note_gone(item.key);
    view_.note_success(false);
    if (!operation.is_begun) {
      miss(state, operation.item);
    } else {
      end(state, operation.item,
          Error{ErrorCode::kUnavailable, "resp", "the connection was lost inside of the value"});
    }
    return true;
  }
  if (reply.kind != Reply::Kind::kValue) return false;
  view_.note_success(false);
  if (reply.is_too_large()) {
    miss_as_too_large(state, operation.item);
    return true;
  }
  item.value_bytes = reply.value_bytes;
  if (!reply.fits) {
    add_one(view_.counters.size_mismatches);
    end(state, operation.item,
        Error{ErrorCode::kSizeMismatch, "resp", "the value and the buffer differ in size"});
    return true;
  }
  item.outcome = Outcome::kHit;
  end(state, operation.item, {});
  return true;
}

bool Node::on_stored(Operation& operation, const Reply& reply) noexcept {
  BatchState& state = *operation.batch;
  Item& item = state.batch->items[operation.item];
  const bool has_existed =
      reply.kind == Reply::Kind::kNull && state.batch->set_mode == SetMode::kIfAbsent;
  const bool is_stored = reply.kind == Reply::Kind::kSimple && reply.text == "OK";
  if (!has_existed && !is_stored) return false;
  view_.note_success(true);
  if (has_existed) {
    operation.kind = CommandKind::kSizeOfKept;
    operation.was_retried = false;
    again_[kSmall].push_back(std::move(operation));
    return true;
  }
  view_.stored.note_stored(item.key, bytes_of(item.value));
  end_set(state, operation.item, false);
  return true;
}

/// The existing value was kept; if no Get can take it, it is replaced.
bool Node::on_size_of_kept(Operation& operation, const Reply& reply) noexcept {
  BatchState& state = *operation.batch;
  const bool is_error = reply.kind == Reply::Kind::kError;
  if (!is_error && (reply.kind != Reply::Kind::kInteger || reply.integer < 0)) return false;
  const bool is_no_value =
      is_error ? find_reply_error(reply.text).scope == ReplyError::Scope::kKey &&
                     find_reply_error(reply.text).error.code() == ErrorCode::kCorruption
               : reply.is_too_large();
  if (!is_no_value) {
    end_set(state, operation.item, true);
    return true;
  }
  if (!is_error) add_one(view_.counters.values_too_large);
  intake_.note_bad_value(state.batch->items[operation.item].key);
  operation.kind = CommandKind::kSet;
  again_[kLarge].push_back(std::move(operation));
  return true;
}

void Node::end_set(BatchState& state, std::uint32_t index, bool existed) noexcept {
  Item& item = state.batch->items[index];
  item.existed = existed;
  item.outcome = Outcome::kDone;
  end(state, index, {});
}

bool Node::on_size(Operation& operation, const Reply& reply) noexcept {
  if (reply.kind != Reply::Kind::kInteger || reply.integer < 0) return false;
  BatchState& state = *operation.batch;
  view_.note_success(false);
  --state.sizes_open;
  if (reply.is_too_large()) {
    // Before the item ends, because the batch may be freed then.
    ask_for_absent(state);
    miss_as_too_large(state, operation.item);
    return true;
  }
  if (reply.integer > 0) {
    Item& item = state.batch->items[operation.item];
    item.value_bytes = static_cast<std::uint64_t>(reply.integer);
    item.outcome = Outcome::kHit;
    // Before the item ends, because the batch may be freed then.
    ask_for_absent(state);
    end(state, operation.item, {});
    return true;
  }
  state.absent_or_empty.push_back(operation.item);
  ask_for_absent(state);
  return true;
}

void Node::ask_for_absent(BatchState& state) noexcept {
  const bool is_last = state.sizes_open == 0 && state.next_item == state.batch->items.size();
  if (state.absent_or_empty.empty()) return;
  if (!is_last && state.absent_or_empty.size() < kExistsKeysMax) return;
  Operation operation;
  operation.batch = &state;
  operation.kind = CommandKind::kAnyExists;
  operation.items.swap(state.absent_or_empty);
  again_[kSmall].push_back(std::move(operation));
}

bool Node::on_any_exists(const Operation& operation, const Reply& reply) noexcept {
  if (reply.kind != Reply::Kind::kInteger || reply.integer < 0) return false;
  BatchState& state = *operation.batch;
  view_.note_success(false);
  if (reply.integer == 0) {
    for (const std::uint32_t item : operation.items) {
      view_.stored.note_gone(state.batch->items[item].key);
    }
    // The last of them may end the batch.
    for (const std::uint32_t item : operation.items) miss(state, item);
    return true;
  }
  for (const std::uint32_t item : operation.items) {
    Operation one;
    one.batch = &state;
    one.item = item;
    one.kind = CommandKind::kSizeByValue;
    again_[kSmall].push_back(std::move(one));
  }
  return true;
}

bool Node::on_size_by_value(const Operation& operation, const Reply& reply) noexcept {
  BatchState& state = *operation.batch;
  Item& item = state.batch->items[operation.item];
  if (reply.kind == Reply::Kind::kNull) {
    view_.stored.note_gone(item.key);
    miss(state, operation.item);
    return true;
  }
  if (reply.kind != Reply::Kind::kValue) return false;
  if (reply.is_too_large()) {
    miss_as_too_large(state, operation.item);
    return true;
  }
  item.value_bytes = reply.value_bytes;
  item.outcome = Outcome::kHit;
  end(state, operation.item, {});
  return true;
}

bool Node::on_count(const Operation& operation, const Reply& reply) noexcept {
  if (reply.kind != Reply::Kind::kInteger || reply.integer < 0 || reply.integer > 1) return false;
  BatchState& state = *operation.batch;
  Item& item = state.batch->items[operation.item];
  const bool is_delete = operation.kind == CommandKind::kDelete;
  view_.note_success(is_delete);
  if (is_delete || reply.integer == 0) view_.stored.note_gone(item.key);
  item.outcome = reply.integer == 1 ? Outcome::kDone : Outcome::kMiss;
  end(state, operation.item, {});
  return true;
}

// ---- Ends ---------------------------------------------------------------------------------------

void Node::miss(BatchState& state, std::uint32_t item) noexcept {
  state.batch->items[item].outcome = Outcome::kMiss;
  end(state, item, {});
}

/// Remembered, so that a Set replaces it and no Get is sent for it.
void Node::miss_as_too_large(BatchState& state, std::uint32_t item) noexcept {
  add_one(view_.counters.values_too_large);
  intake_.note_bad_value(state.batch->items[item].key);
  state.batch->items[item].miss_reason = MissReason::kOther;
  miss(state, item);
}

void Node::fail_all(const Operation& operation, const Error& error) noexcept {
  BatchState& state = *operation.batch;
  if (operation.kind == CommandKind::kSize) {
    --state.sizes_open;
    ask_for_absent(state);
  }
  // The last of them may end the batch.
  for (const std::uint32_t item : items_of(operation)) end(state, item, error);
}

/// A read becomes a miss, as when the intake answers, unless a part of its value was delivered.
void Node::end_while_down(const Operation& operation, const Error& error) noexcept {
  BatchState& state = *operation.batch;
  if (!is_read(state.batch->op) || operation.is_begun) return fail_all(operation, error);
  if (operation.kind == CommandKind::kSize) --state.sizes_open;
  for (const std::uint32_t item : items_of(operation)) {
    state.batch->items[item].miss_reason = MissReason::kDown;
    miss(state, item);
  }
}

/// The batch may be the caller's afterwards, and the state freed.
void Node::end(BatchState& state, std::uint32_t index, const Status& status) noexcept {
  Batch& batch = *state.batch;
  intake_.end(batch, batch.items[index], status);
  release(state);
  intake_.finish(batch, 1);
}

/// One item less in hand.
void Node::release(BatchState& state) noexcept {
  LARDER_CHECK(state.in_hand > 0);
  if (--state.in_hand > 0) return;
  state.batch->items.front().connector_words[0] = 0;
  states_.erase(state.self);
}

void Node::give_up_due(std::uint64_t now_ns) noexcept {
  const std::uint64_t cancels = intake_.cancels();
  if (std::exchange(cancels_seen_, cancels) == cancels && now_ns < next_deadline_ns_) return;
  next_deadline_ns_ = kNever;
  for (auto at = states_.begin(); at != states_.end();) {
    BatchState& state = *at++;
    if (state.is_given_up)
      continue;  // A half-sent command has a clock of its own: overdue_at_ns().
    if (Intake::is_cancelled(*state.batch)) {
      give_up(state, {ErrorCode::kCancelled, "resp", "the batch was cancelled"});
    } else if (state.batch->deadline_ns <= now_ns) {
      give_up(state, kLate);
    } else {
      next_deadline_ns_ = std::min(next_deadline_ns_, state.batch->deadline_ns);
    }
  }
}

void Node::give_up(BatchState& state, const Error& error) noexcept {
  Batch& batch = *state.batch;
  state.is_given_up = true;
  std::size_t ended = 0;
  const auto give_up_item = [&](std::uint32_t item) {
    intake_.end(batch, batch.items[item], error);
    ++ended;
  };
  for (std::deque<Operation>& again : again_) {
    std::erase_if(again, [&](const Operation& operation) {
      if (operation.batch != &state) return false;
      for (const std::uint32_t item : items_of(operation)) give_up_item(item);
      return true;
    });
  }
  for (const std::uint32_t item : state.absent_or_empty) give_up_item(item);
  state.absent_or_empty.clear();
  for (const auto& connection : connections_) give_up_commands(*connection, state, give_up_item);
  state.sizes_open = 0;
  for (std::size_t i = 0; i < ended; ++i) release(state);
  if (ended > 0) intake_.finish(batch, ended);
}

void Node::give_up_commands(Connection& connection, const BatchState& state,
                            const std::function<void(std::uint32_t)>& give_up_item) noexcept {
  std::deque<Command>& commands = connection.commands();
  for (std::size_t i = 0; i < commands.size();) {
    Command& command = commands[i];
    const bool is_half_sent =
        command.payload_bytes > 0 && command.sent_bytes > 0 && !command.is_sent();
    // A half-sent payload still needs the caller's memory: see overdue_at_ns().
    if (command.operation.batch != &state || is_half_sent) {
      ++i;
      continue;
    }
    if (command.operation.kind == CommandKind::kSet) view_.stored.release(command.payload_bytes);
    for (const std::uint32_t item : items_of(command.operation)) give_up_item(item);
    command.operation.batch = nullptr;
    if (command.sent_bytes == 0) {
      connection.erase_unsent(i);
    } else {
      ++i;
    }
  }
}

void Node::on_lost(Connection& connection, std::deque<Command> commands, const Error& error,
                   bool was_ready) noexcept {
  view_.note_attempt();
  if (connection.index() == 0) {
    audit_.note_lost();
    is_info_asked_ = false;
    is_info_fatal_ = !commands.empty() && commands.front().operation.kind == CommandKind::kInfo;
    if (is_info_fatal_) next_info_ns_ = now_ns_ + kInfoAfterLossNs;
  }
  needs_turn_ = true;
  health_log_.note_event(now_ns_);
  if (!is_closing_ && was_ready) add_one(view_.counters.connections_lost);
  for (Command& command : commands) {
    Operation& operation = command.operation;
    if (operation.batch == nullptr) continue;
    if (operation.kind == CommandKind::kSet) view_.stored.release(command.payload_bytes);
    const bool is_late = operation.batch->batch->deadline_ns <= now_ns_;
    if (is_closing_ || is_late) {
      fail_all(operation, is_closing_ ? kStopped : kLate);
    } else if (command.sent_bytes == 0) {
      again_[lane_of(operation.kind)].push_back(std::move(operation));
    } else if (!changes(operation.kind) && !operation.was_retried) {
      operation.was_retried = true;
      add_one(view_.counters.retries);
      again_[lane_of(operation.kind)].push_back(std::move(operation));
    } else {
      fail_all(operation, error);
    }
  }
}

}  // namespace larder::resp
