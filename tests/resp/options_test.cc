#include "larder/connectors/resp/options.h"

#include <cstdlib>
#include <fstream>

#include "larder/connectors/resp/resp_connector.h"
#include "tests/resp/resp_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::resp {
namespace {

/// Sets a variable until the end of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

SetupResult<RespOptions> read(std::string_view text) {
  LARDER_ASSIGN(Spec spec, Spec::parse(text));
  LARDER_TRY(spec.rename_location("address"));
  LARDER_ASSIGN(const Parameters parameters,
                Parameters::parse(spec, connector_types().front().parameters));
  return options_of(parameters, spec.type());
}

RespOptions must_read(std::string_view text) {
  auto options = read(text);
  EXPECT_TRUE(options.has_value()) << text << ": " << options.error().text;
  return options ? *options : RespOptions{};
}

std::string error_of(std::string_view text) {
  const auto options = read(text);
  EXPECT_FALSE(options.has_value()) << text;
  return options ? "" : options.error().text;
}

TEST(RespOptionsTest, EverySpellingNamesItsServer) {
  for (const auto& [text, where] : std::vector<std::pair<std::string, std::string>>{
           {"redis://host:1234", "host:1234"},
           {"redis://host", "host:6379"},
           {"redis://127.0.0.1:1/3", "127.0.0.1:1"},
           {"redis://[::1]:7000", "[::1]:7000"},
           {"redis://[fe80::1]", "[fe80::1]:6379"},
           {"resp:host:1234", "host:1234"},
           {"resp://host:1234", "host:1234"},
           {"resp:host", "host:6379"},
           {"resp:", "127.0.0.1:6379"},
           {"rediss://host", "host:6379"},
           {"valkey://host:1234/2", "host:1234"},
           {"valkeys://host", "host:6379"},
           {R"({"type":"resp","host":"fe80::1"})", "[fe80::1]:6379"},
           {"unix:/run/a/socket", "/run/a/socket"},
           {"unix:///run/a/socket", "/run/a/socket"},
           {"resp:?path=/run/a/socket", "/run/a/socket"},
           {"resp:/run/a/socket", "/run/a/socket"},
           {R"({"type":"resp","host":"h","port":6380})", "h:6380"},
       }) {
    EXPECT_EQ(must_read(text).endpoint.to_string(), where) << text;
  }
}

TEST(RespOptionsTest, ItReadsWhatLMCacheWrites) {
  const RespOptions options = must_read(
      R"({"type":"resp","host":"cache","port":6380,"num_workers":3,"username":"u","password":"p w",)"
      R"("max_capacity_gb":1.5})");
  EXPECT_EQ(options.endpoint.to_string(), "cache:6380");
  EXPECT_EQ(options.connections, 3U);
  EXPECT_EQ(options.username, "u");
  EXPECT_EQ(options.password, "p w");
  EXPECT_EQ(options.capacity_bytes, std::uint64_t{3} << 29);
}

TEST(RespOptionsTest, TheAddressMayHaveUserPasswordAndDatabase) {
  const RespOptions options = must_read("redis://me:a%2540b@host:1/15");
  EXPECT_EQ(options.username, "me");
  EXPECT_EQ(options.password, "a@b");
  EXPECT_EQ(options.database, 15U);
  EXPECT_EQ(must_read("redis://:only@host").password, "only");
  EXPECT_EQ(must_read("redis://:only@host").username, "");
}

TEST(RespOptionsTest, TheEnvironmentFillsInWhatTheSpecLeavesOut) {
  const Variable host{"LMCACHE_RESP_HOST", "theirs"};
  const Variable port{"LMCACHE_RESP_PORT", "1111"};
  const Variable user{"LMCACHE_RESP_USERNAME", "their-user"};
  const Variable password{"LMCACHE_RESP_PASSWORD", "their-password"};
  EXPECT_EQ(must_read("resp:").endpoint.to_string(), "theirs:1111");
  EXPECT_EQ(must_read("resp:").password, "their-password");
  EXPECT_EQ(must_read("resp:mine:2").endpoint.to_string(), "mine:2");
  EXPECT_EQ(must_read(R"({"type":"resp","username":"u","password":"p"})").password, "p");
  {
    const Variable own_host{"LARDER_RESP_HOST", "ours"};
    const Variable own_password{"LARDER_RESP_PASSWORD", "our-password"};
    EXPECT_EQ(must_read("resp:").endpoint.to_string(), "ours:1111");
    EXPECT_EQ(must_read("resp:").password, "our-password");
    EXPECT_EQ(must_read("resp:").username, "their-user");
  }
  const Variable bad_port{"LARDER_RESP_PORT", "none"};
  EXPECT_NE(error_of("resp:").find("port"), std::string::npos);
}

TEST(RespOptionsTest, AWrongHostOrPortIsNamedByWhereItStands) {
  const auto expect = [](std::string_view spec, std::string_view part) {
    const std::string text = error_of(spec);
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect(R"({"type":"resp","host":"a:1"})",
         "host=a:1 has a port in it: give the host as a, and the port as port=1");
  expect(R"({"type":"resp","host":"redis://a"})", "host=redis://a is not a host");
  expect(R"({"type":"resp","host":"redis://:secret@a"})", "host=a is not a host");
  {
    const Variable host{"LARDER_RESP_HOST", "a:1"};
    expect("resp:", "LARDER_RESP_HOST=a:1 has a port in it");
  }
  {
    const Variable port{"LMCACHE_RESP_PORT", "tcp:1"};
    expect("resp:", "LMCACHE_RESP_PORT=tcp:1 in the environment is not a port");
  }
  const Variable port{"LARDER_RESP_PORT", "tcp://10.0.0.1:6379"};
  expect("resp:", "LARDER_RESP_PORT=tcp://10.0.0.1:6379 in the environment is not a port");
  expect("resp:", "Kubernetes sets it");
  EXPECT_EQ(must_read("resp:host:2").endpoint.to_string(), "host:2");
}

TEST(RespOptionsTest, TlsIsAskedForByTheTypeToo) {
  EXPECT_TRUE(must_read("rediss://host").tls.has_value());
  EXPECT_TRUE(must_read("valkeys://host").tls.has_value());
  EXPECT_FALSE(must_read("valkey://host").tls.has_value());
}

TEST(RespOptionsTest, APasswordMayStandInAFile) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/password";
  std::ofstream{path} << "from the file\n";
  EXPECT_EQ(must_read("resp:host?password_file=" + path).password, "from the file");
  const Variable variable{"LARDER_RESP_PASSWORD_FILE", path.c_str()};
  EXPECT_EQ(must_read("resp:host").password, "from the file");
  EXPECT_EQ(must_read("resp:host?password=direct").password, "direct");
  EXPECT_NE(error_of("resp:host?password_file=/does/not/exist").find("/does/not/exist"),
            std::string::npos);
  const std::string not_a_file = error_of("resp:host?password_file=" + directory.path());
  EXPECT_NE(not_a_file.find("password_file=" + directory.path() + " is a directory"),
            std::string::npos)
      << not_a_file;
  std::ofstream{path + ".empty"} << "\n";
  EXPECT_NE(error_of("resp:host?password_file=" + path + ".empty").find("holds an empty line"),
            std::string::npos);
  EXPECT_NE(error_of("resp:host?password=secret&password_file=" + path).find("leave one out"),
            std::string::npos);
}

TEST(RespOptionsTest, WhatCannotBeIsAnErrorThatSaysWhatToDo) {
  for (const std::string_view text : {"redis://host:0",
                                      "redis://host:65536",
                                      "redis://host:x",
                                      "redis://::1",
                                      "redis://[::1",
                                      "redis://[::1]x",
                                      "redis://host/x",
                                      "redis://host/-1",
                                      "unix:",
                                      "unix:relative",
                                      "redis://host?host=other",
                                      "redis://host:1?port=2",
                                      "redis://host/1?database=2",
                                      "resp:host?path=/socket",
                                      "resp:host?tls_ca=/a",
                                      "rediss:/socket",
                                      "redis://user@host",
                                      "resp:host?max_capacity_gb=-1",
                                      "resp:host?max_capacity_gb=lots",
                                      "resp:?host=",
                                      "resp:host?connections=0"}) {
    EXPECT_FALSE(error_of(text).empty()) << text;
  }
  EXPECT_FALSE(error_of("unix:/" + std::string(108, 'x')).empty());
}

TEST(RespOptionsTest, NoErrorShowsASecret) {
  for (const std::string_view text :
       {"redis://me:TOPSECRET@host:x", "redis://me:TOPSECRET@host/x", "redis://:TOPSECRET@[::1",
        "redis://me:TOPSECRET@host:1?port=2", "resp:host?password=TOPSECRET&password_file=/x",
        "resp:host?password=TOPSECRET&max_capacity_gb=x", "resp:me:TOPSECRET@host?connections=0",
        "redis://me:TOPSECRET@host?unknown=1"}) {
    EXPECT_EQ(error_of(text).find("TOPSECRET"), std::string::npos) << error_of(text);
  }
}

}  // namespace
}  // namespace larder::resp
