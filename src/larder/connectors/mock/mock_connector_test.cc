#include "larder/connectors/mock/mock_connector.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"

namespace larder::mock {
namespace {

using Bytes = std::vector<std::byte>;

std::unique_ptr<Connector> open_mock(const std::string& spec) {
  Registry registry;
  registry.add(connector_type());
  auto opened = registry.open(spec);
  EXPECT_TRUE(opened.has_value()) << opened.error().text;
  return std::move(*opened);
}

TEST(MockConnectorTest, LmcachesJsonOpens) {
  const auto mock = open_mock(R"({"type": "mock", "max_size_gb": 0.5, "mock_bandwidth_gb": 10})");
  EXPECT_EQ(mock->report().capacity_bytes, std::uint64_t{1} << 29);
}

TEST(MockConnectorTest, ATransferTakesAsLongAsAtTheBandwidth) {
  // 1 MiB a second.
  const auto mock = open_mock("mock:?max_size_gb=1&mock_bandwidth_gb=0.0009765625");
  BlockingClient client{*mock};
  const auto timed = [](const auto& call) {
    const std::uint64_t begin_ns = RealClock::instance().now_ns();
    call();
    return RealClock::instance().now_ns() - begin_ns;
  };
  const Bytes value(100 << 10);
  EXPECT_GE(timed([&] { EXPECT_TRUE(client.set("key", value).has_value()); }), 97'000'000U);
  Bytes buffer(100 << 10);
  EXPECT_GE(timed([&] { EXPECT_TRUE(client.get_into("key", buffer)->has_value()); }), 97'000'000U);
}

TEST(MockConnectorTest, WhatWouldEndAfterItsDeadlineFailsAtIt) {
  const auto mock = open_mock("mock:?max_size_gb=1&mock_bandwidth_gb=0.000001");
  BlockingClient client{*mock, 10'000'000};
  const auto stored = client.set("key", Bytes(1 << 20));
  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().code(), ErrorCode::kDeadlineExceeded);
}

TEST(MockConnectorTest, AFullOneRefusesAndEvictsNothing) {
  const auto mock = open_mock("mock:?max_size_gb=0.0009765625&mock_bandwidth_gb=1000");
  BlockingClient client{*mock};
  ASSERT_TRUE(client.set("a", Bytes(600 << 10)).has_value());
  EXPECT_EQ(client.set("b", Bytes(600 << 10)).error().code(), ErrorCode::kResourceExhausted);
  EXPECT_TRUE(client.exists("a")->has_value());
  EXPECT_FALSE(client.exists("b")->has_value());
  EXPECT_TRUE(*client.remove("a"));
  EXPECT_TRUE(client.set("b", Bytes(600 << 10)).has_value());
}

TEST(MockConnectorTest, AStopDoesNotWaitForASimulatedTransfer) {
  const auto mock = open_mock("mock:?max_size_gb=1&mock_bandwidth_gb=0.000001");
  const std::string key = "key";
  Bytes value(1 << 20);
  const Slice slice{value.data(), value.size()};
  Item item;
  item.key = std::as_bytes(std::span{key});
  item.value = {&slice, 1};
  Batch batch;
  batch.items = {&item, 1};
  batch.op = Op::kSet;
  ASSERT_TRUE(mock->submit(batch).has_value());
  EXPECT_TRUE(mock->stop(RealClock::instance().now_ns() + 30'000'000'000).has_value());
  Batch* done = nullptr;
  EXPECT_EQ(mock->reap({&done, 1}), 1U);
  EXPECT_EQ(item.error.code(), ErrorCode::kCancelled);
}

TEST(MockConnectorTest, ANumberThatIsNoneIsAnError) {
  Registry registry;
  registry.add(connector_type());
  for (const char* text : {"0", "-1", "many", "nan", "1e30", ""}) {
    const auto opened = registry.open(std::string{"mock:?mock_bandwidth_gb=1&max_size_gb="} + text);
    ASSERT_FALSE(opened.has_value()) << text;
    EXPECT_NE(opened.error().text.find("max_size_gb"), std::string::npos) << opened.error().text;
  }
}

}  // namespace
}  // namespace larder::mock
