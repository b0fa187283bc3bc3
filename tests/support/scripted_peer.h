#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/unique_fd.h"

namespace larder::testing {

/// A server that speaks the Redis protocol as a test tells it to, by default on a free port of
/// 127.0.0.1.
///
/// Threads: one of its own for each connection, in which the script is called. The destructor ends
/// all connections.
class ScriptedPeer {
 public:
  /// What to do about one command.
  struct Answer {
    std::string bytes = {};
    bool one_by_one = false;  ///< Every byte in a segment of its own.
    bool resets = false;      ///< Then the connection ends with a reset.
  };
  using Words = std::vector<std::string>;
  /// Nothing: CLIENT, PING, AUTH, SELECT, INFO and what asks for "larder:probe", by which larder
  /// finds out whether a server answers, get a usual answer, the others none at all.
  /// `connection` counts from 0.
  using Script = std::function<std::optional<Answer>(const Words& words, int connection)>;

  explicit ScriptedPeer(Script script, const char* address = "127.0.0.1", std::uint16_t port = 0);
  ~ScriptedPeer();
  ScriptedPeer(const ScriptedPeer&) = delete;
  ScriptedPeer& operator=(const ScriptedPeer&) = delete;

  std::uint16_t port() const noexcept { return port_; }

 private:
  void accept_all();
  void serve(int fd, int connection);

  const Script script_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  Mutex mutex_;
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;
  std::vector<UniqueFd> sockets_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::jthread> threads_ LARDER_GUARDED_BY(mutex_);
  std::jthread acceptor_;
};

}  // namespace larder::testing
