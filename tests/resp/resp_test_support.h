#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/unique_fd.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/connector.h"
#include "tests/support/eventually.h"
#include "tests/support/redis_server.h"
#include "tests/support/scripted_peer.h"

namespace larder::resp {

inline constexpr std::uint64_t kPatienceNs = 60'000'000'000;
inline constexpr std::uint64_t kMillisecondNs = 1'000'000;

/// Opens a spec, which must succeed.
std::unique_ptr<Connector> open_spec(const std::string& spec);
SetupResult<std::unique_ptr<Connector>> try_spec(const std::string& spec);
std::string redis_spec(std::uint16_t port, const std::string& parameters = "");

/// Incompressible bytes that are a function of `key`.
std::vector<std::byte> value_of(std::string_view key, std::size_t bytes);
std::span<const std::byte> bytes_of_text(std::string_view text);

using testing::eventually;
bool eventually_has_health(const Connector& connector, Health health);
/// Until nothing is left to report but failures of the last minute.
bool eventually_is_over(const Connector& connector);

std::uint64_t counter_of(const Connector& connector, std::string_view name);
/// "" when there is none.
std::string property_of(const Connector& connector, std::string_view name);
/// The whole report as text.
std::string text_of_report(const Connector& connector);

/// Stops a connector at the end of a test and lets it go. Everything must have been reaped.
class Opened {
 public:
  explicit Opened(const std::string& spec) : connector_(open_spec(spec)) {}
  Connector& operator*() const { return *connector_; }
  Connector* operator->() const { return connector_.get(); }

 private:
  std::unique_ptr<Connector> connector_;
};

/// Stores key's value of so many bytes; the error's code, kNone when it is done.
ErrorCode set_code(BlockingClient& client, std::string_view key, std::size_t bytes,
                   SetMode mode = SetMode::kReplace);
/// The error's code of a Get; kNone for a hit of exactly value_of() and for a miss.
ErrorCode get_code(BlockingClient& client, std::string_view key, std::size_t bytes);
bool is_hit(BlockingClient& client, std::string_view key, std::size_t bytes);
bool is_miss(BlockingClient& client, std::string_view key, std::size_t bytes);
/// A Get is a miss because there is no server.
bool is_missed_as_down(BlockingClient& client, std::string_view key, std::size_t bytes);

/// A bulk string that holds value_of().
std::string bulk_of(std::string_view key, std::size_t bytes);
/// For scripted peers: what a server answers that holds every key, with a value of 5 bytes. Nothing
/// for the greeting and INFO.
std::optional<testing::ScriptedPeer::Answer> good_answer(const testing::ScriptedPeer::Words& words);
/// For numbers of connections, of which each thread of a peer sees its own: the largest so far.
void raise_to(std::atomic<int>& largest, int number);
bool is_greeting(const testing::ScriptedPeer::Words& words);

/// How many times a connection that fails may have been made within a time: the waits double from
/// 10 ms up to `wait_max_ns`, each shortened by up to a half.
double attempts_within(std::uint64_t elapsed_ns, double wait_max_ns);

/// What the log says while it lives, at level info.
class CapturedLog {
 public:
  CapturedLog();
  ~CapturedLog();
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  /// All lines so far.
  std::string text() const;

 private:
  UniqueFd file_;
  UniqueFd stderr_;  ///< The process's own.
};

/// Starts a server or skips the test.
#define LARDER_START_REDIS(server, options)                                          \
  auto server##_result = testing::RedisServer::create(options);                      \
  if (!server##_result && server##_result.error().code == ErrorCode::kUnimplemented) \
    GTEST_SKIP() << "SKIPPED (needs " << server##_result.error().text << ")";        \
  ASSERT_TRUE(server##_result.has_value()) << server##_result.error().text;          \
  testing::RedisServer& server = **server##_result

}  // namespace larder::resp
