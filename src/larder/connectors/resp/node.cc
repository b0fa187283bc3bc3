#include "larder/connectors/resp/node.h"

#include <algorithm>
#include <charconv>

#include "larder/base/key_text.h"

namespace larder::resp {
namespace {

constexpr std::uint32_t kSlicesMax = 1024;
constexpr std::uint64_t kSmallCostBytes = 64;
constexpr std::string_view kSizeHead = "*2\r\n$6\r\nSTRLEN\r\n";
/// Never stored: it is asked for where a connection must prove that a server answers behind it.
constexpr const char* kProbeKey = "larder:probe";
/// A store that is half sent at its deadline and makes no progress for so long takes its connection
/// along.
constexpr std::uint64_t kOverdueGraceNs = 20'000'000;

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 24> digits{};
  text.append(digits.data(),
              std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

}  // namespace

Node::Node(const RespOptions& options, Resolver& resolver, SecretFiles& secrets, NodeView& view,
           BatchSink& sink, int epoll_fd)
    : options_(options),
      view_(view),
      sink_(sink),
      context_{.options = options,
               .resolver = resolver,
               .secrets = secrets,
               .events = *this,
               .epoll_fd = epoll_fd},
      kinds_{
          ConnectionKind{view.peers[kSmall],
                         encode_command({"STRLEN", options.prefix + kProbeKey})},
          ConnectionKind{view.peers[kLarge], encode_command({"GET", options.prefix + kProbeKey})}},
      relocation_(options.reconnect, RealClock::instance().now_ns()),
      audit_(view.stored),
      health_log_(options.where()) {
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
    const ConnectionKind& kind = kinds_[i == 0 ? kSmall : kLarge];
    connections_.push_back(std::make_unique<Connection>(context_, kind, i, seed + i));
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
  poll_audit(now_ns);
  poll_health(now_ns);
  pump(kSmall, now_ns);
  for (const auto& connection : connections_) {
    if (connection->wants_turn()) connection->on_turn(now_ns);
  }
  pump(kSmall, now_ns);
  if (has_lookups()) looked_up_at_ns_ = now_ns;
  pump(kLarge, now_ns);
}

std::uint64_t Node::next_time_ns() const noexcept {
  if (needs_turn_) return 0;
  std::uint64_t next = deadlines_.empty() ? kNever : deadlines_.begin()->first;
  next = std::min(next, health_log_.due_ns());
  for (const auto& connection : connections_) {
    if (connection->wants_turn()) return 0;
    next = std::min({next, connection->next_time_ns(), overdue_at_ns(*connection)});
  }
  const Connection& small = *connections_.front();
  if (small.is_ready() && !is_info_asked_) next = std::min(next, next_info_ns_);
  // Without room: its answers wake the reactor.
  if (small.has_room(kSmallCostBytes)) next = std::min(next, audit_.due_ns());
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
  stored_before_info_ = view_.stored.stored_total();
  next_info_ns_ = now_ns + options_.info_interval_ns;
}

void Node::poll_audit(std::uint64_t now_ns) {
  Connection& connection = *connections_.front();
  if (now_ns < audit_.due_ns() || !connection.has_room(kSmallCostBytes)) return;
  audit_.step(now_ns, [&](std::string_view key) {
    if (!connection.has_room(kSmallCostBytes)) return false;
    Command command;
    command.operation.kind = CommandKind::kAudit;
    command.cost_bytes = kSmallCostBytes;
    command.head = kSizeHead;
    append_key(command.head, key);
    connection.push(std::move(command), now_ns);
    add_one(view_.counters.audited);
    return true;
  });
}

void Node::poll_health(std::uint64_t now_ns) {
  if (now_ns < health_log_.due_ns()) return;
  context_.secrets.retry();
  Report report;
  view_.append_health(report);
  context_.secrets.append_report(report);
  health_log_.look(report, now_ns);
}

void Node::pump(std::size_t lane, std::uint64_t now_ns) {
  const auto connections = connections_of(lane);
  const bool is_ready =
      std::ranges::any_of(connections, [](const auto& one) { return one->is_ready(); });
  if (!is_ready) {
    const bool is_down =
        std::ranges::all_of(connections, [](const auto& one) { return one->is_down(); });
    if (is_down) fail_lane(lane, connections.front()->last_error(), now_ns);
    return;
  }
  Operation operation;
  while (take(lane, operation, now_ns)) {
    const std::uint64_t cost_bytes = cost_of(operation);
    Connection* const connection = choose(lane, operation, cost_bytes);
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
  const Batch& batch = *state.batch;
  const std::uint32_t index = state.next_item++;
  if (state.next_item == batch.items.size()) lanes_[lane_of(first_command(batch.op))].remove(state);
  const Item& item = batch.items[index];
  const Status checked = check_item(batch, item, options_.value_bytes_max, std::size_t{kSlicesMax});
  if (!checked) {
    ask_for_absent(state);
    refuse(state, index, checked.error());
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

/// Where another connection of the lane is not under suspicion.
bool Node::avoids_suspects(std::size_t lane, CommandKind kind) const noexcept {
  if (!relocation_.is_suspicious()) return false;
  if (!changes(kind) && !relocation_.concerns_reads()) return false;
  return std::ranges::any_of(connections_of(lane), [](const auto& connection) {
    return connection->is_ready() && !connection->is_suspect();
  });
}

/// A server does one thing at a time, and a GET takes it as long as copying the value. So a lookup
/// waits for every GET that is there before it: never are there many, and few while there are
/// lookups.
bool Node::may_load_now(std::uint64_t cost_bytes) const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& connection : connections_of(kLarge)) bytes += connection->load_bytes_in_flight();
  if (bytes == 0) return true;
  const bool has_had_lookups = looked_up_at_ns_ != 0 && now_ns_ < looked_up_at_ns_ + kLookupsLastNs;
  const std::uint64_t bytes_max = has_had_lookups
                                      ? kLoadBytesBesideLookups
                                      : std::max({kLoadBytesAlone, 2 * cost_bytes,
                                                  options_.connections * options_.pipeline_bytes});
  return bytes + cost_bytes <= bytes_max;
}

bool Node::has_lookups() const noexcept {
  return !lanes_[kSmall].empty() ||
         std::ranges::any_of(connections_.front()->commands(), [](const Command& command) {
           return !is_own(command.operation.kind);
         });
}

Connection* Node::choose(std::size_t lane, const Operation& operation,
                         std::uint64_t cost_bytes) const noexcept {
  if (operation.kind == CommandKind::kGet && !may_load_now(cost_bytes)) return nullptr;
  const bool avoids = avoids_suspects(lane, operation.kind);
  // The fullest one that has room: small values then share a system call, and large ones, of which
  // a connection takes one, spread by themselves.
  Connection* chosen = nullptr;
  for (const auto& connection : connections_of(lane)) {
    if (!connection->has_room(cost_bytes) || (avoids && connection->is_suspect())) continue;
    if (chosen == nullptr || connection->bytes_in_flight() > chosen->bytes_in_flight()) {
      chosen = connection.get();
    }
  }
  return chosen;
}

void Node::append_key(std::string& head, std::string_view key) const {
  head += '$';
  append_number(head, options_.prefix.size() + key.size());
  head += "\r\n";
  head += options_.prefix;
  head += key;
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
        audit_.note_refused();
        fail(*operation.batch, operation.item,
             {ErrorCode::kResourceExhausted, "resp",
              "what this process stored has reached max_capacity_gb"});
        return false;
      }
      build_set(command);
      return true;
    case CommandKind::kSize:
    case CommandKind::kSizeOfKept:
      command.head = kSizeHead;
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
      for (const std::uint32_t one : operation.items)
        append_key(command.head, as_text(items[one].key));
      return true;
    case CommandKind::kInfo:
    case CommandKind::kAudit:
      return false;
  }
  append_key(command.head, as_text(item.key));
  return true;
}

void Node::build_set(Command& command) {
  const Batch& batch = *command.operation.batch->batch;
  const Item& item = batch.items[command.operation.item];
  // A key whose load failed, or whose value no load can take, is a miss to everybody here, so its
  // value is replaced (C6).
  const bool if_absent =
      batch.set_mode == SetMode::kIfAbsent && !view_.failed_keys.contains(item.key, now_ns_);
  const std::size_t words = 3 + (options_.ttl_ms > 0 ? 2 : 0) + (if_absent ? 1 : 0);
  command.head = "*";
  append_number(command.head, words);
  command.head += "\r\n$3\r\nSET\r\n";
  append_key(command.head, as_text(item.key));
  command.head += '$';
  append_number(command.head, command.cost_bytes);
  command.head += "\r\n";
  command.payload = item.value;
  command.payload_bytes = command.cost_bytes;
  command.tail = set_tails_[if_absent ? 1 : 0];
}

void Node::fail_lane(std::size_t lane, const Error& error, std::uint64_t now_ns) noexcept {
  Operation operation;
  // What is wrong with an item, or known of its key, is so without the server too.
  while (take(lane, operation, now_ns)) {
    fail_all(operation, error);
    operation = Operation{};
  }
}

}  // namespace larder::resp
