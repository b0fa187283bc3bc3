#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/larder/cli_test_support.h"

namespace larder::cli {
namespace {

class ServerCommandTest : public LarderTest {
 protected:
  /// What the server would start with.
  nlohmann::json checked(const std::string& arguments, const std::string& before = "") const {
    const Ended ended = run("server --check " + arguments, before);
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    auto json = nlohmann::json::parse(ended.output, nullptr, false);
    EXPECT_TRUE(json.is_object()) << ended.output;
    return json;
  }
};

TEST_F(ServerCommandTest, TheConfigurationIsPrintedAndNothingIsStarted) {
  const auto json = checked(
      "--l1-size-gb 2 --chunk-size=16 --shm-name golden --null-block-id -1 --no-http "
      "--l2-adapter 'redis://u:geheim@h:1/' --l2-adapter memory:");
  EXPECT_EQ(json["mp"]["chunk_size"], 16);
  EXPECT_EQ(json["mp"]["shm_name"], "golden");
  EXPECT_EQ(json["mp"]["null_block_id"], -1);
  EXPECT_TRUE(json["http"].is_null());
  const auto& adapters = json["storage_manager"]["l2_adapter_config"]["adapters"];
  ASSERT_EQ(adapters.size(), 2U);
  EXPECT_FALSE(has(adapters[0]["spec"], "geheim"));
  EXPECT_EQ(adapters[1]["spec"], "memory:");
}

TEST_F(ServerCommandTest, TheLastOfAnOptionCountsAndAnEmptyNameIsOne) {
  const auto json = checked("--l1-size-gb 2 --l1-size-gb 1 --shm-name ''");
  EXPECT_EQ(json["storage_manager"]["l1_manager_config"]["memory_config"]["size_in_bytes"],
            1 << 30);
  EXPECT_EQ(json["larder"]["pool"], "");
}

TEST_F(ServerCommandTest, OnAnyPortThePoolsNameIsDrawnAtTheStart) {
  const std::string memory = "--l1-size-gb 1 --port 0 ";
  EXPECT_EQ(checked(memory)["larder"]["pool"], "lmcache_l1_pool_larder_pid_PID");
  EXPECT_EQ(checked(memory + "--shm-name mine")["larder"]["pool"], "lmcache_l1_pool_mine");
  EXPECT_EQ(checked(memory + "--shm-name ''")["larder"]["pool"], "");
}

TEST_F(ServerCommandTest, SwitchesHaveTwoNames) {
  EXPECT_EQ(checked("--l1-size-gb 1 --separate-object-groups")["larder"]["object_groups"], "apart");
  EXPECT_EQ(checked("--l1-size-gb 1 --no-separate-object-groups")["larder"]["object_groups"],
            "together");
  EXPECT_EQ(checked("--l1-size-gb 1")["larder"]["object_groups"], "auto");
}

TEST_F(ServerCommandTest, FileEnvironmentAndCommandLineComeTogether) {
  const std::string path = directory_ + "/larder.toml";
  std::ofstream{path} << "l1_size_gb = 1\nport = 1001\nhttp_port = 1003\n";
  const auto json = checked("--port 1002 --config '" + path + "'", "LARDER_HTTP_PORT=1004 ");
  EXPECT_EQ(json["mp"]["port"], 1002);
  EXPECT_EQ(json["http"]["http_port"], 1004);
  EXPECT_EQ(json["larder"]["pool"], "lmcache_l1_pool_larder_1002");
}

TEST_F(ServerCommandTest, TheExampleOfAFileIsRead) {
  const auto json = checked("--config " LARDER_SOURCES "/examples/larder.toml");
  const auto& adapters = json["storage_manager"]["l2_adapter_config"]["adapters"];
  EXPECT_EQ(adapters.size(), 2U);
}

TEST_F(ServerCommandTest, ThePageOfOptionsIsWhatTheTableSays) {
  std::ifstream file{LARDER_SOURCES "/docs/server_options.md"};
  const std::string page{std::istreambuf_iterator<char>{file}, {}};
  EXPECT_EQ(page, run("server --markdown").output)
      << "larder server --markdown > docs/server_options.md";
}

TEST_F(ServerCommandTest, AFileThatWasNotNamedIsNotRead) {
  std::ofstream{directory_ + "/larder.toml"} << "l1_size_gb = 1\n";
  const Ended ended = run("server --check", "cd '" + directory_ + "' && ");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_TRUE(has(ended.errors, "--l1-size-gb is missing")) << ended.errors;
}

TEST_F(ServerCommandTest, WhatLmcachesServerTakesIsAccepted) {
  const Ended ended =
      run("server --check --l1-size-gb 1 --eviction-policy LRU --max-workers 4 --no-l1-use-lazy "
          "--l1-init-size-gb 1 --enable-gc-monitor --transport zmq --hash-algorithm blake3 "
          "--runtime-plugin-locations --script-allowed-imports numpy pandas -q");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_TRUE(has(ended.errors, "--max-workers: accepted, sets nothing.")) << ended.errors;
  EXPECT_FALSE(has(ended.errors, "--l1-use-lazy")) << ended.errors;
  EXPECT_FALSE(has(ended.errors, "--transport")) << ended.errors;
}

TEST_F(ServerCommandTest, WrongUsageExitsWith2AndSaysWhatToDo) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "--l1-size-gb is missing"},
      {"--l1-size-gb much", "--l1-size-gb: \"much\": expected GiB"},
      {"--l1-size-gb 1 --eviction-polcy LRU", "did you mean \"--eviction-policy\"?"},
      {"--l1-size-gb 1 --eviction-policy LUR", "did you mean 'LRU'?"},
      {"--l1-size-gb 1 --transport grpc", "--transport grpc: larder speaks ZeroMQ only"},
      {"--l1-size-gb 1 --run-script-api-enabled", "leave it out"},
      {"--l1-size-gb 1 --l2-adapter memory: --l2-adapter mmory:",
       "--l2-adapter (number 2): unknown connector type 'mmory'"},
      {"--l1-size-gb 1 --config /none", "--config /none: No such file"},
      {"--l1-size-gb 1 word", "word"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Ended ended = run(std::string{"server --check "} + arguments);
    EXPECT_EQ(ended.exit_code, 2) << arguments;
    EXPECT_TRUE(has(ended.errors, expected)) << arguments << "\n" << ended.errors;
    EXPECT_EQ(ended.output, "") << arguments;
  }
}

TEST_F(ServerCommandTest, TheHelpHasWhatIsHonouredAndTheShellsHaveNoMore) {
  const std::string help = run("server --help").output;
  for (const char* const part :
       {"--l1-size-gb GIB", "--l2-adapter SPEC", "Memory (L1):", "--kv-transfer-config"}) {
    EXPECT_TRUE(has(help, part)) << part;
  }
  EXPECT_FALSE(has(help, "--gds-l1-path"));
  EXPECT_FALSE(has(help, "--max-workers"));
  EXPECT_FALSE(has(run("completion bash").output, "--gds-l1-path"));
  EXPECT_FALSE(has(run("man").output, "gds"));
}

/// A server of its own, on free ports. It is killed if the test ends before it does.
class RunningServer {
 public:
  explicit RunningServer(const std::string& errors) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::dup2(ends[1], STDOUT_FILENO) < 0 ||
          std::freopen(errors.c_str(), "w", stderr) == nullptr) {
        ::_exit(99);
      }
      ::close(ends[0]);
      ::close(ends[1]);
      ::execl(LARDER_BINARY, "larder", "server", "--json", "--port", "0", "--http-port", "0",
              "--l1-size-gb", "8MiB", "--l2-adapter", "memory:", static_cast<char*>(nullptr));
      ::_exit(99);
    }
    ::close(ends[1]);
    output_ = ::fdopen(ends[0], "r");
  }
  ~RunningServer() {
    if (child_ > 0) ::kill(child_, SIGKILL);
    if (child_ > 0) ::waitpid(child_, nullptr, 0);
    std::fclose(output_);
  }
  RunningServer(const RunningServer&) = delete;
  RunningServer& operator=(const RunningServer&) = delete;

  /// The next line that it prints, as JSON; discarded at its end.
  nlohmann::json line() {
    std::array<char, 4096> text{};
    const char* const read = std::fgets(text.data(), text.size(), output_);
    return nlohmann::json::parse(read == nullptr ? "" : read, nullptr, false);
  }
  /// Its exit code after the signal.
  int end_with(int signal_number) {
    ::kill(child_, signal_number);
    int status = 0;
    EXPECT_EQ(::waitpid(child_, &status, 0), child_);
    child_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  ::pid_t child_ = 0;
  std::FILE* output_ = nullptr;
};

TEST_F(ServerCommandTest, ASignalIsHowItIsToldToEnd) {
  for (const int signal_number : {SIGTERM, SIGINT}) {
    RunningServer server{directory_ + "/said"};
    const nlohmann::json listening = server.line();
    ASSERT_TRUE(listening.is_object());
    EXPECT_EQ(listening["event"], "listening");
    EXPECT_GT(listening["port"], 0);
    EXPECT_GT(listening["http_port"], 0);
    EXPECT_EQ(listening["l2"], nlohmann::json::array({"memory:"}));
    const std::string pool = "/dev/shm/" + listening["pool"].get<std::string>();
    EXPECT_TRUE(std::filesystem::exists(pool)) << pool;
    EXPECT_EQ(server.end_with(signal_number), 0);
    EXPECT_EQ(server.line()["objects_lost"], 0);
    EXPECT_FALSE(std::filesystem::exists(pool)) << pool;
    std::ifstream said{directory_ + "/said"};
    const std::string text{std::istreambuf_iterator<char>{said}, {}};
    EXPECT_FALSE(has(text, "interrupted")) << text;
  }
}

}  // namespace
}  // namespace larder::cli
