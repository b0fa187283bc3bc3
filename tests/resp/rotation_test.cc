// Passwords and certificates that are replaced while a store runs.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/resp/tls_server_test.h"

namespace larder::resp {
namespace {

void drop_connections(testing::RedisServer& server) {
  server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
}

/// Replaced as Kubernetes does it: another file under the same name.
void write(const std::string& path, const std::string& text) {
  std::ofstream{path + ".new"} << text;
  std::filesystem::rename(path + ".new", path);
}

class RespRotationTest : public ::testing::Test {
 protected:
  void SetUp() override {  // NOLINT(readability-identifier-naming): GoogleTest's.
    testing::RedisServerOptions options;
    options.password = "first";
    auto server = testing::RedisServer::create(options);
    if (!server && server.error().code == ErrorCode::kUnimplemented) {
      GTEST_SKIP() << "SKIPPED (needs " << server.error().text << ")";
    }
    ASSERT_TRUE(server.has_value()) << server.error().text;
    server_ = std::move(*server);
    write(path(), "first\n");
  }

  std::string path() const { return directory_.path() + "/password"; }
  std::string spec() const {
    return redis_spec(server_->port(), "connections=2&password_file=" + path());
  }
  /// On new connections, again and again: what was read holds for half a second.
  bool serves_and_says(const Connector& connector, BlockingClient& client,
                       const std::string& text) const {
    return eventually([&] {
      drop_connections(*server_);
      return works_again(client) && text_of_report(connector).find(text) != std::string::npos;
    });
  }
  static bool works_again(BlockingClient& client) {
    return eventually([&] { return set_code(client, "key", 10) == ErrorCode::kNone; });
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<testing::RedisServer> server_;
};

TEST_F(RespRotationTest, ANewPasswordIsUsedByNewConnections) {
  const Opened connector{spec()};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  server_->command({"CONFIG", "SET", "requirepass", "second"});
  write(path(), "second\n");
  drop_connections(*server_);
  EXPECT_TRUE(works_again(client)) << text_of_report(*connector);
  EXPECT_EQ(text_of_report(*connector).find("second"), std::string::npos);
}

TEST_F(RespRotationTest, AFileThatComesLateIsFoundByItself) {
  const Opened connector{spec()};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  server_->command({"CONFIG", "SET", "requirepass", "second"});
  drop_connections(*server_);
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
  EXPECT_NE(text_of_report(*connector).find("WRONGPASS"), std::string::npos);
  write(path(), "second\n");
  EXPECT_TRUE(works_again(client));
}

TEST_F(RespRotationTest, AFileThatCannotBeReadForAMomentBreaksNothingAndShows) {
  for (const bool is_removed : {true, false}) {
    const Opened connector{spec()};
    BlockingClient client{*connector};
    ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
    if (is_removed) {
      std::filesystem::remove(path());
    } else {
      write(path(), "");
    }
    EXPECT_TRUE(serves_and_says(*connector, client, "password_file=" + path()))
        << text_of_report(*connector);
    EXPECT_NE(connector->report().health, Health::kHealthy);
    write(path(), "first\n");
    EXPECT_TRUE(eventually([&] {
      drop_connections(*server_);
      return works_again(client) &&
             text_of_report(*connector).find("password_file=") == std::string::npos;
    }));
  }
}

TEST_F(RespRotationTest, AFileThatIsBackIsNoTroubleAnyMoreThoughNoConnectionIsNew) {
  const Opened connector{spec()};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  std::filesystem::remove(path());
  EXPECT_TRUE(serves_and_says(*connector, client, "password_file=" + path()));
  ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 3; }));
  const std::uint64_t lost = counter_of(*connector, "connections_lost_total");
  write(path(), "first\n");
  EXPECT_TRUE(eventually(
      [&] { return text_of_report(*connector).find("password_file=") == std::string::npos; }));
  EXPECT_EQ(counter_of(*connector, "connections_lost_total"), lost);
}

TEST_F(RespRotationTest, APipeIsReadOnce) {
  std::filesystem::remove(path());
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  std::jthread writer{[&] { std::ofstream{path()} << "first\n"; }};
  const Opened connector{spec()};
  writer.join();
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  drop_connections(*server_);
  EXPECT_TRUE(works_again(client));
  EXPECT_EQ(text_of_report(*connector).find("password_file"), std::string::npos);
}

TEST_F(RespRotationTest, AFileThatHangsIsWaitedForAMomentOnly) {
  const Opened connector{spec()};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  std::filesystem::remove(path());
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_TRUE(serves_and_says(*connector, client, "takes long")) << text_of_report(*connector);
  // The thread that waits for the pipe ends with this.
  std::ofstream{path()} << "first\n";
}

class RespCertificateTest : public TlsServerTest {
 protected:
  std::string spec() const {
    return "rediss://localhost:" + std::to_string(server_->tls_port()) +
           "?connections=2&reconnect_max=50ms&" + client_parameters("ca.pem");
  }
};

TEST_F(RespCertificateTest, NewCertificatesAreUsedByNewConnections) {
  const Opened connector{spec()};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  // Another authority, and certificates of its own for both sides.
  ASSERT_TRUE(testing::make_certificates(certificates_.path()).has_value());
  server_->kill();
  ASSERT_TRUE(server_->start().has_value());
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 10) == ErrorCode::kNone; }))
      << text_of_report(*connector);
}

TEST_F(RespCertificateTest, FilesThatCannotBeUsedForAMomentBreakNothingAndShow) {
  for (const std::string name : {"ca.pem", "client.pem", "client.key"}) {
    const Opened connector{spec()};
    BlockingClient client{*connector};
    ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
    std::filesystem::copy_file(file(name), file("kept"));
    write(file(name), "half of a fi");
    EXPECT_TRUE(eventually([&] {
      drop_connections(*server_);
      EXPECT_TRUE(eventually([&] { return set_code(client, "key", 10) == ErrorCode::kNone; }));
      return text_of_report(*connector).find(file(name)) != std::string::npos;
    })) << text_of_report(*connector);
    std::filesystem::rename(file("kept"), file(name));
  }
}

}  // namespace
}  // namespace larder::resp
