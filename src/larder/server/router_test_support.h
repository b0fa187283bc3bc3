#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/unique_fd.h"
#include "larder/server/router.h"
#include "larder/server/zmq_socket.h"

namespace larder::server::testing {

using Frames = std::vector<std::string>;

/// A router whose handler records messages, and answers by `answer`.
class RouterHost final : public Router::Handler {
 public:
  struct Received {
    ConnectionId connection{};
    Frames frames;
  };

  explicit RouterHost(const RouterOptions& options = {.host = "127.0.0.1", .port = 0}) {
    auto router = Router::open(options);
    if (router) {
      router_ = *std::move(router);
    } else {
      ADD_FAILURE() << router.error().text;
    }
  }

  /// Receives, possibly nothing, until `is_so`. False when it does not become so within 30 seconds.
  bool run_until(const std::function<bool()>& is_so) {
    const std::uint64_t give_up_ns = RealClock::instance().now_ns() + 30'000'000'000;
    for (;;) {
      while (router_->receive(*this, 64)) {
      }
      if (is_so()) return true;
      if (RealClock::instance().now_ns() > give_up_ns) return false;
      if (router_->has_input()) continue;
      std::array<::pollfd, 2> fds{
          {{router_->event_fd(), POLLIN, 0}, {router_->monitor_fd(), POLLIN, 0}}};
      ::poll(fds.data(), fds.size(), 10);
    }
  }
  bool run_until_received(std::size_t messages) {
    return run_until([&] { return received.size() >= messages; });
  }

  Router& router() noexcept { return *router_; }

  void on_message(ConnectionId connection, std::unique_ptr<Message> message) override {
    Received& one = received.emplace_back();
    one.connection = connection;
    for (const wire::Frame frame : message->frames()) one.frames.emplace_back(as_text(frame));
    if (message->frames().size() < 2) return;
    const wire::Bytes payload{reply_bytes, std::byte{'x'}};
    router_->send(connection, message->frames()[0], message->frames()[1],
                  has_payload ? &payload : nullptr);
  }
  void on_closed(ConnectionId connection) override { closed.push_back(connection); }

  std::vector<Received> received;
  std::vector<ConnectionId> closed;
  bool has_payload = true;
  std::size_t reply_bytes = 1;

 private:
  std::unique_ptr<Router> router_;
};

/// A client over libzmq.
class Dealer {
 public:
  explicit Dealer(const std::string& url, std::string_view identity = {}) {
    socket_.set(ZMQ_LINGER, 10);  // See kLingerMs of the router.
    if (!identity.empty()) {
      ::zmq_setsockopt(socket_.get(), ZMQ_ROUTING_ID, identity.data(), identity.size());
    }
    socket_.set(ZMQ_IPV6, 1);
    EXPECT_EQ(::zmq_connect(socket_.get(), url.c_str()), 0) << url;
  }
  explicit Dealer(std::uint16_t port, std::string_view identity = {})
      : Dealer("tcp://127.0.0.1:" + std::to_string(port), identity) {}

  void send(const Frames& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      ZmqPart part;
      EXPECT_TRUE(part.copy(std::as_bytes(std::span{frames[i]})));
      EXPECT_TRUE(socket_.send(part.get(), i + 1 < frames.size()));
    }
  }
  /// Nothing: none has come yet.
  std::optional<Frames> receive() {
    Frames frames;
    for (;;) {
      ZmqPart part;
      if (!socket_.receive(part.get())) return std::nullopt;
      frames.emplace_back(as_text(part.bytes()));
      if (!part.has_more()) return frames;
    }
  }

 private:
  ZmqContext context_;
  ZmqSocket socket_{context_, ZMQ_DEALER};
};

/// Whether the host answers a message of the client.
inline bool is_answered(RouterHost& host, Dealer& client, const std::string& uid = "uid") {
  client.send({uid, "operation"});
  std::optional<Frames> reply;
  const bool has_come = host.run_until([&] { return (reply = client.receive()).has_value(); });
  return has_come && reply->front() == uid;
}

/// A peer that writes the bytes of ZMTP 3 itself, and so may write others.
class RawPeer {
 public:
  explicit RawPeer(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<::sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
  }

  /// False: the connection has ended.
  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ::ssize_t count = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  /// As a DEALER. A message may follow only when the other side is ready, too.
  bool shake_hands() {
    std::string greeting{"\xFF\0\0\0\0\0\0\0\0\x7F\x03\0NULL", 16};
    greeting.resize(64, '\0');
    const std::string ready{
        "\x05READY\x0BSocket-Type\0\0\0\x06"
        "DEALER",
        28};
    const std::string head{'\x04', static_cast<char>(ready.size())};
    if (!write(greeting + head + ready)) return false;
    const std::string answer = read(64 + 2);
    return answer.size() == 64 + 2 && !read(static_cast<unsigned char>(answer.back())).empty();
  }
  /// Less than `count` bytes: the connection has ended.
  std::string read(std::size_t count) {
    std::string bytes(count, '\0');
    const ::ssize_t got = ::recv(socket_.get(), bytes.data(), count, MSG_WAITALL);
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
  }
  static std::string frame(std::string_view bytes, bool has_more) {
    std::string text;
    const bool is_long = bytes.size() > 255;
    text += static_cast<char>((has_more ? 1 : 0) | (is_long ? 2 : 0));
    for (int shift = is_long ? 56 : 0; shift >= 0; shift -= 8) {
      text += static_cast<char>(bytes.size() >> shift & 0xFF);
    }
    return text.append(bytes);
  }
  bool send(const Frames& frames) {
    std::string text;
    for (std::size_t i = 0; i < frames.size(); ++i) text += frame(frames[i], i + 1 < frames.size());
    return write(text);
  }
  int fd() const noexcept { return socket_.get(); }
  void close() noexcept { socket_.reset(); }

 private:
  UniqueFd socket_;
};

}  // namespace larder::server::testing
