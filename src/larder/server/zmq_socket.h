#pragma once

#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "larder/server/message.h"
#include "larder/wire/limits.h"

namespace larder::server {

// libzmq's C API behind owners, without exceptions. A call that a signal has interrupted is made
// again: with ZMQ_DONTWAIT none of them waits.

/// One I/O thread, which libzmq starts with the first socket. Ends when its sockets have.
class ZmqContext {
 public:
  ZmqContext() noexcept : context_(::zmq_ctx_new()) {
    if (context_ != nullptr) ::zmq_ctx_set(context_, ZMQ_IO_THREADS, 1);
  }
  ~ZmqContext() {
    while (context_ != nullptr && ::zmq_ctx_term(context_) != 0 && ::zmq_errno() == EINTR) {
    }
  }
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

  void* get() const noexcept { return context_; }

 private:
  void* context_;
};

class ZmqSocket {
 public:
  ZmqSocket(const ZmqContext& context, int type) noexcept
      : socket_(context.get() == nullptr ? nullptr : ::zmq_socket(context.get(), type)) {}
  ~ZmqSocket() { reset(); }
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  explicit operator bool() const noexcept { return socket_ != nullptr; }
  void* get() const noexcept { return socket_; }
  void reset() noexcept {
    if (socket_ != nullptr) ::zmq_close(std::exchange(socket_, nullptr));
  }

  template <class T>
  bool set(int option, T value) noexcept {
    return ::zmq_setsockopt(socket_, option, &value, sizeof value) == 0;
  }
  /// Of an option that is an int. -1: it could not be read.
  int number(int option) const noexcept {
    int value = -1;
    std::size_t bytes = sizeof value;
    while (::zmq_getsockopt(socket_, option, &value, &bytes) != 0) {
      if (::zmq_errno() != EINTR) return -1;
    }
    return value;
  }
  /// False: nothing is there. `part` is initialized.
  bool receive(zmq_msg_t& part) noexcept {
    while (::zmq_msg_recv(&part, socket_, ZMQ_DONTWAIT) < 0) {
      if (::zmq_errno() != EINTR) return false;
    }
    return true;
  }
  /// True: the socket has the part's memory now.
  bool send(zmq_msg_t& part, bool has_more) noexcept {
    while (::zmq_msg_send(&part, socket_, ZMQ_DONTWAIT | (has_more ? ZMQ_SNDMORE : 0)) < 0) {
      if (::zmq_errno() != EINTR) return false;
    }
    return true;
  }

 private:
  void* socket_;
};

/// One frame.
class ZmqPart {
 public:
  ZmqPart() noexcept { ::zmq_msg_init(&part_); }
  ~ZmqPart() { ::zmq_msg_close(&part_); }
  ZmqPart(const ZmqPart&) = delete;
  ZmqPart& operator=(const ZmqPart&) = delete;

  /// False: the process has no memory left.
  bool copy(std::span<const std::byte> bytes) noexcept {
    ::zmq_msg_close(&part_);
    const bool has_memory = ::zmq_msg_init_size(&part_, bytes.size()) == 0;
    if (!has_memory) ::zmq_msg_init(&part_);
    if (has_memory && !bytes.empty()) {
      std::memcpy(::zmq_msg_data(&part_), bytes.data(), bytes.size());
    }
    return has_memory;
  }

  void reset() noexcept {
    ::zmq_msg_close(&part_);
    ::zmq_msg_init(&part_);
  }

  zmq_msg_t& get() noexcept { return part_; }
  bool has_more() noexcept { return ::zmq_msg_more(&part_) != 0; }
  std::span<const std::byte> bytes() noexcept {
    return {static_cast<const std::byte*>(::zmq_msg_data(&part_)), ::zmq_msg_size(&part_)};
  }

 private:
  zmq_msg_t part_;
};

/// A message in the memory that libzmq received it in. It holds one frame more than a request may
/// have, so that a message with too many is recognised; later frames are dropped.
class ZmqMessage final : public Message {
 public:
  bool is_full() const noexcept { return frames_.size() == parts_.size(); }
  /// The buffer of the next frame; add() then makes it one of frames(). Not when it is full.
  ZmqPart& next() noexcept { return parts_[frames_.size()]; }
  void add() { frames_.push_back(next().bytes()); }
  void drop_last_frame() noexcept override {
    Message::drop_last_frame();
    next().reset();
  }

 private:
  /// libzmq keeps short frames inside of these, so they never move.
  std::array<ZmqPart, wire::limits::kFrames + 1> parts_;
};

}  // namespace larder::server
