#include "tests/engine_simulation/clients.h"

#include <algorithm>
#include <utility>

#include "tests/engine_simulation/lookup_watch.h"

namespace larder::cache::simulation {
namespace {

constexpr std::uint64_t kStranger = 77;   ///< A connection without sessions.
constexpr std::uint64_t kWarmer = 9;      ///< The connection of warm-ups.
constexpr std::uint32_t kWarmUp = 1'000;  ///< Their request id.
constexpr std::uint32_t kReadersMax = 128;

std::string text_of(std::uint32_t id) {
  return "r" + std::to_string(id);
}

}  // namespace

// ---- Finding.

Request* Clients::any() {
  if (requests_.empty()) return nullptr;
  auto at = requests_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(world_.below(requests_.size())));
  return &*at;
}

Request* Clients::find_exactly(std::uint64_t connection, std::uint32_t id) {
  for (Request& request : requests_) {
    if (request.connection == connection && request.id == id) return &request;
  }
  return nullptr;
}

Request* Clients::find_for_read(std::uint64_t connection, std::uint32_t id) {
  if (Request* const exact = find_exactly(connection, id)) return exact;
  Request* found = nullptr;
  for (Request& request : requests_) {
    if (request.id != id) continue;
    if (found != nullptr) {
      world_.coverage.note(Seen::kAmbiguousRequest);
      return nullptr;
    }
    found = &request;
  }
  return found;
}

Request* Clients::find(std::uint64_t connection, std::uint32_t id) {
  Request* const found = find_for_read(connection, id);
  if (found == nullptr || found->connection == connection) return found;
  const bool is_closed = closed_.contains(found->connection);
  world_.coverage.note(is_closed ? Seen::kSessionOfClosedConnection : Seen::kOtherConnection);
  return is_closed ? found : nullptr;
}

Request* Clients::with_serial(std::uint64_t serial) {
  for (Request& request : requests_) {
    if (request.serial == serial) return &request;
  }
  return nullptr;
}

void Clients::note_named(Request& request, std::uint64_t connection) {
  request.named_ns = world_.now_ns;
  if (connection == request.connection) heard_[connection] = world_.now_ns;
}

void Clients::erase_ending() {
  for (const Request& request : requests_) {
    if (request.is_ending && !request.is_known) watch_->on_cancel(request);
  }
  std::erase_if(requests_, [](const Request& request) { return request.is_ending; });
}

// ---- Lookups.

void Clients::look_up() {
  Request request;
  request.connection = 1 + world_.below(world_.plan.connections);
  request.id = world_.below32(world_.plan.request_ids);
  request.space = world_.below32(kSalts);
  request.prompt = world_.below32(world_.plan.prompts);
  request.chunks = 1 + world_.below32(kChunksMax);
  // A serving engine may have all that it names.
  if (world_.one_in(4)) request.begin = world_.below32(request.chunks + 2);
  request.readers = world_.one_in(3) ? world_.below32(4) : world_.ranks();
  request.deadline_ns = world_.one_in(4) ? 1 + world_.below(8 * kSecond) : 0;
  if (world_.plan.manner == Manner::kQueue) request.deadline_ns = 0;
  start(std::move(request));
}

void Clients::warm_up() {
  Request request;
  request.connection = kWarmer;
  request.id = kWarmUp;
  request.space = world_.below32(kSalts);
  request.prompt = world_.below32(world_.plan.prompts);
  request.chunks = 1 + world_.below32(kChunksMax);
  request.keeps_locks = false;
  world_.coverage.note(Seen::kWarmUp);
  start(std::move(request));
}

void Clients::start(Request request) {
  if (Request* const old = find_exactly(request.connection, request.id)) {
    world_.coverage.note(Seen::kLookupReplaced);
    end(*old);
  }
  const auto chain = chain_of(request.prompt, request.chunks);
  const std::uint64_t relative_ns = std::exchange(request.deadline_ns, 0);
  LookupSpec spec;
  spec.space = world_.space(request.space);
  spec.chunks = chain;
  spec.begin = request.begin;
  request.begin = std::min(request.begin, request.chunks);
  spec.readers = request.readers;
  spec.lock = request.keeps_locks;
  if (relative_ns != 0) spec.deadline_ns = world_.now_ns + relative_ns;
  request.serial = ++serials_;
  request.asked_ns = request.named_ns = world_.now_ns;
  request.deadline_ns =
      relative_ns != 0 ? spec.deadline_ns : world_.now_ns + world_.plan.options.load_timeout_ns;
  request.readers = request.readers == 0 ? world_.ranks() : request.readers;
  request.readers = std::clamp<std::uint32_t>(request.readers, 1, kReadersMax);
  request.layout_number = world_.layout_number;
  request.disturbances = world_.disturbances;
  request.trimmed = world_.stats.totals.lookups_trimmed;
  for (Request& other : requests_) {
    if (other.is_known || other.is_ending || other.space != request.space) continue;
    if (other.prompt == request.prompt) other.was_alone = request.was_alone = false;
  }
  world_.trace("lookup %llu/r%u: [%u, %u) of prompt %u, space %u",
               static_cast<unsigned long long>(request.connection), request.id, request.begin,
               request.chunks, request.prompt, request.space);
  heard_[request.connection] = world_.now_ns;
  closed_.erase(request.connection);
  const std::uint64_t connection = request.connection;
  const std::string id = text_of(request.id);
  request.step = world_.steps;
  requests_.push_back(std::move(request));
  watch_->before_lookup(requests_.back());
  world_.engine->lookup({connection, id}, spec);
  watch_->after_lookup();
  erase_ending();
  if (world_.one_in(4)) {
    // Its number goes to this waiter.
    const std::uint64_t ticket = ++tickets_;
    waits_[ticket] = {requests_.back().serial, world_.now_ns + world_.below(8 * kSecond)};
    world_.engine->wait_result(Ticket{ticket}, {connection, id}, waits_[ticket].deadline_ns);
  }
}

std::uint32_t Clients::running() const {
  return static_cast<std::uint32_t>(
      std::ranges::count_if(requests_, [](const Request& request) { return !request.is_known; }));
}

void Clients::learn(Request& request, std::uint32_t hit) {
  world_.log({1, request.serial, hit});
  world_.trace("hit of %llu/r%u: %u", static_cast<unsigned long long>(request.connection),
               request.id, hit);
  world_.expect(hit <= request.chunks, "E23: a hit is longer than its request");
  world_.expect(hit >= request.begin, "E23: a hit is shorter than what the serving engine has");
  request.is_known = true;
  request.hit = std::min(hit, request.chunks);
  if (0 < request.begin && request.begin < hit) world_.coverage.note(Seen::kHitBehindBegin);
  request.is_queued = false;
  watch_->on_hit(request);
  if (hit > 0 && world_.life > 0) world_.coverage.note(Seen::kHitAfterRestart);
  if (request.layout_number != world_.layout_number) request.is_unsure = true;
  const std::uint32_t groups = world_.groups();
  const std::uint32_t rows = world_.ranks() * groups;
  if (request.is_unsure && request.layout_number != world_.layout_number) return;
  request.shares.assign(std::size_t{request.hit} * rows, 0);
  if (!request.keeps_locks || request.hit < request.begin) return;
  for (std::uint32_t row = 0; row < rows; ++row) {
    const std::uint32_t first =
        request.begin + world_.first_needed(row % groups, request.hit - request.begin);
    for (std::uint32_t chunk = first; chunk < request.hit; ++chunk) {
      request.shares[std::size_t{chunk} * rows + row] = static_cast<std::uint8_t>(request.readers);
    }
  }
  for (const ChunkRange& range : request.freed_early) release(request, range);
}

// ---- QUERY and WAIT.

std::optional<std::uint32_t> Clients::query(std::uint64_t connection, std::uint32_t id) {
  Request* const request = find(connection, id);
  const auto hit = world_.engine->take_result({connection, text_of(id)});
  if (request == nullptr) {
    world_.expect(hit == 0U, "E6, E29: a session that is not known has a result");
    return hit;
  }
  note_named(*request, connection);
  if (!hit) {
    world_.expect(!request->is_known, "E29: a lookup that was answered runs again");
    world_.expect(world_.now_ns < request->deadline_ns,
                  "I4, E28: a lookup is not answered at its deadline");
  } else if (!request->is_known) {
    learn(*request, *hit);
  } else if (request->is_taken) {
    world_.expect(*hit == 0, "E29: a result was given twice");
  } else {
    world_.expect(*hit == request->hit, "E29: the result is another one now");
  }
  if (hit) request->is_taken = true;
  return hit;
}

void Clients::poll() {
  if (const Request* const request = any()) query(request->connection, request->id);
}

void Clients::poll_all() {
  for (Request& request : requests_) {
    if (request.is_known) continue;
    const bool is_waited = std::ranges::any_of(
        waits_, [&](const auto& wait) { return wait.second.request == request.serial; });
    if (!is_waited) query(request.connection, request.id);
  }
}

/// A worker's or a stranger's connection knows the request id alone.
void Clients::ask_as_another() {
  query(world_.one_in(2) ? kStranger : 1 + world_.below(world_.plan.connections),
        world_.below32(world_.plan.request_ids));
}

void Clients::wait() {
  const Request* const request = any();
  const std::uint64_t connection = request == nullptr ? kStranger : request->connection;
  const std::uint32_t id = request == nullptr ? 0 : request->id;
  Request* const found = find(connection, id);
  const std::uint64_t ticket = ++tickets_;
  const std::uint64_t deadline_ns = world_.now_ns + world_.below(4 * kSecond);
  waits_[ticket] = {found == nullptr ? 0 : found->serial, deadline_ns,
                    found != nullptr && !found->is_known};
  if (found != nullptr) note_named(*found, connection);
  world_.engine->wait_result(Ticket{ticket}, {connection, text_of(id)}, deadline_ns);
}

void Clients::on_result(Ticket ticket, std::optional<std::uint32_t> hit) {
  const auto found = waits_.find(static_cast<std::uint64_t>(ticket));
  if (found == waits_.end()) return world_.fail("I4: a WAIT is answered twice");
  const Wait wait = found->second;
  waits_.erase(found);
  world_.log({2, static_cast<std::uint64_t>(ticket), hit.value_or(kNone)});
  if (!hit) {
    world_.coverage.note(Seen::kWaitTimedOut);
    world_.expect(world_.now_ns >= wait.deadline_ns, "E29: a WAIT ends before its deadline");
    return;
  }
  world_.coverage.note(Seen::kWaitAnswered);
  Request* const request = with_serial(wait.request);
  if (request == nullptr) return world_.expect(*hit == 0, "E29: an unknown session has a hit");
  if (request->is_ending) return;
  if (request->is_known) {
    const bool has_number = wait.was_running || !request->is_taken;
    world_.expect(*hit == (has_number ? request->hit : 0), "E29: a WAIT has another result");
  } else {
    learn(*request, *hit);
  }
  request->is_taken = true;
}

// ---- FREE and END.

void Clients::give_back(Request& request, std::uint32_t chunk, std::uint32_t row,
                        std::uint8_t shares) const {
  std::uint8_t& left = request.shares[std::size_t{chunk} * world_.ranks() * world_.groups() + row];
  left = static_cast<std::uint8_t>(left - std::min(left, shares));
}

void Clients::release(Request& request, ChunkRange range) const {
  if (request.layout_number != world_.layout_number) return;
  const std::uint32_t rows = world_.ranks() * world_.groups();
  for (std::uint32_t chunk = range.begin; chunk < std::min(range.end, request.hit); ++chunk) {
    for (std::uint32_t row = 0; row < rows; ++row) give_back(request, chunk, row, UINT8_MAX);
  }
}

void Clients::free() {
  const Request* const asked = any();
  if (asked == nullptr) return;
  const std::uint64_t connection = world_.one_in(8) ? kStranger : asked->connection;
  const std::uint32_t id = asked->id;
  ChunkRange range{0, kChunksMax};
  if (!world_.plan.frees_whole) {
    range.begin = world_.one_in(3) ? world_.below32(kChunksMax) : 0;
    range.end = range.begin + world_.below32(kChunksMax + 1);
  }
  for (std::uint64_t times = world_.one_in(5) ? 2 : 1; times > 0; --times) {
    if (times > 1) world_.coverage.note(Seen::kSecondFree);
    Request* const request = find(connection, id);
    world_.engine->release({connection, text_of(id)}, range);
    if (request == nullptr) continue;
    note_named(*request, connection);
    if (request->is_known) {
      release(*request, range);
    } else {
      world_.coverage.note(Seen::kFreeDuringLookup);
      request->freed_early.push_back(range);
    }
  }
}

void Clients::end(Request& request) {
  if (!request.is_known) {
    world_.coverage.note(Seen::kEndDuringLookup);
    ++world_.load_disturbances;
  }
  request.is_ending = true;
}

void Clients::end() {
  const Request* const asked = any();
  if (asked == nullptr) return;
  const std::uint64_t connection = world_.one_in(8) ? kStranger : asked->connection;
  const std::uint32_t id = asked->id;
  Request* const request = find(connection, id);
  if (request != nullptr) end(*request);
  world_.trace("end %llu/r%u", static_cast<unsigned long long>(connection), id);
  world_.engine->end({connection, text_of(id)});
  erase_ending();
}

// ---- Connections and time.

void Clients::connection_event() {
  const std::uint64_t connection = 1 + world_.below(world_.plan.connections);
  const bool closes = world_.one_in(3);
  world_.engine->on_connection(connection,
                               closes ? ConnectionEvent::kClosed : ConnectionEvent::kHeard);
  if (!closes) {
    heard_[connection] = world_.now_ns;
    closed_.erase(connection);
    return;
  }
  closed_.insert(connection);
  world_.trace("connection %llu closes", static_cast<unsigned long long>(connection));
  world_.coverage.note(Seen::kConnectionClosed);
  for (Request& request : requests_) {
    if (request.connection != connection) continue;
    request.closed_ns = std::min(request.closed_ns, world_.now_ns);
  }
}

void Clients::before_turn() {
  const EngineOptions& options = world_.plan.options;
  for (Request& request : requests_) {
    const bool is_forgotten = request.named_ns + options.session_ttl_ns <= world_.now_ns;
    const bool is_closed = request.closed_ns != kNever &&
                           request.closed_ns + options.session_grace_ns <= world_.now_ns;
    request.is_ending = is_forgotten || is_closed;
    const bool may_give_up = request.is_ending || request.deadline_ns <= world_.now_ns;
    if (may_give_up && !request.is_known) ++world_.load_disturbances;
    if (is_forgotten) world_.coverage.note(Seen::kSessionExpired);
    const bool is_silent = heard_[request.connection] + options.read_ttl_ns <= world_.now_ns;
    // It may have been answered, and have lost its locks since.
    if (is_silent && !request.is_known && !world_.plan.polls_eagerly) request.is_unsure = true;
  }
}

void Clients::after_turn() {
  erase_ending();
  for (Request& request : requests_) {
    const bool is_silent =
        heard_[request.connection] + world_.plan.options.read_ttl_ns <= world_.now_ns;
    if (is_silent && request.is_known) release(request, {0, kChunksMax});
  }
  for (const auto& [ticket, wait] : waits_) {
    world_.expect(world_.now_ns < wait.deadline_ns, "I4: a WAIT is not answered at its deadline");
  }
}

// ---- Operation.

void Clients::on_clear(std::optional<std::uint32_t> space, bool force) {
  if (!force) return;
  for (Request& request : requests_) {
    if (space && request.space != *space) continue;
    if (request.is_known) {
      release(request, {0, kChunksMax});
    } else if (!world_.plan.polls_eagerly) {
      request.is_unsure = true;
    }
  }
}

void Clients::on_remove(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunk) {
  for (Request& request : requests_) {
    if (request.space != space || request.prompt != prompt) continue;
    if (request.is_known) {
      release(request, {chunk, chunk + 1});
    } else if (!world_.plan.polls_eagerly) {
      request.is_unsure = true;
    }
  }
}

void Clients::on_layout_change() {
  for (Request& request : requests_) {
    request.is_unsure = true;
    request.shares.clear();
  }
}

void Clients::on_restart() {
  requests_.clear();
  waits_.clear();
  heard_.clear();
}

}  // namespace larder::cache::simulation
