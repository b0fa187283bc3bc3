#include "larder/connectors/plugin/plugin_connector.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/plugin/load_plugins.h"

namespace larder::plugin {
namespace {

const Registry& registry() {
  static const Registry loaded = [] {
    Registry made;
    load_all(LARDER_TEST_PLUGINS "/none.so", made);
    return made;
  }();
  return loaded;
}

std::unique_ptr<Connector> open(const std::string& spec) {
  auto opened = registry().open(spec);
  EXPECT_TRUE(opened.has_value()) << opened.error().text;
  return opened ? std::move(*opened) : nullptr;
}

void stop(Connector& connector) {
  EXPECT_TRUE(connector.stop(RealClock::instance().now_ns() + 60'000'000'000).has_value());
}

std::vector<std::byte> bytes_of_text(std::string_view text) {
  const auto* const data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

ErrorCode code_of_get(Connector& connector, std::string_view key) {
  std::array<std::byte, 8> buffer{};
  const auto got = BlockingClient{connector}.get_into(key, buffer);
  return got ? ErrorCode::kNone : got.error().code();
}

TEST(PluginConnector, StoresLoadsAndRemoves) {
  const auto connector = open("test:t");
  ASSERT_NE(connector, nullptr);
  BlockingClient client{*connector};
  EXPECT_FALSE(client.set("key", bytes_of_text("value"))->existed);
  EXPECT_TRUE(client.set("key", bytes_of_text("other"), SetMode::kIfAbsent)->existed);
  EXPECT_EQ(**client.get("key"), bytes_of_text("value"));
  EXPECT_EQ(*client.exists("key"), 5U);
  EXPECT_TRUE(*client.touch("key"));
  EXPECT_EQ(connector->report().keys, 1U);
  EXPECT_EQ(connector->report().bytes_used, 5U);
  EXPECT_TRUE(*client.remove("key"));
  EXPECT_FALSE(*client.remove("key"));
  EXPECT_FALSE(client.get("key")->has_value());
  stop(*connector);
}

TEST(PluginConnector, AnErrnoBecomesTheErrorThatCallersKnow) {
  const auto connector = open("test:t?capacity=4");
  ASSERT_NE(connector, nullptr);
  EXPECT_EQ(code_of_get(*connector, "errno 5"), ErrorCode::kIo);
  EXPECT_EQ(code_of_get(*connector, "damaged"), ErrorCode::kCorruption);
  EXPECT_EQ(code_of_get(*connector, "gone"), ErrorCode::kUnavailable);
  EXPECT_EQ(code_of_get(*connector, "returns 7"), ErrorCode::kInternal);
  const auto stored = BlockingClient{*connector}.set("key", bytes_of_text("too large"));
  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(stored.error().sys_errno(), ENOSPC);
  EXPECT_EQ(stored.error().where(), "test");
  stop(*connector);
}

TEST(PluginConnector, ALostPeerIsDownAndSaysWhy) {
  const auto connector = open("test:t?defect=unreachable");
  ASSERT_NE(connector, nullptr);
  EXPECT_EQ(code_of_get(*connector, "key"), ErrorCode::kUnavailable);
  const Report report = connector->report();
  EXPECT_NE(report.health, Health::kHealthy);
  std::string reasons;
  for (const std::string& reason : report.reasons) reasons += reason + "\n";
  EXPECT_NE(reasons.find("test: Connection refused"), std::string::npos) << reasons;
  stop(*connector);
}

TEST(PluginConnector, AnOpenThatFailsSaysWhatThePluginSays) {
  const auto opened = registry().open("test:unopenable");
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().text, "test: 'unopenable' cannot be opened; name another table");
  const auto misspelled = registry().open("test:t?capazity=1");
  ASSERT_FALSE(misspelled.has_value());
  EXPECT_NE(misspelled.error().text.find("capacity"), std::string::npos);
}

TEST(PluginConnector, ADescriptionWithStrayNumbersIsRefused) {
  const auto refusal = [](auto change) {
    const ConnectorType* const type = registry().find("test");
    larder_plugin_type description = *static_cast<const PluginType*>(type)->plugin;
    change(description);
    const auto made = make_type(description);
    return made ? std::string{} : made.error().text;
  };
  EXPECT_EQ(refusal([](larder_plugin_type&) {}), "");
  EXPECT_NE(refusal([](larder_plugin_type& type) { type.reserved = 1; }).find("reserved"),
            std::string::npos);
  EXPECT_NE(refusal([](larder_plugin_type& type) { type.locality = 9; }).find("locality 9"),
            std::string::npos);
  EXPECT_NE(refusal([](larder_plugin_type& type) { type.location = "capacity"; }).find("location"),
            std::string::npos);
  static larder_parameter odd = {};
  odd.name = "odd";
  odd.help = "A parameter.";
  odd.kind = 6;  // Of larder's own kinds, and none of a plugin's.
  EXPECT_NE(refusal([](larder_plugin_type& type) {
              type.parameters = &odd;
              type.parameter_count = 1;
            }).find("'odd'"),
            std::string::npos);
}

}  // namespace
}  // namespace larder::plugin
