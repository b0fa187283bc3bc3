#include "tests/resp/tls_server_test.h"

namespace larder::resp {
namespace {

/// What connects to it.
class RespTlsTest : public TlsServerTest {
 protected:
  std::string spec(const std::string& host, const std::string& parameters) const {
    return "rediss://" + host + ":" + std::to_string(server_->tls_port()) +
           "?connections=2&reconnect_max=50ms" + (parameters.empty() ? "" : "&" + parameters);
  }
  void expect_down(const std::string& text, const std::string& reason) const {
    const Opened connector{text};
    BlockingClient client{*connector};
    EXPECT_TRUE(is_missed_as_down(client, "key", 10)) << text;
    EXPECT_TRUE(eventually_has_health(*connector, Health::kDown)) << text;
    EXPECT_NE(text_of_report(*connector).find(reason), std::string::npos)
        << text_of_report(*connector);
  }
};

TEST_F(RespTlsTest, ValuesOfEverySizeGoBothWays) {
  for (const char* host : {"localhost", "127.0.0.1"}) {
    const Opened connector{spec(host, client_parameters("ca.pem"))};
    BlockingClient client{*connector};
    for (const std::size_t bytes : {0U, 1U, 16'383U, 16'384U, 16'385U, 5'000'000U}) {
      const std::string key = "key" + std::to_string(bytes);
      EXPECT_EQ(set_code(client, key, bytes), ErrorCode::kNone) << bytes;
      EXPECT_TRUE(is_hit(client, key, bytes)) << bytes;
    }
    EXPECT_EQ(property_of(*connector, "transport"), "tls");
  }
}

TEST_F(RespTlsTest, AServerThatCannotBeVerifiedIsNotUsed) {
  expect_down(spec("localhost", client_parameters("other_ca.pem")), "certificate");
  expect_down(spec("localhost", client_parameters("ca.pem") + "&tls_server_name=elsewhere.example"),
              "hostname mismatch");
  expect_down(spec("localhost", ""), "certificate");
}

TEST_F(RespTlsTest, AClientWithoutACertificateIsRefusedWithAReason) {
  // The server asks for one; with TLS 1.3 its refusal comes after the handshake.
  const Opened connector{spec("localhost", "tls_ca=" + file("ca.pem"))};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_missed_as_down(client, "key", 10));
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
}

TEST_F(RespTlsTest, PlainAndTlsDoNotMeet) {
  expect_down(
      "rediss://127.0.0.1:" + std::to_string(server_->port()) + "?" + client_parameters("ca.pem"),
      "TLS");
  const Opened connector{redis_spec(server_->tls_port(), "connect_timeout=2s")};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_missed_as_down(client, "key", 10));
}

TEST_F(RespTlsTest, AStoppedServerAndKilledConnectionsAreLikeWithoutTls) {
  const Opened connector{
      spec("localhost", client_parameters("ca.pem") + "&miss_after_failure=1ms")};
  BlockingClient client{*connector};
  BlockingClient hasty{*connector, 200 * kMillisecondNs};
  ASSERT_EQ(set_code(client, "key", 300'000), ErrorCode::kNone);
  server_->pause();
  EXPECT_EQ(get_code(hasty, "key", 300'000), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(set_code(hasty, "large", 40'000'000), ErrorCode::kDeadlineExceeded);
  server_->resume();
  EXPECT_TRUE(eventually([&] { return is_hit(client, "key", 300'000); }));
  server_->command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  EXPECT_TRUE(is_hit(client, "key", 300'000));
}

TEST_F(RespTlsTest, FilesThatCannotBeUsedAreNamed) {
  for (const auto& [parameters, name] :
       {std::pair{"tls_ca=/does/not/exist", "tls_ca=/does/not/exist"},
        std::pair{"tls_certificate=/no/such.pem&tls_key=/no/such.key", "tls_certificate=/no/such"},
        std::pair{"tls_certificate=/no/such.pem", "tls_key"}}) {
    const auto opened = try_spec(spec("localhost", parameters));
    ASSERT_FALSE(opened.has_value());
    EXPECT_NE(opened.error().text.find(name), std::string::npos) << opened.error().text;
  }
}

}  // namespace
}  // namespace larder::resp
