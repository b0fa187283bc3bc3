#include "larder/server/admin_access.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace larder::server {
namespace {

const TcpEndpoint kLoopback{"127.0.0.1", 8080};
const std::string kToken = "0123456789abcdef";

class AdminAccessTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  SetupResult<AdminAccess> open_with(const std::string& content) {
    std::ofstream{path_} << content;
    ServerOptions options;
    options.admin_token_file = path_;
    return AdminAccess::open(options, {"0.0.0.0", 8080});
  }

  const std::string path_ =
      std::filesystem::temp_directory_path() / ("larder_token_" + std::to_string(::getpid()));
};

TEST_F(AdminAccessTest, WithoutEitherOptionNoClientMayChangeAnything) {
  const auto access = AdminAccess::open({}, kLoopback);
  ASSERT_TRUE(access);
  for (const char* given : {"", "Bearer ", "Bearer", "Bearer 0123456789abcdef", "Basic x"}) {
    EXPECT_FALSE(access->allows(given)) << given;
  }
}

TEST_F(AdminAccessTest, TheTokenIsTheWholeLineOfTheFile) {
  const auto access = open_with(kToken + "\r\n");
  ASSERT_TRUE(access) << access.error().text;
  EXPECT_TRUE(access->allows("Bearer " + kToken));
  EXPECT_TRUE(access->allows("bearer " + kToken));
  for (const std::string& given :
       {std::string{}, std::string{"Bearer "}, kToken, "Bearer " + kToken + "0",
        "Bearer " + kToken.substr(1), std::string{"Bearer 0123456789abcdeF"}, "Basic  " + kToken}) {
    EXPECT_FALSE(access->allows(given)) << given;
  }
}

TEST_F(AdminAccessTest, AFileWithoutAUsableTokenIsAnErrorThatNamesOptionFileAndRemedy) {
  for (const std::string& content :
       {std::string{}, std::string{"\n"}, std::string{"short"}, kToken + " " + kToken,
        kToken + "\n" + kToken, kToken + "\xC3\xA4", std::string(5000, 'a')}) {
    const auto access = open_with(content);
    ASSERT_FALSE(access) << content;
    EXPECT_NE(access.error().text.find("--admin-token-file " + path_), std::string::npos);
    EXPECT_NE(access.error().text.find("openssl rand"), std::string::npos);
  }
  ServerOptions options;
  options.admin_token_file = path_ + "_absent";
  const auto absent = AdminAccess::open(options, kLoopback);
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().text.find("No such file"), std::string::npos) << absent.error().text;
  options.admin_token_file = std::filesystem::temp_directory_path();
  EXPECT_FALSE(AdminAccess::open(options, kLoopback));
}

TEST_F(AdminAccessTest, OpenIsForLoopbackAlone) {
  ServerOptions options;
  options.is_admin_open = true;
  for (const char* address : {"127.0.0.1", "127.0.0.2", "::1"}) {
    const auto access = AdminAccess::open(options, {address, 8080});
    ASSERT_TRUE(access) << access.error().text;
    EXPECT_TRUE(access->allows(""));
  }
  for (const char* address : {"0.0.0.0", "::", "192.168.1.1", "::ffff:127.0.0.1"}) {
    const auto access = AdminAccess::open(options, {address, 8080});
    ASSERT_FALSE(access) << address;
    EXPECT_NE(access.error().text.find("--admin-token-file"), std::string::npos);
  }
}

TEST_F(AdminAccessTest, HasANameForStatus) {
  ServerOptions options;
  EXPECT_EQ(admin_access_name(options), "read_only");
  options.admin_token_file = "/run/token";
  EXPECT_EQ(admin_access_name(options), "token");
  options = {};
  options.is_admin_open = true;
  EXPECT_EQ(admin_access_name(options), "open");
}

}  // namespace
}  // namespace larder::server
