#include "larder/base/service_manager.h"

#include <gtest/gtest.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "tests/support/notify_socket.h"
#include "tests/support/temporary_directory.h"

namespace larder {
namespace {

using testing::NotifySocket;
using testing::TemporaryDirectory;

constexpr std::size_t kNameBytesMax = sizeof(::sockaddr_un::sun_path) - 1;

/// Padded to `bytes`.
std::string name_of(const std::string& begin, std::size_t bytes) {
  return begin + std::string(bytes - begin.size(), 'x');
}

std::string error_at(const std::string& name) {
  ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  const auto told = notify_service_manager("READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  return told ? "none" : told.error().text;
}

TEST(ServiceManagerTest, EachStateIsOneMessage) {
  const TemporaryDirectory directory;
  const NotifySocket manager{directory.path() + "/notify"};
  ASSERT_TRUE(notify_service_manager("READY=1\nSTATUS=listening"));
  ASSERT_TRUE(notify_service_manager("STOPPING=1"));
  EXPECT_EQ(manager.heard(), "READY=1\nSTATUS=listening");
  EXPECT_EQ(manager.heard(), "STOPPING=1");
  EXPECT_EQ(manager.heard(), "nothing");
}

TEST(ServiceManagerTest, TheNameMayBeAbstractAndAsLongAsOneCanBe) {
  const std::string name = "@larder-" + std::to_string(::getpid());
  for (const std::string& each : {name, name_of(name, kNameBytesMax)}) {
    const NotifySocket manager{each};
    ASSERT_TRUE(notify_service_manager("READY=1")) << each;
    EXPECT_EQ(manager.heard(), "READY=1");
  }
}

TEST(ServiceManagerTest, WithoutAManagerNothingHappens) {
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify_service_manager("READY=1"));
  EXPECT_EQ(error_at(""), "none");
}

TEST(ServiceManagerTest, AManagerThatCannotBeToldIsNamed) {
  const std::string before = "the service manager at NOTIFY_SOCKET=";
  const std::string middle = " cannot be told how the process is: ";
  for (const std::string name : {"vsock:2:1", "/", "@", "notify"}) {
    EXPECT_EQ(error_at(name), before + name + middle + "it is neither a path nor @ and a name");
  }
  const std::string too_long = name_of("/", kNameBytesMax + 1);
  EXPECT_EQ(error_at(too_long), before + too_long + middle + "the name is too long");
  EXPECT_EQ(error_at("/nonexistent/notify"),
            before + "/nonexistent/notify" + middle + "No such file or directory");
}

}  // namespace
}  // namespace larder
