#include "tests/resp/resp_test_support.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "larder/base/clock.h"
#include "larder/base/hash.h"
#include "larder/base/logging.h"
#include "larder/base/random.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/builtin.h"

namespace larder::resp {

SetupResult<std::unique_ptr<Connector>> try_spec(const std::string& spec) {
  return builtin_registry().open(spec);
}

std::unique_ptr<Connector> open_spec(const std::string& spec) {
  auto opened = try_spec(spec);
  EXPECT_TRUE(opened.has_value()) << opened.error().text;
  return opened ? std::move(*opened) : nullptr;
}

std::string redis_spec(std::uint16_t port, const std::string& parameters) {
  return "redis://127.0.0.1:" + std::to_string(port) + "?reconnect_max=50ms" +
         (parameters.empty() ? "" : "&" + parameters);
}

std::span<const std::byte> bytes_of_text(std::string_view text) {
  return std::as_bytes(std::span{text});
}

std::vector<std::byte> value_of(std::string_view key, std::size_t bytes) {
  std::vector<std::byte> value(bytes);
  Random random{hash64(bytes_of_text(key))};
  random.fill(value);
  return value;
}

bool eventually_has_health(const Connector& connector, Health health) {
  return eventually([&] { return connector.report().health == health; });
}

bool eventually_is_over(const Connector& connector) {
  return eventually([&] {
    return std::ranges::all_of(connector.report().reasons, [](const std::string& reason) {
      return reason.find("of the last minute failed") != std::string::npos;
    });
  });
}

std::uint64_t counter_of(const Connector& connector, std::string_view name) {
  const Report report = connector.report();
  const auto value = metric_value(report, name);
  EXPECT_TRUE(value.has_value()) << name;
  return value.value_or(0);
}

std::string property_of(const Connector& connector, std::string_view name) {
  for (const auto& [known, value] : connector.report().properties) {
    if (known == name) return value;
  }
  return "";
}

std::string text_of_report(const Connector& connector) {
  const Report report = connector.report();
  std::string text = report.type + " " + report.where;
  for (const std::string& reason : report.reasons) text += "\n" + reason;
  for (const auto& [name, value] : report.properties) {
    text.append("\n").append(name).append("=").append(value);
  }
  for (const Counter& counter : report.counters) {
    text += "\n" + counter.name + "=" + std::to_string(counter.value);
  }
  return text;
}

ErrorCode set_code(BlockingClient& client, std::string_view key, std::size_t bytes, SetMode mode) {
  const auto value = value_of(key, bytes);
  const auto stored = client.set(key, value, mode);
  return stored ? ErrorCode::kNone : stored.error().code();
}

ErrorCode get_code(BlockingClient& client, std::string_view key, std::size_t bytes) {
  std::vector<std::byte> buffer(bytes);
  const auto got = client.get_into(key, buffer);
  if (!got) return got.error().code();
  if (*got) {
    EXPECT_EQ(buffer, value_of(key, bytes)) << key << ": a hit with wrong bytes";
  }
  return ErrorCode::kNone;
}

bool is_hit(BlockingClient& client, std::string_view key, std::size_t bytes) {
  std::vector<std::byte> buffer(bytes);
  const auto got = client.get_into(key, buffer);
  return got && *got && **got == bytes && buffer == value_of(key, bytes);
}

bool is_miss(BlockingClient& client, std::string_view key, std::size_t bytes) {
  std::vector<std::byte> buffer(bytes);
  const auto got = client.get_into(key, buffer);
  return got && !*got;
}

bool is_missed_as_down(BlockingClient& client, std::string_view key, std::size_t bytes) {
  std::vector<std::byte> buffer(bytes);
  const Slice slice{.data = buffer.data(), .bytes = buffer.size()};
  Item item;
  item.key = bytes_of_text(key);
  item.value = {&slice, 1};
  Batch batch;
  batch.items = {&item, 1};
  batch.op = Op::kGet;
  return client.run(batch) && item.outcome == Outcome::kMiss &&
         item.miss_reason == MissReason::kDown;
}

CapturedLog::CapturedLog()
    : file_(::memfd_create("log", MFD_CLOEXEC)),
      stderr_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
  EXPECT_EQ(::dup2(file_.get(), STDERR_FILENO), STDERR_FILENO);
  set_log_level(LogLevel::kInfo);
}

CapturedLog::~CapturedLog() {
  set_log_level(LogLevel::kWarning);
  EXPECT_EQ(::dup2(stderr_.get(), STDERR_FILENO), STDERR_FILENO);
}

std::string CapturedLog::text() const {
  std::string text;
  std::array<char, 4096> part{};
  ::ssize_t bytes = 0;
  while ((bytes = ::pread(file_.get(), part.data(), part.size(),
                          static_cast<::off_t>(text.size()))) > 0) {
    text.append(part.data(), static_cast<std::size_t>(bytes));
  }
  return text;
}

double attempts_within(std::uint64_t elapsed_ns, double wait_max_ns) {
  constexpr double kShortestNs = 5'000'000;
  const auto elapsed = static_cast<double>(elapsed_ns);
  return 3 + std::log2(1 + elapsed / kShortestNs) + elapsed / (wait_max_ns / 2);
}

std::string bulk_of(std::string_view key, std::size_t bytes) {
  const auto value = value_of(key, bytes);
  return "$" + std::to_string(value.size()) + "\r\n" +
         std::string{reinterpret_cast<const char*>(value.data()), value.size()} + "\r\n";
}

std::optional<testing::ScriptedPeer::Answer> good_answer(
    const testing::ScriptedPeer::Words& words) {
  using Answer = testing::ScriptedPeer::Answer;
  if (words[0] == "GET") return Answer{.bytes = bulk_of(words[1], 5)};
  if (words[0] == "SET") return Answer{.bytes = words.back() == "NX" ? "$-1\r\n" : "+OK\r\n"};
  if (words[0] == "STRLEN") return Answer{.bytes = ":5\r\n"};
  if (words[0] == "UNLINK" || words[0] == "TOUCH") return Answer{.bytes = ":1\r\n"};
  return std::nullopt;
}

void raise_to(std::atomic<int>& largest, int number) {
  int seen = largest;
  while (seen < number && !largest.compare_exchange_weak(seen, number)) {
  }
}

bool is_greeting(const testing::ScriptedPeer::Words& words) {
  return words[0] == "CLIENT" || words[0] == "PING" || words[0] == "AUTH" || words[0] == "SELECT";
}

}  // namespace larder::resp
