#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/server/service_core.h"
#include "larder/wire/tokens.h"

namespace larder::server {

// ---- What happens in L1.

void Service::Core::on_column(cache::ColumnEvent event, cache::SpaceId space,
                              const cache::ChunkHash& chunk) {
  if (!events_) return;
  if (!options_.tells_salted_events && !spaces_.salt_of(space).empty()) return;
  if (event == cache::ColumnEvent::kStored) {
    events_->stored.emplace_back(space, chunk.bytes);
    return;
  }
  log_stored();
  events_->log.add_removed(spaces_.model_of(space), chunk.bytes);
}

void Service::Core::log_stored() {
  if (!events_) return;
  auto& stored = events_->stored;
  if (stored.size() == 1) log_stored(stored[0].first, stored[0].second);
  if (stored.size() > 1) {
    std::map<std::pair<cache::SpaceId, wire::ChunkHash>, bool> is_logged;
    for (const auto& chunk : stored) is_logged.emplace(chunk, false);
    std::vector<std::pair<cache::SpaceId, wire::ChunkHash>> chain;
    for (const auto& chunk : stored) {
      // Up to the first one of its prompt that is not in the log, and down again.
      for (auto at = is_logged.find(chunk); at != is_logged.end() && !at->second;) {
        at->second = true;
        chain.push_back(at->first);
        const auto known = hashing().memo.find_chunk(chain.back().second);
        if (!known || known->before == nullptr) break;
        at = is_logged.find({chunk.first, *known->before});
      }
      for (; !chain.empty(); chain.pop_back()) log_stored(chain.back().first, chain.back().second);
    }
  }
  stored.clear();
}

void Service::Core::log_stored(cache::SpaceId space, const wire::ChunkHash& hash) {
  const std::string_view model = spaces_.model_of(space);
  const auto known = hashing().memo.find_chunk(hash);
  if (known) return events_->log.add_stored(model, hash, known->before, token_ids_of(*known));
  ++events_->stored_unknown;
  events_->log.add_stored(model, hash, nullptr, {});
}

void Service::Core::tell_events() {
  log_stored();
  if (events_) events_->streams.send_new();
}

std::vector<std::uint32_t> Service::Core::token_ids_of(const wire::HashMemo::Chunk& chunk) const {
  std::vector<std::byte> unpacked;
  wire::Frame packed = chunk.encoded;
  if (chunk.form == wire::TokenForm::kIds) {
    unpacked.resize(std::size_t{hashing_->hasher.chunk_tokens()} * wire::kTokenBytes);
    wire::unpack_ids(chunk.encoded, unpacked);
    packed = unpacked;
  }
  std::vector<std::uint32_t> ids(packed.size() / wire::kTokenBytes);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (const std::byte byte : packed.subspan(i * wire::kTokenBytes, wire::kTokenBytes)) {
      ids[i] = ids[i] << 8U | std::to_integer<std::uint32_t>(byte);
    }
  }
  return ids;
}

// ---- Requests.

void Service::Core::get_experimental(const Request& request) {
  constexpr std::array<std::string_view, 1> kNames{"kv_event_stream"};
  reply(request, wire::encode_names(std::span{kNames}.first(events_ ? 1 : 0)));
}

void Service::Core::subscribe(const Request& request, const wire::SubscribeKvEvents& arguments) {
  log_stored();
  const bool is_taken = events_ && events_->streams.add(request.connection, request.uid,
                                                        request.operation_frame, arguments);
  if (is_taken) return;
  reply(request, wire::encode_kv_events({}));
  reply(request);  // The stream's end.
}

void Service::Core::control_stream(ConnectionId connection, const wire::Envelope& envelope) {
  const auto what = wire::read_stream_control(envelope.arguments);
  log_stored();
  const bool is_known =
      events_ && what && events_->streams.control(connection, envelope.uid, *what);
  if (!is_known) ++totals_.dropped;
}

void Service::Core::fill_events(KvEventStatus& status) const {
  status = {};
  if (!events_) return;
  status.is_enabled = true;
  status.incarnation = options_.incarnation;
  status.events = events_->log.size();
  status.events_max = events_->log.events_max();
  status.last = events_->log.last();
  status.stored_unknown = events_->stored_unknown;
  status.streams = events_->streams.size();
}

}  // namespace larder::server
