#include "larder/server/kv_event_streams.h"

#include <algorithm>
#include <utility>

namespace larder::server {

bool KvEventStreams::Stream::is_of(ConnectionId other, wire::Frame other_uid) const noexcept {
  return connection == other && std::ranges::equal(uid, other_uid);
}

bool KvEventStreams::add(ConnectionId connection, wire::Frame uid, wire::Frame operation,
                         const wire::SubscribeKvEvents& request) {
  std::erase_if(streams_, [&](const Stream& stream) {
    const bool is_old = stream.is_of(connection, uid) || stream.instance == request.instance;
    if (is_old) end(stream);
    return is_old;
  });
  if (streams_.size() == kStreamsMax) return false;
  Stream& stream = streams_.emplace_back();
  stream.connection = connection;
  stream.uid.assign(uid.begin(), uid.end());
  stream.operation.assign(operation.begin(), operation.end());
  stream.instance = request.instance;
  stream.model = request.model;
  stream.cursor = request.cursor;
  stream.events_max = request.events_max;
  send(stream);
  return true;
}

bool KvEventStreams::control(ConnectionId connection, wire::Frame uid, wire::StreamControl what) {
  const auto found = std::ranges::find_if(
      streams_, [&](const Stream& stream) { return stream.is_of(connection, uid); });
  if (found == streams_.end()) return false;
  if (what == wire::StreamControl::kAck) {
    found->has_credit = true;
    send(*found);
  } else {
    end(*found);
    streams_.erase(found);
  }
  return true;
}

void KvEventStreams::on_closed(ConnectionId connection) {
  std::erase_if(streams_, [&](const Stream& stream) { return stream.connection == connection; });
}

void KvEventStreams::send_new() {
  for (Stream& stream : streams_) send(stream);
}

void KvEventStreams::send(Stream& stream) {
  if (!stream.has_credit || (!stream.is_first && stream.cursor == log_.last())) return;
  const KvEventLog::Reading reading = log_.read(stream.model, stream.cursor, stream.events_max);
  stream.cursor = reading.next_cursor;
  // Only about other models.
  if (!stream.is_first && reading.events.empty() && !reading.is_lost) return;
  stream.is_first = false;
  stream.has_credit = false;
  const wire::Bytes batch = wire::encode_kv_events({.is_enabled = true,
                                                    .incarnation = incarnation_,
                                                    .next_cursor = reading.next_cursor,
                                                    .is_lost = reading.is_lost,
                                                    .events = reading.events});
  sink_.send(stream.connection, stream.uid, stream.operation, &batch);
}

void KvEventStreams::end(const Stream& stream) {
  sink_.send(stream.connection, stream.uid, stream.operation, nullptr);
}

}  // namespace larder::server
