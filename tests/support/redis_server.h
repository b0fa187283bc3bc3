#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {

struct RedisServerOptions {
  std::string program = "redis-server";
  std::string password;                ///< Of the default user; empty: none.
  bool has_tls = false;                ///< On tls_port() too; needs `certificates`.
  std::string certificates;            ///< A directory with ca.pem, server.pem, server.key.
  std::vector<std::string> arguments;  ///< More, as "--maxmemory", "10mb".
};

/// A Redis or Valkey server of the test's own, on free ports of the loopback addresses and on a
/// unix socket, in a directory that goes with it. It dies with this process.
///
/// One thread at a time.
class RedisServer {
 public:
  /// Started and ready. kUnimplemented where there is no such program: skip the test then.
  static SetupResult<std::unique_ptr<RedisServer>> create(const RedisServerOptions& options = {});
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  std::uint16_t port() const noexcept { return port_; }
  std::uint16_t tls_port() const noexcept { return tls_port_; }
  const std::string& socket_path() const noexcept { return socket_path_; }

  /// Ends it with SIGKILL. Everything that it held is gone.
  void kill();
  /// On the same ports as before. After kill().
  SetupStatus start();
  void pause();   ///< SIGSTOP
  void resume();  ///< SIGCONT

  /// Runs one command over the unix socket: the text of its reply, "-ERR ..." for an error, "(nil)"
  /// for none. Lists are not read.
  std::string command(std::initializer_list<std::string_view> words);

 private:
  explicit RedisServer(RedisServerOptions options);
  std::vector<std::string> arguments() const;

  const RedisServerOptions options_;
  TemporaryDirectory directory_;
  std::string socket_path_;
  std::uint16_t port_ = 0;
  std::uint16_t tls_port_ = 0;
  pid_t process_ = -1;
  UniqueFd control_;
};

/// A CA of its own and certificates by it, made with the openssl command: ca.pem, server.pem and
/// server.key (for localhost, 127.0.0.1 and ::1), client.pem and client.key, other_ca.pem (which
/// signed none of them). kUnimplemented where there is no openssl.
SetupStatus make_certificates(const std::string& directory);

}  // namespace larder::testing
