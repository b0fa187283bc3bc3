#include "larder/server/quota_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace larder::server {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::string error_of(std::string_view body) {
  const auto setting = read_quota(body);
  return setting ? "" : setting.error();
}

TEST(QuotaJsonTest, ABodyHasOneOfThreeNumbersAtLeast) {
  const auto setting =
      read_quota(R"({"limit_gb": 1.5, "guarantee_gb": 1, "l2_limit_gb": 0, "others": "x"})");
  ASSERT_TRUE(setting) << setting.error();
  EXPECT_EQ(*setting, (QuotaSetting{.limit_gb = 1.5, .guarantee_gb = 1.0, .l2_limit_gb = 0.0}));
  const cache::Quota quota = quota_of(*setting, {});
  EXPECT_EQ(quota.limit_bytes, kGiB * 3 / 2);
  EXPECT_EQ(quota.guarantee_bytes, kGiB);
  EXPECT_EQ(quota.tier_limit_bytes, 0U);
  const auto part = read_quota(R"({"guarantee_gb": 0.25})");
  ASSERT_TRUE(part);
  EXPECT_EQ(quota_of(*part, {}).limit_bytes, kNever);
  EXPECT_EQ(quota_of(*part, {.limit_bytes = kGiB}).limit_bytes, kGiB);
  EXPECT_EQ(setting_json(*part).dump(), R"({"guarantee_gb":0.25})");
}

/// The first ones are LMCache's own sentences.
TEST(QuotaJsonTest, WhatIsNoQuotaIsSaidInASentence) {
  for (const char* body : {"", "{", "nope", "{\"limit_gb\": }", "\xff"}) {
    EXPECT_EQ(error_of(body), "invalid JSON body") << body;
  }
  for (const char* body : {"1", "[]", "null", "{}", R"({"nope": 1})", R"("limit_gb")"}) {
    EXPECT_EQ(error_of(body), "body must be {'limit_gb': <float>}") << body;
  }
  for (const char* value : {"\"1.5\"", "null", "true", "[1]", "{}", "\"nan\""}) {
    EXPECT_EQ(error_of(std::string{R"({"limit_gb": )"} + value + "}"), "limit_gb must be numeric")
        << value;
  }
  for (const char* value : {"NaN", "Infinity", "-Infinity", "1e400", "-1e999"}) {
    EXPECT_EQ(error_of(std::string{R"({"limit_gb": )"} + value + "}"), "limit_gb must be finite")
        << value;
  }
  EXPECT_EQ(error_of(R"({"limit_gb": -1})"), "limit_gb must be non-negative");
  EXPECT_EQ(error_of(R"({"limit_gb": 1, "guarantee_gb": -0.5})"),
            "guarantee_gb must be non-negative");
  EXPECT_EQ(error_of(R"({"limit_gb": 1, "l2_limit_gb": "1"})"), "l2_limit_gb must be numeric");
  for (const char* value : {"1e300", "8589934593", "18446744073709551615"}) {
    const std::string error = error_of(std::string{R"({"limit_gb": )"} + value + "}");
    EXPECT_NE(error.find("8 EiB"), std::string::npos) << value << ": " << error;
  }
  EXPECT_EQ(error_of(R"({"limit_gb": 8589934592})"), "");
}

TEST(QuotaJsonTest, AGuaranteeIsNotAboveItsLimit) {
  EXPECT_FALSE(quota_defect({.limit_gb = 2, .guarantee_gb = 2}, {}));
  EXPECT_FALSE(quota_defect({.guarantee_gb = 2}, {}));
  const auto own = quota_defect({.limit_gb = 1, .guarantee_gb = 2}, {});
  ASSERT_TRUE(own);
  EXPECT_NE(own->find("guarantee_gb is 2.0 and limit_gb is 1.0"), std::string::npos) << *own;
  const auto general = quota_defect({.guarantee_gb = 2}, {.limit_bytes = kGiB});
  ASSERT_TRUE(general);
  EXPECT_NE(general->find("--quota-default-gb"), std::string::npos) << *general;
}

TEST(QuotaJsonTest, APathHoldsAnySalt) {
  const auto salt = [](const std::string& path) {
    const auto found = salt_of_target("/quota/" + path);
    return found ? *found : "error: " + found.error().text;
  };
  EXPECT_EQ(salt("tenant-a"), "tenant-a");
  EXPECT_EQ(salt("_default"), "");
  EXPECT_EQ(salt("%5Fdefault"), "");
  EXPECT_EQ(salt("_default2"), "_default2");
  EXPECT_EQ(salt("a/b"), "a/b");
  EXPECT_EQ(salt("a%2Fb%2fc"), "a/b/c");
  EXPECT_EQ(salt("a+b%20c"), "a+b c");
  EXPECT_EQ(salt("%C3%A4%e6%97%a5"), "\xC3\xA4\xE6\x97\xA5");
  EXPECT_EQ(salt("a%0Ab%00c"), std::string("a\nb\0c", 5));
  EXPECT_EQ(salt("a%252Fb"), "a%2Fb");  // Decoded once.
  EXPECT_EQ(salt("100%"), "100%");      // No encoding.
  EXPECT_EQ(salt("%zz%4"), "%zz%4");
  EXPECT_EQ(salt("%u0041"), "%u0041");
  EXPECT_EQ(salt("a?limit_gb=1"), "a");
  EXPECT_EQ(salt("a#b"), "a");
  EXPECT_EQ(salt("a%3Fb%23"), "a?b#");
  EXPECT_EQ(salt("."), ".");
  EXPECT_EQ(salt("../x"), "../x");
  EXPECT_EQ(salt(std::string(kSaltBytesMax, 's')), std::string(kSaltBytesMax, 's'));
  EXPECT_EQ(salt(std::string(kSaltBytesMax + 1, 's')),
            "error: the salt has 1025 bytes; at most 1024 are possible");
  EXPECT_NE(salt("%FF").find("UTF-8"), std::string::npos);
  for (const char* none : {"", "?a"}) {
    EXPECT_NE(salt(none).find("names no salt"), std::string::npos) << none;
  }
}

}  // namespace
}  // namespace larder::server
