#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/resp/resp_test_support.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::resp {

/// A Redis server with TLS, and certificates for it and for its clients, of the test's own.
class TlsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {  // NOLINT(readability-identifier-naming): GoogleTest's.
    const SetupStatus made = testing::make_certificates(certificates_.path());
    if (!made && made.error().code == ErrorCode::kUnimplemented) {
      GTEST_SKIP() << "SKIPPED (needs " << made.error().text << ")";
    }
    ASSERT_TRUE(made.has_value()) << made.error().text;
    testing::RedisServerOptions options;
    options.has_tls = true;
    options.certificates = certificates_.path();
    auto server = testing::RedisServer::create(options);
    if (!server && server.error().code == ErrorCode::kUnimplemented) {
      GTEST_SKIP() << "SKIPPED (needs " << server.error().text << ")";
    }
    ASSERT_TRUE(server.has_value()) << server.error().text;
    server_ = std::move(*server);
  }

  std::string file(const std::string& name) const { return certificates_.path() + "/" + name; }
  std::string client_parameters(const std::string& ca) const {
    return "tls_ca=" + file(ca) + "&tls_certificate=" + file("client.pem") +
           "&tls_key=" + file("client.key");
  }

  testing::TemporaryDirectory certificates_;
  std::unique_ptr<testing::RedisServer> server_;
};

}  // namespace larder::resp
