#include "larder/server/http_guard.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

bool is_host(std::string_view host) {
  return is_own_host(host, "larder.example", "node-7");
}
bool is_origin(std::string_view origin) {
  return is_own_origin(origin, "larder.example", "node-7");
}

TEST(HttpGuardTest, AcceptsAddressesAndItsOwnNames) {
  for (const std::string_view host :
       {"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "10.1.2.3:8080", "[::1]",
        "[::1]:8080", "larder.example", "larder.example:80", "node-7:8080"}) {
    EXPECT_TRUE(is_host(host)) << host;
  }
}

TEST(HttpGuardTest, RefusesForeignNames) {
  for (const std::string_view host :
       {"", ":", ":8080", "evil.example", "evil.example:8080", "localhost.evil.example",
        "127.0.0.1.evil.example", "larder.example.evil", "[evil.example]", "[::1", "::1",
        "localhost:8080:1", "localhost:port", "localhost:", "127.0.0.1@evil.example"}) {
    EXPECT_FALSE(is_host(host)) << host;
  }
}

TEST(HttpGuardTest, AcceptsItsOwnOriginOnly) {
  EXPECT_TRUE(is_origin("http://127.0.0.1:8080"));
  EXPECT_TRUE(is_origin("http://localhost:8080"));
  EXPECT_TRUE(is_origin("http://larder.example"));
  for (const std::string_view origin : {"null", "", "http://", "http://evil.example",
                                        "https://127.0.0.1:8080", "file://", "127.0.0.1:8080"}) {
    EXPECT_FALSE(is_origin(origin)) << origin;
  }
}

}  // namespace
}  // namespace larder::server
