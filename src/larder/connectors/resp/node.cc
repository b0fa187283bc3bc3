#include "larder/connectors/resp/node.h"

#include <algorithm>
#include <charconv>

#include "larder/base/key_text.h"

namespace larder::resp {
namespace {

constexpr std::uint64_t kSmallCostBytes = 64;
constexpr std::string_view kSizeHead = "*2\r\n$6\r\nSTRLEN\r\n";
/// A key that is never stored: it is requested when a connection must prove that a server answers
/// behind it.
constexpr const char* kProbeKey = "larder:probe";
/// A store that is half sent at its deadline and makes no progress for so long closes its
/// connection.
constexpr std::uint64_t kOverdueGraceNs = 20'000'000;

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 24> digits{};
  text.append(digits.data(),
              std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

}  // namespace

LaneNumber lane_of(Op op) noexcept {
  return op == Op::kGet || op == Op::kSet ? kLarge : kSmall;
}

Node::Node(const RespOptions& options, Resolver& resolver, SecretFiles& secrets, NodeView& view,
           Intake& intake, int epoll_fd, std::uint64_t now_ns)
    : options_(options),
      view_(view),
      intake_(intake),
      context_{.options = options,
               .resolver = resolver,
               .secrets = secrets,
               .events = *this,
               .epoll_fd = epoll_fd},
      kinds_{
          ConnectionKind{view.peers[kSmall],
                         encode_command({"STRLEN", options.prefix + kProbeKey})},
          ConnectionKind{view.peers[kLarge], encode_command({"GET", options.prefix + kProbeKey})}},
      relocation_(options.reconnect, now_ns),
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
  for (std::uint32_t i = 0; i <= options.connections; ++i) {
    const ConnectionKind& kind = kinds_[i == 0 ? kSmall : kLarge];
    connections_.push_back(std::make_unique<Connection>(context_, kind, i, now_ns + i));
  }
}

LaneNumber Node::lane_of(CommandKind kind) noexcept {
  return kind == CommandKind::kGet || kind == CommandKind::kSet ? kLarge : kSmall;
}

std::span<const std::unique_ptr<Connection>> Node::connections_of(LaneNumber lane) const noexcept {
  const std::span all{connections_};
  return lane == kSmall ? all.first(1) : all.subspan(1);
}

// ---- In and out ---------------------------------------------------------------------------------

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
  intake_.expire();
  give_up_due(now_ns);
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
  std::uint64_t next = std::min(next_deadline_ns_, intake_.next_deadline_ns());
  next = std::min(next, health_log_.due_ns());
  for (const auto& connection : connections_) {
    if (connection->wants_turn()) return 0;
    next = std::min({next, connection->next_time_ns(), overdue_at_ns(*connection)});
  }
  const Connection& small = *connections_.front();
  if (small.is_ready() && !is_info_asked_) next = std::min(next, next_info_ns_);
  // Full: answers wake the reactor.
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
  for (auto at = states_.begin(); at != states_.end();) give_up(*at++, kStopped);
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

void Node::pump(LaneNumber lane, std::uint64_t now_ns) {
  const auto connections = connections_of(lane);
  const bool is_ready =
      std::ranges::any_of(connections, [](const auto& one) { return one->is_ready(); });
  if (!is_ready) {
    const bool is_down =
        std::ranges::all_of(connections, [](const auto& one) { return one->is_down(); });
    if (is_down) set_down(lane, connections.front()->last_error());
    return;
  }
  if (intake_.is_lane_down(lane)) intake_.set_lane_down(lane, false);
  Taken taken;
  while (take(lane, taken)) {
    const std::uint64_t cost_bytes = cost_of(taken.operation);
    Connection* const connection = choose(lane, taken.operation, cost_bytes);
    if (connection == nullptr) {
      put_back(lane, taken);
      break;
    }
    Command command;
    command.operation = std::move(taken.operation);
    command.cost_bytes = cost_bytes;
    if (build(command)) connection->push(std::move(command), now_ns);
    taken = {};
  }
  for (const auto& connection : connections) connection->flush(now_ns);
}

BatchState* Node::state_of(const Batch& batch) noexcept {
  return reinterpret_cast<BatchState*>(batch.items.front().connector_words[0]);
}

BatchState& Node::state_for(Batch& batch) {
  if (BatchState* const state = state_of(batch)) return *state;
  BatchState& state = states_.emplace_back();
  state.self = std::prev(states_.end());
  state.batch = &batch;
  batch.items.front().connector_words[0] = reinterpret_cast<std::uintptr_t>(&state);
  next_deadline_ns_ = std::min(next_deadline_ns_, batch.deadline_ns);
  return state;
}

bool Node::take(LaneNumber lane, Taken& taken) {
  std::deque<Operation>& again = again_[lane];
  if (!again.empty()) {
    taken = {std::move(again.front()), {}};
    again.pop_front();
    return true;
  }
  while (const Ticket ticket = intake_.take(lane)) {
    Batch& batch = *ticket.batch;
    Item& item = ticket.items.front();
    const auto index = static_cast<std::uint32_t>(&item - batch.items.data());
    if (index == 0) item.connector_words[0] = 0;
    if (intake_.begin(batch, item)) {
      BatchState& state = state_for(batch);
      ++state.in_hand;
      state.next_item = index + 1;
      Operation operation;
      operation.batch = &state;
      operation.item = index;
      operation.kind = first_command(batch.op);
      if (operation.kind == CommandKind::kSize) ++state.sizes_open;
      taken = {std::move(operation), ticket};
      return true;
    }
    if (BatchState* const state = state_of(batch)) {
      state->next_item = index + 1;
      ask_for_absent(*state);
    }
    intake_.finish(ticket);
  }
  return false;
}

void Node::put_back(LaneNumber lane, Taken& taken) {
  if (!taken.ticket) return again_[lane].push_front(std::move(taken.operation));
  BatchState& state = *taken.operation.batch;
  --state.next_item;
  if (taken.operation.kind == CommandKind::kSize) --state.sizes_open;
  release(state);
  intake_.put_back(taken.ticket);
}

std::uint64_t Node::cost_of(const Operation& operation) const noexcept {
  if (lane_of(operation.kind) == kSmall) return kSmallCostBytes;
  return bytes_of(operation.batch->batch->items[operation.item].value);
}

/// If another connection of the lane is not under suspicion.
bool Node::avoids_suspects(LaneNumber lane, CommandKind kind) const noexcept {
  if (!relocation_.is_suspicious()) return false;
  if (!changes(kind) && !relocation_.concerns_reads()) return false;
  return std::ranges::any_of(connections_of(lane), [](const auto& connection) {
    return connection->is_ready() && !connection->is_suspect();
  });
}

/// A server does one thing at a time, and a GET takes it as long as copying the value. So a lookup
/// waits for every GET before it: there are never many, and only few while there are lookups.
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
  return !again_[kSmall].empty() || intake_.has_queued(kSmall) ||
         std::ranges::any_of(connections_.front()->commands(), [](const Command& command) {
           return !is_own(command.operation.kind);
         });
}

Connection* Node::choose(LaneNumber lane, const Operation& operation,
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
        end(*operation.batch, operation.item,
            Error{ErrorCode::kResourceExhausted, "resp",
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
  // A key whose load failed, or whose value no load can take, is a miss for every caller here, so
  // its value is replaced (C6).
  const bool if_absent = intake_.set_mode_of(batch, item) == SetMode::kIfAbsent;
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

/// The intake answers for the lane until a connection is ready. The server has nothing of the lane,
/// so all its items end here.
void Node::set_down(LaneNumber lane, const Error& error) noexcept {
  intake_.set_lane_down(lane, error);
  std::deque<Operation> again;
  again.swap(again_[lane]);
  for (const Operation& operation : again) end_while_down(operation, error);
  if (lane != kSmall) return;
  for (auto at = states_.begin(); at != states_.end();) {
    BatchState& state = *at++;
    Operation absent;
    absent.batch = &state;
    absent.kind = CommandKind::kAnyExists;
    absent.items.swap(state.absent_or_empty);
    if (!absent.items.empty()) end_while_down(absent, error);
  }
}

}  // namespace larder::resp
