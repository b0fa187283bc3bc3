#include "larder/server/service.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <variant>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/server/service_core.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
/// How often the service wants to run while workers are registered, so that a stall can be noticed.
constexpr std::uint64_t kTickNs = 250'000'000;
constexpr std::uint64_t kLookNs = kSecondNs;
/// LMCache's default; the shortest accepted is a second.
constexpr std::uint64_t kHeartbeatNs = 10 * kSecondNs;
constexpr std::uint64_t kHeartbeatMinNs = kSecondNs;
/// After a stall libzmq's own thread has to read the sockets first.
constexpr std::uint64_t kAfterStallNs = 100'000'000;
/// For sockets that never run dry: by then waiting messages have been read, and further ones are
/// new.
constexpr std::uint64_t kAfterStallMaxNs = 5 * kSecondNs;
constexpr std::uint32_t kWaitsMax = 1024;
/// How long the end waits for workers that write.
constexpr std::uint64_t kOpenWritesNs = kSecondNs;

/// Whether it must not overtake earlier requests of its connection: a lookup of its request, or the
/// worker's transfers.
bool keeps_order(wire::Operation operation) noexcept {
  return operation == wire::Operation::kEndSession ||
         operation == wire::Operation::kWaitPrefetchStatus ||
         operation == wire::Operation::kRegisterEngineDriven ||
         operation == wire::Operation::kUnregisterEngineDriven ||
         operation == wire::Operation::kRegisterKvCache ||
         operation == wire::Operation::kUnregisterKvCache;
}

std::size_t number_of(wire::Operation operation) noexcept {
  return static_cast<std::size_t>(operation);
}

}  // namespace

// ---- The class.

Service::Service(const ServerOptions& options, cache::Arena& arena, std::vector<cache::Tier> tiers,
                 ReplySink& sink, CopyBackend* copies, PageReader* pages)
    : core_(std::make_unique<Core>(options, arena, std::move(tiers), sink, copies, pages)) {}
Service::~Service() = default;
void Service::begin_turn(std::uint64_t now_ns) {
  core_->begin_turn(now_ns);
}
void Service::on_message(ConnectionId connection, std::unique_ptr<Message> message) {
  core_->on_message(connection, std::move(message));
}
void Service::on_sockets_empty() {
  core_->on_sockets_empty();
}
void Service::on_closed(ConnectionId connection) {
  core_->on_closed(connection);
}
void Service::on_tier(std::size_t tier) {
  core_->on_tier(tier);
}
void Service::on_copies() {
  core_->on_copies();
}
void Service::on_page(const cache::PageWanted& question, const cache::PurgePage& page) {
  core_->on_page(question, page);
}
void Service::on_admin(AdminCommand command, AdminDone done) {
  core_->on_admin(std::move(command), std::move(done));
}
bool Service::set_quota(std::string_view salt, const cache::Quota& quota) {
  return core_->set_quota(salt, quota);
}
std::uint64_t Service::end_turn() {
  return core_->end_turn();
}
bool Service::drain(std::uint64_t deadline_ns) {
  return core_->drain(deadline_ns);
}
void Service::fill(ServerStatus& status) const {
  core_->fill(status);
}
void Service::check_invariants() const {
  core_->check_invariants();
}

Service::Core::Core(const ServerOptions& options, cache::Arena& arena,
                    std::vector<cache::Tier> tiers, ReplySink& sink, CopyBackend* copies,
                    PageReader* pages)
    : options_(options),
      arena_(arena),
      sink_(sink),
      copies_backend_(copies),
      page_reader_(pages),
      tiers_(tiers.size()),
      counted_ns_(tiers.size(), kNever),
      engine_(options.engine, arena, spaces_, std::move(tiers), *this),
      instances_(options_, engine_, spaces_),
      heartbeat_ns_(kHeartbeatNs) {
  if (options.kv_event_log_size != 0) events_.emplace(options, sink);
}

// ---- Time.

void Service::Core::begin_turn(std::uint64_t now_ns) {
  const std::uint64_t patience_ns = std::min(options_.stall_max_ns, heartbeat_ns_ / 2);
  const bool has_workers = instances_.size() != 0 || !copies_.transfers.empty();
  if (has_workers && now_ns > due_ns_ && now_ns - due_ns_ > patience_ns) {
    ++totals_.stalls;
    stalled_ns_ = now_ns;
    is_after_stall_ = true;
    instances_.excuse_silence(now_ns);
    void_transfers();
    log(LogLevel::kWarning, "server",
        "the server did not run for " + std::to_string((now_ns - due_ns_) / 1'000'000) +
            " ms; transfers that waited are refused, because their workers may have given the "
            "blocks to other requests");
  }
  if (copies_backend_ != nullptr) copies_backend_->begin_until(now_ns + patience_ns);
  if (now_ns - stalled_ns_ > kAfterStallMaxNs) is_after_stall_ = false;
  now_ns_ = now_ns;
  engine_.turn(now_ns);
}

void Service::Core::on_sockets_empty() {
  if (is_after_stall_ && now_ns_ - stalled_ns_ >= kAfterStallNs) is_after_stall_ = false;
}

std::uint64_t Service::Core::end_turn() {
  if (Connection* const connection = connections_.take_turn()) work_on(*connection);
  end_prefetches();
  if (now_ns_ >= next_look_ns_) {
    if (!is_after_stall_) reap();
    // A client that has gone no longer counts.
    heartbeat_ns_ = std::min(
        {kHeartbeatNs, instances_.shortest_heartbeat_ns(), connections_.shortest_heartbeat_ns()});
    next_look_ns_ = now_ns_ + kLookNs;
  }
  due_ns_ = engine_.turn(now_ns_);
  tell_events();
  if (instances_.size() != 0 || !copies_.is_empty()) {
    due_ns_ = std::min(due_ns_, now_ns_ + kTickNs);
  }
  if (connections_.has_requests()) due_ns_ = now_ns_;
  return connections_.has_requests() ? 0 : due_ns_;
}

void Service::Core::on_closed(ConnectionId id) {
  note_closed(id);
  if (events_) events_->streams.on_closed(id);
  if (Connection* const connection = connections_.find(id)) connections_.note_closed(*connection);
}

/// Sessions and instances of the connection end soon (E9, S18).
void Service::Core::note_closed(ConnectionId id) {
  engine_.on_connection(static_cast<std::uint64_t>(id), cache::ConnectionEvent::kClosed);
  instances_.on_closed(id, now_ns_);
}

// ---- Messages.

void Service::Core::on_message(ConnectionId id, std::unique_ptr<Message> message) {
  const auto envelope = wire::read_envelope(message->frames());
  if (!envelope) {
    ++totals_.dropped;
    return;
  }
  bool is_new = false;
  Connection& connection = connections_.heard(id, is_new);
  // A client counts from 0: this one has talked to an earlier server, whose state it may rely on
  // (S4).
  if (is_new) connection.owes_false = wire::uid_number(envelope->uid).value_or(0) > 0;
  engine_.on_connection(static_cast<std::uint64_t>(id), cache::ConnectionEvent::kHeard);

  if (envelope->operation_frame.empty()) return control_stream(id, *envelope);
  const auto operation = wire::decode_operation(envelope->operation_frame);
  if (!operation) {
    ++totals_.dropped;
    return;
  }
  if (!*operation) {
    ++totals_.unknown_operations;
    const wire::FailureReply failure = wire::encode_unknown_operation(operation->error());
    sink_.send(id, envelope->uid, failure.operation,
               failure.has_payload ? &failure.payload : nullptr);
    return;
  }
  Request request{.connection = id,
                  .message = nullptr,
                  .uid = envelope->uid,
                  .operation_frame = envelope->operation_frame,
                  .operation = **operation,
                  .arguments = {},
                  .received_ns = now_ns_,
                  .was_waiting = is_after_stall_};
  ++totals_.requests[number_of(request.operation)];
  auto arguments = wire::decode_arguments(request.operation, envelope->arguments);
  if (!arguments) return fail(request, arguments.error().to_string());
  request.arguments = std::move(*arguments);
  // Values that were sent inline are refused unread; a request that waits does not keep them.
  if (const auto* const commit = std::get_if<wire::CommitStore>(&request.arguments);
      commit != nullptr && commit->has_data) {
    message->drop_last_frame();
  }
  request.message = std::move(message);
  start(connection, request);
}

/// Answers it, or lets it wait for its turn.
void Service::Core::start(Connection& connection, Request& request) {
  const bool is_behind_others = keeps_order(request.operation) && !connection.requests.empty();
  if (!has_key(request.operation) && !is_behind_others) return answer(connection, request);
  const bool is_end = request.operation == wire::Operation::kEndSession;
  const bool is_unregister = request.operation == wire::Operation::kUnregisterEngineDriven ||
                             request.operation == wire::Operation::kUnregisterKvCache;
  if (is_end) reply(request);
  const bool is_first = connection.requests.empty();
  if (!connections_.push(connection, request)) {
    if (is_end) {
      return engine_.end(
          session_key(request, std::get<wire::EndSession>(request.arguments).request_id));
    }
    if (is_unregister) return answer(connection, request);
    return fail(request, "the server is busy: too many requests of this connection wait");
  }
  if (is_first) work_on(connection);
}

bool Service::Core::is_refused_at_end(wire::Operation operation) const noexcept {
  if (!is_draining_) return false;
  return operation == wire::Operation::kLookup || operation == wire::Operation::kRegisterKvCache ||
         operation == wire::Operation::kStore || operation == wire::Operation::kRetrieve ||
         operation == wire::Operation::kRegisterEngineDriven ||
         operation == wire::Operation::kPrepareStore ||
         operation == wire::Operation::kPrepareRetrieve;
}

void Service::Core::answer(Connection& connection, Request& request) {
  if (is_refused_at_end(request.operation)) {
    ++totals_.requests_refused;
    return fail(request, "the server is ending; connect again when it has been restarted");
  }
  const wire::Arguments& arguments = request.arguments;
  switch (request.operation) {
    case wire::Operation::kPing:
      return ping(connection, request, std::get<wire::Ping>(arguments));
    case wire::Operation::kQueryPrefetchStatus:
      return query(connection, request, std::get<wire::QueryPrefetchStatus>(arguments));
    case wire::Operation::kWaitPrefetchStatus:
      return wait(connection, request, std::get<wire::WaitPrefetchStatus>(arguments));
    case wire::Operation::kEndSession:
      engine_.end(session_key(request, std::get<wire::EndSession>(arguments).request_id));
      return reply(request);
    case wire::Operation::kRegisterEngineDriven:
      return register_worker(request, std::get<wire::EngineDrivenRegistration>(arguments));
    case wire::Operation::kUnregisterEngineDriven:
      end_instance({std::get<wire::UnregisterEngineDriven>(arguments).instance, false},
                   EndOfInstance::kUnregistered);
      return reply(request);
    case wire::Operation::kUnregisterKvCache:
      return unregister_driven(request, std::get<wire::UnregisterKvCache>(arguments).instance);
    case wire::Operation::kRegisterKvCache:
      return register_driven(request, std::get<wire::KvCacheRegistration>(arguments));
    case wire::Operation::kClear:
      engine_.clear({.force = std::get<wire::Clear>(arguments).force});
      return reply(request);
    case wire::Operation::kGetChunkSize:
      return reply(request, wire::encode_number(chunk_tokens()));
    case wire::Operation::kNegotiateChunkSize:
      return negotiate(request, std::get<wire::NegotiateChunkSize>(arguments).alignment);
    case wire::Operation::kNoop:
      return reply(request, wire::encode_ok());
    case wire::Operation::kGetExperimental:
      return get_experimental(request);
    case wire::Operation::kSubscribeKvEvents:
      return subscribe(request, std::get<wire::SubscribeKvEvents>(arguments));
    case wire::Operation::kReportBlockAllocation:  // Counted.
      return reply(request);
    default:
      return fail(request,
                  std::string{wire::info(request.operation).name} +
                      " is not served here; let the worker use engine-driven transfers",
                  false);
  }
}

// ---- Replies.

void Service::Core::reply(const Request& request) {
  sink_.send(request.connection, request.uid, request.operation_frame, nullptr);
}

void Service::Core::reply(const Request& request, const wire::Bytes& payload) {
  sink_.send(request.connection, request.uid, request.operation_frame, &payload);
}

void Service::Core::fail(const Request& request, std::string_view text, bool is_registered) {
  send_failure(request.connection, request.uid, request.operation_frame, request.operation, text,
               is_registered);
}

Asker Service::Core::asker_of(const Request& request) {
  return {.connection = request.connection,
          .uid = {request.uid.begin(), request.uid.end()},
          .operation_frame = {request.operation_frame.begin(), request.operation_frame.end()},
          .operation = request.operation};
}

void Service::Core::reply(const Asker& asker, const wire::Bytes* payload) {
  sink_.send(asker.connection, asker.uid, asker.operation_frame, payload);
}

void Service::Core::fail(const Asker& asker, std::string_view text) {
  send_failure(asker.connection, asker.uid, asker.operation_frame, asker.operation, text, true);
}

void Service::Core::send_failure(ConnectionId connection, wire::Frame uid,
                                 wire::Frame operation_frame, wire::Operation operation,
                                 std::string_view text, bool is_registered) {
  ++totals_.failures[number_of(operation)];
  if (is_logged(LogLevel::kInfo)) {
    log(LogLevel::kInfo, "server",
        std::string{wire::info(operation).name} + " failed: " + std::string{text});
  }
  const wire::FailureReply failure = wire::encode_failure(operation, text, is_registered);
  sink_.send(connection, uid,
             failure.operation.empty() ? operation_frame : wire::Frame{failure.operation},
             failure.has_payload ? &failure.payload : nullptr);
}

// ---- What needs no key.

/// S4.
void Service::Core::ping(Connection& connection, const Request& request,
                         const wire::Ping& arguments) {
  bool is_good = !std::exchange(connection.owes_false, false);
  if (!arguments.instance) {
    note_ping(connection.heartbeat);
  } else {
    // Told when its copies have ended.
    if (!is_ending(*arguments.instance) && instances_.take_owed(*arguments.instance)) {
      is_good = false;
    }
    for (const bool is_driven : {false, true}) {
      Instance* const instance = instances_.find({*arguments.instance, is_driven});
      if (instance == nullptr) continue;
      instances_.note_heard(*instance, connection.id, now_ns_);
      note_ping(instance->heartbeat);
    }
  }
  if (!is_good) ++totals_.register_again;
  reply(request, wire::encode_boolean(is_good));
}

void Service::Core::note_ping(Heartbeat& heartbeat) noexcept {
  if (heartbeat.pinged_ns != 0 && !is_after_stall_) {
    const std::uint64_t period_ns = std::max(now_ns_ - heartbeat.pinged_ns, kHeartbeatMinNs);
    heartbeat.period_ns = std::min(heartbeat.period_ns, period_ns);
    heartbeat_ns_ = std::min(heartbeat_ns_, period_ns);
  }
  heartbeat.pinged_ns = now_ns_;
}

void Service::Core::register_worker(const Request& request,
                                    const wire::EngineDrivenRegistration& arguments) {
  if (options_.transfer_mode == TransferMode::kLmcacheDriven) {
    return fail(request,
                "this server takes only workers that it copies for; start it without "
                "--supported-transfer-mode lmcache_driven");
  }
  if (arena_.name().empty()) {
    return fail(request,
                "this server has no shared memory for workers; start it without --shm-name \"\"");
  }
  const auto instance = instances_.add(arguments, chunk_tokens(), request.connection, now_ns_);
  if (!instance) return fail_registration(asker_of(request), instance.error());
  ++totals_.instances_registered;
  warn_of_large_chunks(**instance);
  reply(request,
        wire::encode_registered(arena_.name(), arena_.capacity_bytes(), options_.null_block_id));
}

void Service::Core::warn_of_large_chunks(const Instance& instance) const {
  for (const cache::GroupSpec& group : instance.layout_spec.groups) {
    if (group.cell_bytes <= arena_.capacity_bytes()) continue;
    return log(LogLevel::kWarning, "server",
               "a chunk of model \"" + printable(instance.model) + "\" takes " +
                   format_bytes(group.cell_bytes) + " on one rank, more than L1 has: nothing of " +
                   "it is stored; raise --l1-size-gb, or lower --chunk-size");
  }
}

/// S18.
void Service::Core::reap() {
  for (const WorkerId& id : instances_.gone(now_ns_)) {
    end_instance(id, EndOfInstance::kReaped);
    ++totals_.instances_reaped;
  }
}

void Service::Core::query(Connection& connection, const Request& request,
                          const wire::QueryPrefetchStatus& arguments) {
  // A lookup that is not hashed yet may be the one in question.
  if (connection.lookups != 0) return reply(request);
  const auto hit = engine_.take_result(session_key(request, arguments.request_id));
  if (!hit) return reply(request);
  reply(request, wire::encode_number(*hit));
}

void Service::Core::wait(Connection& connection, const Request& request,
                         const wire::WaitPrefetchStatus& arguments) {
  if (connection.waits == kWaitsMax) {
    return fail(request, "too many requests of this connection wait for their prefetch");
  }
  std::uint64_t deadline_ns = now_ns_;
  if (arguments.seconds > 0) {
    const double left_ns = arguments.seconds * static_cast<double>(kSecondNs);
    deadline_ns = left_ns < 1e18 ? now_ns_ + static_cast<std::uint64_t>(left_ns) : kNever;
  }
  const std::uint64_t ticket = ++tickets_;
  ++connection.waits;
  // Before the engine gets it: the answer may come from inside the call.
  waiters_.emplace(ticket, asker_of(request));
  engine_.wait_result(cache::Ticket{ticket}, session_key(request, arguments.request_id),
                      deadline_ns);
}

void Service::Core::on_result(cache::Ticket ticket, std::optional<std::uint32_t> hit_chunks) {
  if (note_prefetched(ticket, hit_chunks.value_or(0))) return;
  const auto found = waiters_.find(static_cast<std::uint64_t>(ticket));
  LARDER_CHECK(found != waiters_.end());
  const Asker waiter = std::move(found->second);
  waiters_.erase(found);
  if (Connection* const connection = connections_.find(waiter.connection)) {
    connections_.end_wait(*connection);
  }
  if (!hit_chunks) return reply(waiter, nullptr);
  const wire::Bytes payload = wire::encode_number(*hit_chunks);
  reply(waiter, &payload);
}

Service::Core::Hashing& Service::Core::settle_chunk(std::uint32_t chunk_tokens) {
  if (hashing_ == nullptr) {
    hashing_ =
        std::make_unique<Hashing>(wire::HashMemo::Options{.bytes_max = options_.hash_memory_bytes,
                                                          .chunk_tokens = chunk_tokens,
                                                          .seed = options_.hash_seed,
                                                          .finds_by_hash = events_.has_value()});
  }
  return *hashing_;
}

/// The first client settles the size of a chunk. A later one gets that size, and finds by itself
/// whether it can use it.
void Service::Core::negotiate(const Request& request, std::uint32_t alignment) {
  if (hashing_ == nullptr) {
    const std::uint64_t aligned =
        (std::uint64_t{options_.chunk_tokens} + alignment - 1) / alignment * alignment;
    if (aligned > wire::limits::kChunkTokens) {
      return fail(request, "an alignment of " + std::to_string(alignment) + " makes chunks of " +
                               std::to_string(aligned) + " tokens; at most " +
                               std::to_string(wire::limits::kChunkTokens) + " are possible");
    }
    settle_chunk(static_cast<std::uint32_t>(aligned));
  }
  reply(request, wire::encode_number(chunk_tokens()));
}

// ---- The end, and reports.

bool Service::Core::drain(std::uint64_t deadline_ns) {
  if (!is_draining_) drain_began_ns_ = now_ns_;
  is_draining_ = true;
  // Running copies end; copies still queued at the deadline are refused.
  if (now_ns_ >= deadline_ns) void_transfers();
  const bool is_quiet = engine_.drain(deadline_ns) && copies_.is_empty();
  cache::EngineStats stats;
  engine_.snapshot(stats);
  const bool is_late = now_ns_ >= deadline_ns;
  // A worker that is writing may commit; one that has died never will.
  if (stats.writes_open != 0 && !is_late && now_ns_ - drain_began_ns_ < kOpenWritesNs) return false;
  // The engine does not wait for a tier that is down; it may be back before the deadline.
  return is_quiet && (is_late || stats.cells_wanted == 0);
}

void Service::Core::fill(ServerStatus& status) const {
  status.now_ns = now_ns_;
  status.chunk_tokens =
      hashing_ == nullptr ? options_.chunk_tokens : hashing_->hasher.chunk_tokens();
  status.is_draining = is_draining_;
  status.keys_waiting = connections_.requests();
  instances_.fill(status.instances, now_ns_);
  status.totals = totals_;
  fill_events(status.kv_events);
  if (copies_backend_ != nullptr) status.copies = copies_backend_->statistics();
  engine_.snapshot(status.engine);
  status.l1_memory = arena_.report();
  fill_spaces(status);
  fill_salts(status);
  if (hashing_ == nullptr) return;
  const wire::HashMemo::Statistics memo = hashing_->memo.statistics();
  status.hash_memory_bytes = memo.bytes;
  status.hash_chunks_found = memo.found_total;
  status.hash_chunks_absent = memo.absent_total;
}

void Service::Core::fill_spaces(ServerStatus& status) const {
  const std::vector<cache::LookupTotals>& totals = status.engine.totals.spaces;
  status.spaces.clear();
  for (std::size_t i = 0; i < totals.size(); ++i) {
    SpaceStatus& space = status.spaces.emplace_back();
    space.lookups = totals[i];
    if (i < cache::kSpacesCounted) {
      const cache::SpaceId id{static_cast<std::uint32_t>(i)};
      space.model = spaces_.model_of(id);
      space.salt = spaces_.salt_of(id);
    } else {
      space.model = space.salt = kOtherSpaces;
    }
  }
}

}  // namespace larder::server
