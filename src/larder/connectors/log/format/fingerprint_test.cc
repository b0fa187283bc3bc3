#include "larder/connectors/log/format/fingerprint.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <string_view>

namespace larder::log_store {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

TEST(FingerprintTest, KeyAndSeedBothDecide) {
  const Fingerprint one = fingerprint_of(bytes_of("key"), 1);

  EXPECT_EQ(one, fingerprint_of(bytes_of("key"), 1));
  EXPECT_NE(one, fingerprint_of(bytes_of("key"), 2));
  EXPECT_NE(one, fingerprint_of(bytes_of("kez"), 1));
  EXPECT_NE(one, fingerprint_of(bytes_of(std::string_view{"key\0", 4}), 1));
}

}  // namespace
}  // namespace larder::log_store
