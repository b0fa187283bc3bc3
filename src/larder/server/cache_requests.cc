// Commands of the admin HTTP (S28) about the cache's content.

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/server/service_core.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

constexpr std::uint64_t kSecondNs = 1'000'000'000;
/// A log store of millions of keys is read through and deleted from in this time.
constexpr std::uint64_t kClearNs = 600 * kSecondNs;
constexpr std::uint64_t kDeleteNs = 25 * kSecondNs;
constexpr std::size_t kPurgesMax = 4;
constexpr std::size_t kPrefetchesMax = 1024;
/// How long the result of a prefetch is kept for a client to fetch.
constexpr std::uint64_t kPrefetchKeptNs = 600 * kSecondNs;
/// The connection that sessions of prefetches have. No client's has that number.
constexpr std::uint64_t kNoConnection = ~std::uint64_t{0};

AdminError error(Kind kind, std::string text) {
  return {.kind = kind, .text = std::move(text)};
}

std::string id_of(std::uint64_t incarnation, std::uint64_t ticket) {
  return fmt::format("{:016x}{:016x}", incarnation, ticket);
}

}  // namespace

std::optional<AdminError> Service::Core::why_not(std::size_t running,
                                                 std::size_t running_max) const {
  if (is_draining_) {
    return error(Kind::kBusy, "the server is ending; ask again when it has been restarted");
  }
  if (running < running_max) return std::nullopt;
  return error(Kind::kBusy, std::to_string(running) +
                                " requests of this kind are being carried out already; ask again "
                                "in a moment");
}

// ---- Clear and delete.

void Service::Core::carry_out(const ClearCommand& command, AdminDone& done) {
  cache::ClearSpec spec{.force = command.force};
  ObjectFilter filter;
  if (command.space) {
    const SpaceName& name = *command.space;
    spec.space = spaces_.find(engine_, name.model, name.world_size, name.salt);
    if (!spec.space) spec.space = spaces_.find_known(name.model, name.world_size, name.salt);
    if (!spec.space) {
      return done(error(Kind::kNotFound, "no worker of model_name '" + printable(name.model) +
                                             "' with world_size " +
                                             std::to_string(name.world_size) +
                                             " has registered since the server was started"));
    }
    filter = {.model = name.model, .world_size = name.world_size, .salt = name.salt};
  }
  if (command.has_all_tiers && tiers_ != 0) {
    if (page_reader_ == nullptr) {
      return done(error(Kind::kFailed, "this server cannot read the keys of its tiers"));
    }
    if (const auto refused = why_not(purges_.size(), kPurgesMax)) return done(*refused);
    const std::uint64_t ticket = ++tickets_;
    spec.scope = cache::ClearScope::kAll;
    spec.ticket = cache::Ticket{ticket};
    spec.deadline_ns = now_ns_ + kClearNs;
    // Before the engine gets it, because the engine may call back at once.
    purges_[ticket] = {.done = std::move(done), .filter = std::move(filter), .keys = {}};
    const cache::ClearResult went = engine_.clear(spec);
    const auto running = purges_.find(ticket);
    if (running != purges_.end()) running->second.deleted_in_l1 = went.cells;
    return;
  }
  const cache::ClearResult went = engine_.clear(spec);
  log(LogLevel::kInfo, "server",
      std::string{"L1 was cleared over HTTP"} + (command.force ? ", with what was locked" : ""));
  done(AdminResult{.deleted = went.cells, .skipped = went.cells_locked});
}

void Service::Core::carry_out(DeleteCommand& command, AdminDone& done) {
  if (const auto refused = why_not(purges_.size(), kPurgesMax)) return done(*refused);
  std::vector<cache::CellName> cells;
  std::vector<cache::TierKey> keys;
  for (const ObjectKey& key : command.keys) {
    cache::TierKey of_tiers{.name = key.name()};
    const auto place = key.place();
    const auto chunk = key.chunk();
    const auto space =
        place && chunk ? spaces_.find_known(key.model, place->world_size, key.salt) : std::nullopt;
    if (space) {
      of_tiers.cell = {.space = *space, .chunk = *chunk, .rank = place->rank, .group = key.group};
      cells.push_back(*of_tiers.cell);
    }
    keys.push_back(std::move(of_tiers));
  }
  cache::ClearResult went;
  if (command.is_in_l1) went = engine_.remove_cells(cells, command.force);
  if (command.tiers == 0 || keys.empty()) {
    return done(AdminResult{.deleted = went.cells, .skipped = went.cells_locked});
  }
  const std::uint64_t ticket = ++tickets_;
  purges_[ticket] = {.done = std::move(done),
                     .filter = {},
                     .deleted_in_l1 = went.cells,
                     .skipped = went.cells_locked,
                     .keys = keys.size()};
  engine_.purge_keys(cache::Ticket{ticket}, keys, command.tiers, now_ns_ + kDeleteNs);
}

void Service::Core::on_page_wanted(const cache::PageWanted& question) {
  const auto found = purges_.find(static_cast<std::uint64_t>(question.purge));
  if (found != purges_.end()) page_reader_->ask(question, found->second.filter);
}

void Service::Core::on_purged(cache::Ticket ticket, const cache::PurgeResult& result) {
  const auto found = purges_.find(static_cast<std::uint64_t>(ticket));
  if (found == purges_.end()) return;
  const Purge purge = std::move(found->second);
  purges_.erase(found);
  std::uint64_t deleted = 0;
  for (const std::uint64_t of_tier : result.deleted) deleted += of_tier;
  AdminResult answer{.deleted = purge.deleted_in_l1 + deleted, .skipped = purge.skipped};
  const bool is_whole = result.error.code() == ErrorCode::kNone;
  if (!is_whole) answer.trouble = result.error.to_string();
  if (purge.keys) {
    // As LMCache counts: a key that no longer exists counts as deleted.
    answer.deleted = purge.deleted_in_l1;
    if (result.tiers_skipped == 0)
      answer.deleted += *purge.keys - std::min(*purge.keys, result.keys_failed);
    return purge.done(std::move(answer));
  }
  const std::string went = std::to_string(deleted) + " objects were deleted in L2 over HTTP";
  log(is_whole ? LogLevel::kInfo : LogLevel::kWarning, "server",
      went + (is_whole ? "" : ", but not all: " + answer.trouble));
  if (is_whole) return purge.done(std::move(answer));
  purge.done(error(Kind::kFailed, went + ", but not all: " + answer.trouble + "; ask again"));
}

// ---- Prefetches.

void Service::Core::carry_out(const PrefetchCommand& command, const AdminDone& done) {
  const SpaceName& name = command.space;
  const auto space = spaces_.find(engine_, name.model, name.world_size, name.salt);
  if (!space) {  // LMCache's sentence.
    return done(error(Kind::kBusy, "no layout registered for model_name='" + printable(name.model) +
                                       "' world_size=" + std::to_string(name.world_size) +
                                       "; the model has not allocated KV cache on this node yet"));
  }
  if (command.chunks.empty()) return done(AdminResult{});  // Nothing is left to query.
  drop_one_prefetch();
  if (const auto refused = why_not(prefetches_.size(), kPrefetchesMax)) return done(*refused);
  if (command.chunk_tokens != chunk_tokens()) {
    return done(error(Kind::kBusy, "the size of a chunk was settled meanwhile; ask again"));
  }
  const std::uint64_t ticket = ++tickets_;
  prefetches_[ticket] = {.began_ns = now_ns_,
                         .objects_of_chunk = engine_.cells_of_column(*space),
                         .chunks = command.chunks.size(),
                         .hit = {}};
  const std::string id = id_of(options_.incarnation, ticket);
  const cache::SessionKey session{.connection = kNoConnection, .request = id};
  engine_.lookup(session, {.space = *space, .chunks = command.chunks, .lock = false});
  engine_.wait_result(cache::Ticket{ticket}, session, kNever);
  done(AdminResult{.prefetch = id});
}

/// At the limit, drop the oldest ended one: its result may never be fetched.
void Service::Core::drop_one_prefetch() {
  if (prefetches_.size() < kPrefetchesMax) return;
  const auto ended = std::ranges::find_if(
      prefetches_, [](const auto& entry) { return entry.second.hit.has_value(); });
  if (ended != prefetches_.end()) prefetches_.erase(ended);
}

bool Service::Core::note_prefetched(cache::Ticket ticket, std::uint32_t hit_chunks) {
  const auto found = prefetches_.find(static_cast<std::uint64_t>(ticket));
  if (found == prefetches_.end()) return false;
  found->second.hit = hit_chunks;
  prefetched_.push_back(found->first);
  return true;
}

void Service::Core::end_prefetches() {
  for (const std::uint64_t ticket : std::exchange(prefetched_, {})) {
    const std::string id = id_of(options_.incarnation, ticket);
    engine_.end_exactly({.connection = kNoConnection, .request = id});
  }
  for (auto oldest = prefetches_.begin(); oldest != prefetches_.end();) {
    if (now_ns_ - oldest->second.began_ns < kPrefetchKeptNs) break;
    // Its lookup has a deadline, so it ended long ago, unless the deadline is as long.
    oldest = oldest->second.hit ? prefetches_.erase(oldest) : std::next(oldest);
  }
}

void Service::Core::carry_out(const PrefetchQuery& command, const AdminDone& done) {
  auto found = prefetches_.begin();
  while (found != prefetches_.end() && id_of(options_.incarnation, found->first) != command.id) {
    ++found;
  }
  if (found == prefetches_.end()) {  // LMCache's sentence.
    return done(error(Kind::kNotFound, "unknown prefetch request_id='" + printable(command.id) +
                                           "' (already completed or never submitted)"));
  }
  const Prefetch& prefetch = found->second;
  AdminResult result{.asked = prefetch.chunks * prefetch.objects_of_chunk};
  if (prefetch.hit) {
    result.found = *prefetch.hit * prefetch.objects_of_chunk;
    prefetches_.erase(found);  // Once, as in LMCache.
  }
  done(std::move(result));
}

}  // namespace larder::server
