#include "larder/connectors/resp/node.h"

#include <algorithm>
#include <charconv>

#include "larder/base/check.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {
namespace {

constexpr std::uint32_t kSlicesMax = 1024;
constexpr std::size_t kExistsKeysMax = 64;
constexpr std::uint64_t kSmallCostBytes = 64;
/// A store that is half sent at its deadline and makes no progress for so long takes its connection
/// along.
constexpr std::uint64_t kOverdueGraceNs = 20'000'000;

constexpr Error kLate{ErrorCode::kDeadlineExceeded, "resp", "the deadline had passed"};
constexpr Error kStopped{ErrorCode::kCancelled, "resp", "the connector was stopped"};

std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 24> digits{};
  text.append(digits.data(),
              std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

CommandKind first_command(Op op) noexcept {
  switch (op) {
    case Op::kGet:
      return CommandKind::kGet;
    case Op::kSet:
      return CommandKind::kSet;
    case Op::kExists:
      return CommandKind::kSize;
    case Op::kDelete:
      return CommandKind::kDelete;
    case Op::kTouch:
      return CommandKind::kTouch;
  }
  return CommandKind::kGet;
}

void add_one(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

}  // namespace

Node::Node(const RespOptions& options, Resolver& resolver, TlsContext* tls, NodeView& view,
           BatchSink& sink, int epoll_fd)
    : options_(options),
      view_(view),
      sink_(sink),
      context_{.options = options,
               .resolver = resolver,
               .tls = tls,
               .peer = view.peer,
               .events = *this,
               .epoll_fd = epoll_fd} {
  std::string expiry;
  if (options.ttl_ms > 0) {
    append_bulk(expiry, "PX");
    append_bulk(expiry, std::to_string(options.ttl_ms));
  }
  set_tails_[0] = "\r\n" + expiry;
  set_tails_[1] = set_tails_[0];
  append_bulk(set_tails_[1], "NX");
  const std::uint64_t seed = RealClock::instance().now_ns();
  for (std::uint32_t i = 0; i <= options.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(context_, i, seed + i));
  }
}

std::size_t Node::lane_of(CommandKind kind) noexcept {
  return kind == CommandKind::kGet || kind == CommandKind::kSet ? kLarge : kSmall;
}

std::span<const std::unique_ptr<Connection>> Node::connections_of(std::size_t lane) const noexcept {
  const std::span all{connections_};
  return lane == kSmall ? all.first(1) : all.subspan(1);
}

// ---- In and out ---------------------------------------------------------------------------------

void Node::accept(Batch& batch, std::uint64_t now_ns) {
  now_ns_ = now_ns;
  BatchState& state = states_.emplace_back();
  state.self = std::prev(states_.end());
  state.batch = &batch;
  state.left = static_cast<std::uint32_t>(batch.items.size());
  for (Item& item : batch.items) {
    item.value_bytes = 0;
    item.error = {};
    item.outcome = Outcome::kPending;
    item.existed = false;
  }
  if (batch.deadline_ns != kNever) state.deadline = deadlines_.emplace(batch.deadline_ns, &state);
  lanes_[lane_of(first_command(batch.op))].add(state);
  if (is_closing_) give_up(state, kStopped);
}

void Node::on_cancel(std::uint64_t now_ns) noexcept {
  now_ns_ = now_ns;
  for (auto at = states_.begin(); at != states_.end();) {
    BatchState& state = *at++;
    if ((state.batch->connector_pending.load(std::memory_order_acquire) & kCancelBit) == 0)
      continue;
    give_up(state, {ErrorCode::kCancelled, "resp", "the batch was cancelled"});
  }
}

void Node::on_io(std::uint64_t epoll_data, std::uint32_t epoll_events,
                 std::uint64_t now_ns) noexcept {
  now_ns_ = now_ns;
  connections_.at(epoll_data >> 32U)
      ->on_io(epoll_events, static_cast<std::uint32_t>(epoll_data), now_ns);
}

void Node::on_resolved(std::uint64_t now_ns) noexcept {
  now_ns_ = now_ns;
  for (const auto& connection : connections_) connection->on_resolved(now_ns);
}

void Node::turn(std::uint64_t now_ns) noexcept {
  now_ns_ = now_ns;
  needs_turn_ = false;
  for (const auto& connection : connections_) {
    if (connection->wants_turn()) connection->on_turn(now_ns);
    connection->on_time(now_ns);
    if (overdue_at_ns(*connection) <= now_ns) connection->lose(kLate, now_ns);
  }
  // Once given up a batch is out of the map; what is half sent has its own clock above.
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    BatchState& state = *deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    state.deadline.reset();
    give_up(state, kLate);
  }
  poll_info(now_ns);
  pump(kSmall, now_ns);
  pump(kLarge, now_ns);
}

std::uint64_t Node::next_time_ns() const noexcept {
  if (needs_turn_) return 0;
  std::uint64_t next = deadlines_.empty() ? kNever : deadlines_.begin()->first;
  for (const auto& connection : connections_) {
    if (connection->wants_turn()) return 0;
    next = std::min({next, connection->next_time_ns(), overdue_at_ns(*connection)});
  }
  if (connections_.front()->is_ready() && !is_info_asked_) next = std::min(next, next_info_ns_);
  return next;
}

std::uint64_t Node::overdue_at_ns(const Connection& connection) const noexcept {
  const Command* const command = connection.half_sent();
  if (command == nullptr || command->operation.batch == nullptr) return kNever;
  const std::uint64_t deadline_ns = command->operation.batch->batch->deadline_ns;
  if (deadline_ns == kNever) return kNever;
  return std::max(deadline_ns, connection.last_progress_ns() + kOverdueGraceNs);
}

void Node::close(std::uint64_t now_ns) noexcept {
  now_ns_ = now_ns;
  is_closing_ = true;
  for (const auto& connection : connections_) connection->close(kStopped);
  while (!states_.empty()) give_up(states_.front(), kStopped);
}

// ---- Sending ------------------------------------------------------------------------------------

void Node::poll_info(std::uint64_t now_ns) {
  Connection& connection = *connections_.front();
  if (is_info_asked_ || now_ns < next_info_ns_ || !connection.has_room(0)) return;
  Command command;
  command.operation.kind = CommandKind::kInfo;
  command.head = encode_command({"INFO"});
  connection.push(std::move(command), now_ns);
  is_info_asked_ = true;
  next_info_ns_ = now_ns + options_.info_interval_ns;
}

void Node::pump(std::size_t lane, std::uint64_t now_ns) {
  const auto connections = connections_of(lane);
  const bool is_ready =
      std::ranges::any_of(connections, [](const auto& one) { return one->is_ready(); });
  if (!is_ready) {
    const bool is_down =
        std::ranges::all_of(connections, [](const auto& one) { return one->is_down(); });
    if (is_down) fail_lane(lane, connections.front()->last_error());
    return;
  }
  Operation operation;
  while (take(lane, operation, now_ns)) {
    const std::uint64_t cost_bytes = cost_of(operation);
    Connection* const connection = choose(lane, cost_bytes);
    if (connection == nullptr) {
      lanes_[lane].put_first(std::move(operation));
      break;
    }
    Command command;
    command.operation = std::move(operation);
    command.cost_bytes = cost_bytes;
    if (build(command)) connection->push(std::move(command), now_ns);
    operation = Operation{};
  }
  for (const auto& connection : connections) connection->flush(now_ns);
}

bool Node::take(std::size_t lane, Operation& operation, std::uint64_t now_ns) {
  if (lanes_[lane].take_again(operation)) return true;
  while (BatchState* const state = lanes_[lane].next()) {
    if (take_item(*state, operation, now_ns)) return true;
  }
  return false;
}

bool Node::take_item(BatchState& state, Operation& operation, std::uint64_t now_ns) {
  Batch& batch = *state.batch;
  const std::uint32_t index = state.next_item++;
  if (state.next_item == batch.items.size()) lanes_[lane_of(first_command(batch.op))].remove(state);
  const Item& item = batch.items[index];
  const Status checked = check_item(batch, item, options_.value_bytes_max, std::size_t{kSlicesMax});
  if (!checked) {
    ask_for_absent(state);
    fail(state, index, checked.error());
    return false;
  }
  const bool is_read = batch.op != Op::kSet && batch.op != Op::kDelete;
  if (is_read && view_.failed_keys.contains(item.key, now_ns)) {
    ask_for_absent(state);
    miss(state, index);
    return false;
  }
  operation.batch = &state;
  operation.item = index;
  operation.kind = first_command(batch.op);
  if (operation.kind == CommandKind::kSize) ++state.sizes_open;
  return true;
}

std::uint64_t Node::cost_of(const Operation& operation) const noexcept {
  if (lane_of(operation.kind) == kSmall) return kSmallCostBytes;
  return bytes_of(operation.batch->batch->items[operation.item].value);
}

Connection* Node::choose(std::size_t lane, std::uint64_t cost_bytes) const noexcept {
  // The fullest one that has room: small values then share a system call, and large ones, of which
  // a connection takes one, spread by themselves.
  Connection* chosen = nullptr;
  for (const auto& connection : connections_of(lane)) {
    if (!connection->has_room(cost_bytes)) continue;
    if (chosen == nullptr || connection->bytes_in_flight() > chosen->bytes_in_flight()) {
      chosen = connection.get();
    }
  }
  return chosen;
}

void Node::append_key(std::string& head, const Item& item) const {
  head += '$';
  append_number(head, options_.prefix.size() + item.key.size());
  head += "\r\n";
  head += options_.prefix;
  head += text_of(item.key);
  head += "\r\n";
}

bool Node::build(Command& command) {
  const Operation& operation = command.operation;
  const std::span<Item> items = operation.batch->batch->items;
  const Item& item = items[operation.item];
  switch (operation.kind) {
    case CommandKind::kGet:
      command.head = "*2\r\n$3\r\nGET\r\n";
      command.target = item.value;
      command.target_bytes = command.cost_bytes;
      command.allows_shorter = operation.batch->batch->allow_shorter;
      break;
    case CommandKind::kSet:
      if (!view_.stored.reserve(item.key, command.cost_bytes)) {
        add_one(view_.counters.sets_over_capacity);
        fail(*operation.batch, operation.item,
             {ErrorCode::kResourceExhausted, "resp",
              "what this process stored has reached max_capacity_gb"});
        return false;
      }
      build_set(command);
      return true;
    case CommandKind::kSize:
      command.head = "*2\r\n$6\r\nSTRLEN\r\n";
      break;
    case CommandKind::kSizeByValue:
      command.head = "*2\r\n$3\r\nGET\r\n";
      break;
    case CommandKind::kDelete:
      command.head = "*2\r\n$6\r\nUNLINK\r\n";
      break;
    case CommandKind::kTouch:
      command.head = "*2\r\n$5\r\nTOUCH\r\n";
      break;
    case CommandKind::kAnyExists:
      command.head = "*";
      append_number(command.head, operation.items.size() + 1);
      command.head += "\r\n$6\r\nEXISTS\r\n";
      for (const std::uint32_t one : operation.items) append_key(command.head, items[one]);
      return true;
    case CommandKind::kInfo:
      return false;
  }
  append_key(command.head, item);
  return true;
}

void Node::build_set(Command& command) {
  const Batch& batch = *command.operation.batch->batch;
  const Item& item = batch.items[command.operation.item];
  // A key whose load failed is a miss to everybody here, so its value is replaced (C6).
  const bool if_absent =
      batch.set_mode == SetMode::kIfAbsent && !view_.failed_keys.contains(item.key, now_ns_);
  const std::size_t words = 3 + (options_.ttl_ms > 0 ? 2 : 0) + (if_absent ? 1 : 0);
  command.head = "*";
  append_number(command.head, words);
  command.head += "\r\n$3\r\nSET\r\n";
  append_key(command.head, item);
  command.head += '$';
  append_number(command.head, command.cost_bytes);
  command.head += "\r\n";
  command.payload = item.value;
  command.payload_bytes = command.cost_bytes;
  command.tail = set_tails_[if_absent ? 1 : 0];
}

void Node::fail_lane(std::size_t lane, const Error& error) noexcept {
  Operation operation;
  for (;;) {
    if (lanes_[lane].take_again(operation)) {
      fail_all(operation, error);
      continue;
    }
    BatchState* const state = lanes_[lane].next();
    if (state == nullptr) return;
    const std::uint32_t item = state->next_item++;
    if (state->next_item == state->batch->items.size()) lanes_[lane].remove(*state);
    ask_for_absent(*state);
    fail(*state, item, error);
  }
}

// ---- Answers ------------------------------------------------------------------------------------

void Node::on_ready(Connection& connection) noexcept {
  if (connection.index() == 0) next_info_ns_ = 0;
}

bool Node::on_reply(Connection& /*connection*/, Command& command, const Reply& reply) noexcept {
  Operation& operation = command.operation;
  if (operation.kind == CommandKind::kInfo) {
    is_info_asked_ = false;
    if (reply.kind == Reply::Kind::kValue) view_.note_info(reply.text);
    return true;
  }
  const bool is_set = operation.kind == CommandKind::kSet;
  const bool is_understood = [&] {
    if (reply.kind == Reply::Kind::kError) return on_error_reply(operation, reply);
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
      case CommandKind::kDelete:
      case CommandKind::kTouch:
        return on_count(operation, reply);
      case CommandKind::kInfo:
        break;
    }
    return true;
  }();
  // What was not understood is lost, and released there.
  if (is_understood && is_set) view_.stored.release(command.payload_bytes);
  return is_understood;
}

bool Node::on_error_reply(const Operation& operation, const Reply& reply) noexcept {
  const ReplyError& known = find_reply_error(reply.text);
  view_.note_refusal(known);
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
      fail(state, operation.item,
           {ErrorCode::kUnavailable, "resp", "the connection was lost inside of the value"});
    }
    return true;
  }
  if (reply.kind != Reply::Kind::kValue) return false;
  view_.note_success(false);
  item.value_bytes = reply.value_bytes;
  if (!reply.fits) {
    add_one(view_.counters.size_mismatches);
    fail(state, operation.item,
         {ErrorCode::kSizeMismatch, "resp", "the value and the buffer differ in size"});
    return true;
  }
  add_one(view_.counters.hits);
  add_one(view_.counters.bytes_loaded, reply.value_bytes);
  item.outcome = Outcome::kHit;
  finish(state);
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
  if (is_stored) {
    const std::uint64_t bytes = bytes_of(item.value);
    view_.failed_keys.erase(item.key);
    view_.stored.note_stored(item.key, bytes);
    add_one(view_.counters.sets);
    add_one(view_.counters.bytes_stored, bytes);
  } else {
    add_one(view_.counters.sets_existed);
  }
  item.existed = has_existed;
  item.outcome = Outcome::kDone;
  finish(state);
  return true;
}

bool Node::on_size(Operation& operation, const Reply& reply) noexcept {
  if (reply.kind != Reply::Kind::kInteger || reply.integer < 0) return false;
  BatchState& state = *operation.batch;
  view_.note_success(false);
  --state.sizes_open;
  if (reply.integer > 0) {
    Item& item = state.batch->items[operation.item];
    item.value_bytes = static_cast<std::uint64_t>(reply.integer);
    item.outcome = Outcome::kHit;
    // Before finish(): the batch may be gone after it.
    ask_for_absent(state);
    finish(state);
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
  lanes_[kSmall].put_last(std::move(operation));
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
    lanes_[kSmall].put_last(std::move(one));
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
  item.value_bytes = reply.value_bytes;
  item.outcome = Outcome::kHit;
  finish(state);
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
  finish(state);
  return true;
}

// ---- Ends ---------------------------------------------------------------------------------------

void Node::miss(BatchState& state, std::uint32_t item) noexcept {
  if (state.batch->op == Op::kGet) add_one(view_.counters.misses);
  state.batch->items[item].outcome = Outcome::kMiss;
  finish(state);
}

void Node::fail(BatchState& state, std::uint32_t index, const Error& error) noexcept {
  Item& item = state.batch->items[index];
  item.error = error;
  item.outcome = Outcome::kFailed;
  if (state.batch->op == Op::kSet) add_one(view_.counters.set_failures);
  if (state.batch->op == Op::kGet) {
    add_one(view_.counters.get_failures);
    view_.failed_keys.note_failed_get(item.key, error.code(), now_ns_,
                                      options_.miss_after_failure_ns);
  }
  finish(state);
}

void Node::fail_all(const Operation& operation, const Error& error) noexcept {
  BatchState& state = *operation.batch;
  if (operation.kind == CommandKind::kAnyExists) {
    for (const std::uint32_t item : operation.items) fail(state, item, error);
    return;
  }
  if (operation.kind == CommandKind::kSize) {
    --state.sizes_open;
    ask_for_absent(state);
  }
  fail(state, operation.item, error);
}

void Node::finish(BatchState& state) noexcept {
  LARDER_CHECK(state.left > 0);
  if (--state.left > 0) return;
  Batch& batch = *state.batch;
  if (state.deadline) deadlines_.erase(*state.deadline);
  lanes_[lane_of(first_command(batch.op))].remove(state);
  states_.erase(state.self);
  sink_.on_batch(batch);
}

void Node::give_up(BatchState& state, const Error& error) noexcept {
  // One more than there is, so that the batch does not end before this function does.
  ++state.left;
  const auto give_up_item = [&](std::uint32_t item) { fail(state, item, error); };
  Lane& lane = lanes_[lane_of(first_command(state.batch->op))];
  lane.remove(state);
  while (state.next_item < state.batch->items.size()) give_up_item(state.next_item++);
  for (Lane& one : lanes_) one.drop_operations(state, give_up_item);
  std::vector<std::uint32_t> absent_or_empty;
  absent_or_empty.swap(state.absent_or_empty);
  for (const std::uint32_t item : absent_or_empty) give_up_item(item);
  for (const auto& connection : connections_) give_up_commands(*connection, state, error);
  state.sizes_open = 0;
  finish(state);
}

void Node::give_up_commands(Connection& connection, BatchState& state,
                            const Error& error) noexcept {
  std::deque<Command>& commands = connection.commands();
  for (std::size_t i = 0; i < commands.size();) {
    Command& command = commands[i];
    const bool is_half_sent =
        command.payload_bytes > 0 && command.sent_bytes > 0 && !command.is_sent();
    // A payload that is half sent still needs the caller's memory: see overdue_at_ns().
    if (command.operation.batch != &state || is_half_sent) {
      ++i;
      continue;
    }
    if (command.operation.kind == CommandKind::kSet) view_.stored.release(command.payload_bytes);
    if (command.operation.kind != CommandKind::kAnyExists) {
      fail(state, command.operation.item, error);
    }
    for (const std::uint32_t item : command.operation.items) fail(state, item, error);
    command.operation.batch = nullptr;
    if (command.sent_bytes == 0) {
      connection.erase_unsent(i);
    } else {
      ++i;
    }
  }
}

void Node::on_lost(Connection& connection, std::deque<Command> commands,
                   const Error& error) noexcept {
  if (connection.index() == 0) is_info_asked_ = false;
  needs_turn_ = true;
  if (!is_closing_ && connection.has_served()) add_one(view_.counters.connections_lost);
  for (Command& command : commands) {
    Operation& operation = command.operation;
    if (operation.batch == nullptr) continue;
    if (operation.kind == CommandKind::kSet) view_.stored.release(command.payload_bytes);
    const bool changes =
        operation.kind == CommandKind::kSet || operation.kind == CommandKind::kDelete;
    const bool is_late = operation.batch->batch->deadline_ns <= now_ns_;
    if (is_closing_ || is_late) {
      fail_all(operation, is_closing_ ? kStopped : kLate);
    } else if (command.sent_bytes == 0) {
      lanes_[lane_of(operation.kind)].put_last(std::move(operation));
    } else if (!changes && !operation.was_retried) {
      operation.was_retried = true;
      add_one(view_.counters.retries);
      lanes_[lane_of(operation.kind)].put_last(std::move(operation));
    } else {
      fail_all(operation, error);
    }
  }
}

}  // namespace larder::resp
