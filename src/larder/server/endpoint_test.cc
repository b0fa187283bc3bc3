#include "larder/server/endpoint.h"

#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

using larder::testing::TemporaryDirectory;

std::string url_of(std::string_view host, std::uint16_t port) {
  const auto endpoint = resolve_endpoint(host, port, "--host");
  return endpoint ? endpoint->to_url() : endpoint.error().text;
}

TEST(EndpointTest, TakesAddressesAndNames) {
  EXPECT_EQ(url_of("127.0.0.1", 5555), "tcp://127.0.0.1:5555");
  EXPECT_EQ(url_of("localhost", 5555), "tcp://127.0.0.1:5555");
  EXPECT_EQ(url_of("*", 5555), "tcp://0.0.0.0:5555");
  EXPECT_EQ(url_of("0.0.0.0", 0), "tcp://0.0.0.0:*");
  EXPECT_EQ(url_of("::1", 5555), "tcp://[::1]:5555");
  EXPECT_EQ(url_of("[::1]", 5555), "tcp://[::1]:5555");
  EXPECT_EQ(url_of("::", 1), "tcp://[::]:1");
}

TEST(EndpointTest, NamesAHostThatItDoesNotKnow) {
  for (const std::string_view host : {"", "no such host", "host\n.invalid"}) {
    const auto endpoint = resolve_endpoint(host, 5555, "--host");
    ASSERT_FALSE(endpoint) << host;
    // If no name server answers, the name may be known another time.
    const bool is_for_now =
        endpoint.error().text.find(::gai_strerror(EAI_AGAIN)) != std::string::npos;
    EXPECT_EQ(endpoint.error().code,
              is_for_now ? ErrorCode::kUnavailable : ErrorCode::kInvalidArgument);
    EXPECT_TRUE(endpoint.error().text.starts_with("--host '")) << endpoint.error().text;
    EXPECT_EQ(endpoint.error().text.find('\n'), std::string::npos);
  }
}

bool can_connect(const std::string& path) {
  const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  return ::connect(fd.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) == 0;
}

TEST(UnixListenerTest, ListensAndRemovesItsName) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  {
    const auto listener = UnixListener::open(path);
    ASSERT_TRUE(listener) << listener.error().text;
    EXPECT_TRUE(can_connect(path));
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(UnixListenerTest, RefusesANameThatIsInUse) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  const auto first = UnixListener::open(path);
  ASSERT_TRUE(first);
  const auto second = UnixListener::open(path);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find("in use by another server"), std::string::npos);
  EXPECT_TRUE(can_connect(path));
}

TEST(UnixListenerTest, ReplacesWhatADeadServerLeft) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  {
    const UniqueFd left{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ::sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address), 0);
  }
  ASSERT_EQ(::access(path.c_str(), F_OK), 0);
  const auto listener = UnixListener::open(path);
  ASSERT_TRUE(listener) << listener.error().text;
  EXPECT_TRUE(can_connect(path));
}

TEST(UnixListenerTest, TouchesNoFileThatIsNoSocket) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  std::ofstream{path} << "precious";
  const auto listener = UnixListener::open(path);
  ASSERT_FALSE(listener);
  EXPECT_NE(listener.error().text.find("is no socket"), std::string::npos);
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
}

TEST(UnixListenerTest, LeavesANameThatIsAnothersByNow) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  auto first = UnixListener::open(path);
  ASSERT_TRUE(first);
  const UniqueFd closed{first->release_fd()};
  ASSERT_EQ(::unlink(path.c_str()), 0);
  const auto second = UnixListener::open(path);
  ASSERT_TRUE(second);
  {
    const UnixListener gone = *std::move(first);
  }
  EXPECT_TRUE(can_connect(path));
}

TEST(UnixListenerTest, RefusesAPathThatDoesNotFit) {
  for (const std::string& path : {std::string{}, "/" + std::string(108, 'p')}) {
    const auto listener = UnixListener::open(path);
    ASSERT_FALSE(listener);
    EXPECT_NE(listener.error().text.find("1 to 107"), std::string::npos);
  }
}

}  // namespace
}  // namespace larder::server
