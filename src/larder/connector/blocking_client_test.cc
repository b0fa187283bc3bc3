#include "larder/connector/blocking_client.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connectors/memory/memory_connector.h"

namespace larder {
namespace {

std::vector<std::byte> bytes_of_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

class BlockingClientTest : public testing::Test {
 protected:
  memory::MemoryConnector connector{{}};
  BlockingClient client{connector};
};

TEST_F(BlockingClientTest, WhatWasSetIsFoundAndWhatWasRemovedIsNot) {
  EXPECT_FALSE(client.get("key").value().has_value());
  EXPECT_FALSE(client.set("key", bytes_of_text("value")).value().existed);
  EXPECT_EQ(client.get("key").value(), bytes_of_text("value"));
  EXPECT_EQ(client.exists("key").value(), 5U);
  EXPECT_TRUE(client.touch("key").value());
  EXPECT_TRUE(client.remove("key").value());
  EXPECT_FALSE(client.remove("key").value());
  EXPECT_FALSE(client.touch("key").value());
  EXPECT_FALSE(client.exists("key").value().has_value());
}

TEST_F(BlockingClientTest, SetReplacesUnlessItIsToldNotTo) {
  ASSERT_TRUE(client.set("key", bytes_of_text("one")).has_value());
  EXPECT_FALSE(client.set("key", bytes_of_text("two")).value().existed);
  EXPECT_TRUE(client.set("key", bytes_of_text("three"), SetMode::kIfAbsent).value().existed);
  EXPECT_EQ(client.get("key").value(), bytes_of_text("two"));
}

TEST_F(BlockingClientTest, AnEmptyValueIsAValue) {
  ASSERT_TRUE(client.set("key", {}).has_value());
  EXPECT_EQ(client.exists("key").value(), 0U);
  EXPECT_EQ(client.get("key").value(), std::vector<std::byte>{});
}

TEST_F(BlockingClientTest, GetIntoAMissLeavesTheBufferAndAnotherSizeIsAnError) {
  std::array<std::byte, 4> buffer{std::byte{7}, std::byte{7}, std::byte{7}, std::byte{7}};
  EXPECT_FALSE(client.get_into("key", buffer).value().has_value());
  EXPECT_EQ(buffer[3], std::byte{7});
  ASSERT_TRUE(client.set("key", bytes_of_text("value")).has_value());
  EXPECT_EQ(client.get_into("key", buffer).error().code(), ErrorCode::kSizeMismatch);
}

TEST_F(BlockingClientTest, AnItemsErrorIsTheCallsError) {
  EXPECT_EQ(client.set("", bytes_of_text("value")).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(client.get(std::string(1025, 'x')).error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(BlockingClientTest, ARefusedBatchIsTheCallsError) {
  ASSERT_TRUE(connector.stop(kNever).has_value());
  EXPECT_EQ(client.exists("key").error().code(), ErrorCode::kCancelled);
}

TEST_F(BlockingClientTest, TheTimeoutIsTheDeadlineOfTheBatch) {
  BlockingClient hasty{connector, 0};
  EXPECT_EQ(hasty.exists("key").error().code(), ErrorCode::kDeadlineExceeded);
  BlockingClient patient{connector, kNever};
  EXPECT_TRUE(patient.exists("key").has_value());
}

}  // namespace
}  // namespace larder
