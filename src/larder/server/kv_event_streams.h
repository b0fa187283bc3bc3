#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/server/kv_event_log.h"
#include "larder/server/message.h"
#include "larder/wire/request.h"

namespace larder::server {

/// The subscribers of the log of KV events (subscribe_kv_events): each stream gets one batch per
/// credit, the first one at once, also if it is empty. It ends when the client cancels it, with its
/// connection, or with another one of the same worker.
///
/// Bounded: kStreamsMax. A client that gives no credit gets nothing, and loses the events that the
///   log drops meanwhile.
/// Threads: the service's. Cost: send_new() is O(streams) when there is nothing new.
class KvEventStreams {
 public:
  static constexpr std::size_t kStreamsMax = 1024;

  /// `incarnation`: a different number in every run of a server.
  KvEventStreams(KvEventLog& log, std::uint64_t incarnation, ReplySink& sink)
      : log_(log), incarnation_(incarnation), sink_(sink) {}

  /// False: there are too many.
  bool add(ConnectionId connection, wire::Frame uid, wire::Frame operation,
           const wire::SubscribeKvEvents& request);
  /// False: there is no such stream.
  bool control(ConnectionId connection, wire::Frame uid, wire::StreamControl what);
  void on_closed(ConnectionId connection);

  /// Sends new events to all streams that have credit.
  void send_new();

  std::size_t size() const noexcept { return streams_.size(); }

 private:
  struct Stream {
    ConnectionId connection{};
    wire::Bytes uid;
    wire::Bytes operation;
    wire::Integer instance;
    std::string model;
    std::uint64_t cursor = 0;
    std::uint32_t events_max = 0;
    bool has_credit = true;
    bool is_first = true;  ///< Nothing was sent yet.

    bool is_of(ConnectionId other, wire::Frame other_uid) const noexcept;
  };

  void send(Stream& stream);
  void end(const Stream& stream);

  KvEventLog& log_;
  const std::uint64_t incarnation_;
  ReplySink& sink_;
  std::vector<Stream> streams_;
};

}  // namespace larder::server
