#include "larder/tools/stats.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/unique_fd.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/metrics_list.h"
#include "larder/tools/metrics_source.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

using namespace std::chrono_literals;

Report sample_report() {
  Report report;
  report.type = "log";
  report.where = "/data/kv";
  report.health = Health::kDegraded;
  report.keys = 1;
  report.bytes_used = std::uint64_t{3} << 30;
  report.capacity_bytes = std::uint64_t{4} << 30;
  OpReport& lookups = report.operations[index_of(Op::kExists)];
  lookups.total.hits = 75;
  lookups.total.misses = {20, 1, 2, 2, 0};
  lookups.last_minute.misses = {0, 0, 0, 2, 0};
  OpReport& loads = report.operations[index_of(Op::kGet)];
  loads.total = {.hits = 9, .misses = {0, 0, 0, 1, 0}, .bytes = 3000, .bytes_missed = 1000};
  ClassReport& load = report.classes[index_of(BatchClass::kLoad)];
  load.batches_queued = 7;
  load.oldest_queued_ns = 2'000'000'000;
  load.latency_last_minute = {.batches = 5, .sum_ns = 0, .p50_ns = 1'500'000, .p99_ns = 9'000'000};
  return report;
}

TEST(StatsTest, WhatIsWrittenIsReadBack) {
  std::vector<Report> reports{sample_report(), sample_report()};
  reports[1].where = "a \"b\"\\\n";
  reports[1].keys = 5;
  const std::string others = "# HELP python_info x\npython_info{a=\"b\"} 1\n";
  const auto stores = parse_metrics(others + prometheus_text(reports));
  ASSERT_TRUE(stores.has_value()) << stores.error().text;
  ASSERT_EQ(stores->size(), 2U);
  EXPECT_EQ((*stores)[1].where, reports[1].where);
  EXPECT_EQ((*stores)[1].of("keys"), 5);
  EXPECT_EQ((*stores)[0].of("lookup_misses_total", "absent"), 20);
  for (const Metric& metric : metrics_of(reports[0])) {
    EXPECT_DOUBLE_EQ((*stores)[0].of(metric.name, metric.label_value), metric.value)
        << flat_name(metric);
  }
}

TEST(StatsTest, ForPeopleItSaysHitRatesReasonsAndTimes) {
  const Report report = sample_report();
  const auto stores = parse_metrics(prometheus_text({&report, 1}));
  ASSERT_TRUE(stores.has_value());
  const std::string text = stats_text(*stores);
  for (const char* const wanted :
       {"log /data/kv: degraded, 1 key, 3 GiB of 4 GiB\n", "100 keys, 75.0 % found",
        "not found: absent 20, failed_before 1, down 2, late 2\n",
        "10 keys, 90.0 % found, 2.93 KiB", "75.0 % of the bytes; not found: late 1",
        "not found: late 2\n", "2 s", "1.50 ms", "9 ms"}) {
    EXPECT_NE(text.find(wanted), std::string::npos) << wanted << "\nin\n" << text;
  }
  EXPECT_EQ(stats_text({}), "no store is open there\n");
}

TEST(StatsTest, AsJsonItHasTheFlatNamesAndTheRates) {
  const Report report = sample_report();
  const auto stores = parse_metrics(prometheus_text({&report, 1}));
  ASSERT_TRUE(stores.has_value());
  const auto json = nlohmann::json::parse(stats_json(*stores));
  ASSERT_TRUE(json.is_object()) << json;
  EXPECT_EQ(json["ok"], true);
  ASSERT_EQ(json["stores"].size(), 1U);
  const auto& store = json["stores"][0];
  EXPECT_EQ(store["where"], "/data/kv");
  EXPECT_DOUBLE_EQ(store["lookup_hit_rate"], 0.75);
  EXPECT_DOUBLE_EQ(store["load_hit_rate"], 0.9);
  EXPECT_DOUBLE_EQ(store["load_hit_rate_of_bytes"], 0.75);
  EXPECT_EQ(store["metrics"]["lookup_misses_absent_total"], 20);
  EXPECT_DOUBLE_EQ(store["metrics"]["oldest_queued_load_seconds"], 2);
  EXPECT_EQ(nlohmann::json::parse(stats_json({})),
            (nlohmann::json{{"ok", true}, {"stores", nlohmann::json::array()}}));
}

TEST(StatsTest, ALineThatIsNoneIsNamed) {
  for (const char* const wrong :
       {"larder_keys", "larder_keys{type=\"a} 1", "larder_keys{type} 1",
        "larder_keys{type=\"a\"} x", "larder_keys{type=\"a\"b=\"c\"} 1"}) {
    const auto stores = parse_metrics(std::string{"up 1\n"} + wrong + "\n");
    ASSERT_FALSE(stores.has_value()) << wrong;
    EXPECT_NE(stores.error().text.find("line 2"), std::string::npos) << stores.error().text;
  }
}

/// Answers one request on a unix socket.
class OneAnswer {
 public:
  OneAnswer(const std::string& path, std::function<void(int fd)> answer)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_EQ(::listen(socket_.get(), 1), 0);
    thread_ = std::jthread{[this, answer = std::move(answer)] {
      const UniqueFd client{::accept(socket_.get(), nullptr, nullptr)};
      std::array<char, 4096> request{};
      request_.assign(request.data(), static_cast<std::size_t>(
                                          ::recv(client.get(), request.data(), request.size(), 0)));
      answer(client.get());
    }};
  }
  const std::string& request() {
    thread_.join();
    return request_;
  }

 private:
  UniqueFd socket_;
  std::string request_;
  std::jthread thread_;
};

void say(int fd, std::string_view text) {
  EXPECT_EQ(::send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
}

class ReadMetricsTest : public ::testing::Test {
 protected:
  std::string path(const char* name) const { return directory_.path() + "/" + name; }
  /// The error for an address that cannot be read.
  static std::string refusal(const std::string& address) {
    const auto text = read_metrics(address, 300ms);
    EXPECT_FALSE(text.has_value()) << address;
    return text ? "" : text.error().text;
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(ReadMetricsTest, FromASocketAndFromAFile) {
  {
    OneAnswer server{path("s"), [](int fd) {
                       say(fd, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nlarder_a");
                       say(fd, "{} 1\n");
                     }};
    const auto text = read_metrics(path("s"), 5s);
    ASSERT_TRUE(text.has_value()) << text.error().text;
    EXPECT_EQ(*text, "larder_a{} 1\n");
    EXPECT_TRUE(server.request().starts_with("GET /metrics HTTP/1.0\r\n"));
  }
  std::ofstream{path("file")} << "text\n";
  EXPECT_EQ(read_metrics(path("file"), 1s).value(), "text\n");
}

TEST_F(ReadMetricsTest, WhatDoesNotAnswerIsNamedWithTheRemedy) {
  EXPECT_NE(refusal(path("none")).find("No such file"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:1").find("Connection refused"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:1").find("LARDER_METRICS=ADDRESS"), std::string::npos);
  EXPECT_NE(refusal(directory_.path()).find("larder inspect"), std::string::npos);
  EXPECT_NE(refusal("https://host/metrics").find("curl"), std::string::npos);
  for (const char* const wrong : {"nonsense", "host:", ":1x", "http://", "host:port", "unix:"}) {
    EXPECT_NE(refusal(wrong).find("no address"), std::string::npos) << wrong;
  }
  {
    OneAnswer server{path("404"), [](int fd) { say(fd, "HTTP/1.0 404 Not Found\r\n\r\n"); }};
    EXPECT_NE(refusal(path("404")).find("404 Not Found of /metrics"), std::string::npos);
  }
  {
    OneAnswer server{path("other"), [](int fd) { say(fd, "SSH-2.0\r\n"); }};
    EXPECT_NE(refusal(path("other")).find("does not speak HTTP"), std::string::npos);
  }
  {
    OneAnswer server{path("slow"), [](int /*fd*/) { std::this_thread::sleep_for(1s); }};
    EXPECT_NE(refusal(path("slow")).find("no answer in time"), std::string::npos);
  }
}

/// Every number of a single type of connector is explained by that type.
TEST(MetricsListTest, TheNumbersOfEveryConnectorAreInTheirTypesLists) {
  const testing::TemporaryDirectory directory;
  for (const std::string& spec :
       {std::string{"memory:"}, std::string{"mock:?max_size_gb=1&mock_bandwidth_gb=1"},
        std::string{"fault:?inner=memory:"}, "fs:" + directory.path() + "/fs",
        "log:" + directory.path() + "/log?capacity=64MiB&segment=2MiB&max_value=1MiB",
        std::string{"resp:127.0.0.1:1"}}) {
    const auto connector = builtin_registry().open(spec);
    ASSERT_TRUE(connector.has_value()) << connector.error().text;
    const Report report = (*connector)->report();
    const ConnectorType* const type = builtin_registry().find(report.type);
    ASSERT_NE(type, nullptr) << report.type;
    std::vector<std::string_view> known;
    for (const MetricRow& row : type->metrics) known.push_back(row.name);
    std::vector<std::string_view> seen;
    for (const Counter& counter : report.counters) {
      if (counter.name.starts_with("inner_")) continue;
      EXPECT_NE(std::ranges::find(known, counter.name), known.end()) << spec << " " << counter.name;
      seen.push_back(counter.name);
    }
    for (const std::string_view name : known) {
      // A server's facts are known once it has answered.
      if (name.starts_with("server_")) continue;
      EXPECT_NE(std::ranges::find(seen, name), seen.end()) << spec << " never tells " << name;
    }
    const std::string page = list_metrics(builtin_registry(), true);
    for (const std::string_view name : known) {
      EXPECT_NE(page.find("`larder_" + std::string{name} + "`"), std::string::npos) << name;
    }
    EXPECT_TRUE((*connector)->stop(kNever));
  }
}

}  // namespace
}  // namespace larder::tools
