#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/larder/cli_test_support.h"

namespace larder::cli {
namespace {

constexpr const char* kMemory = " 'memory:?capacity=64MiB' ";
constexpr const char* kCorrupt =
    R"( '{"type":"fault","inner":{"type":"memory","capacity":"64MiB"},"corrupt_rate":1}' )";

TEST_F(LarderTest, AGoodReplayExitsWith0AndPrintsOnlyTheResult) {
  const Ended ended = run("replay " + trace_ + kMemory);
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_TRUE(has(ended.output, "50 requests")) << ended.output;
  EXPECT_EQ(ended.errors, "");
}

TEST_F(LarderTest, ATraceMayComeFromStandardInput) {
  const Ended ended =
      run("replay - " + std::string{kMemory} + "--json --requests 9", "cat " + trace_ + " | ");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["requests"], 9);
}

TEST_F(LarderTest, WrongBytesExitWith1) {
  const Ended ended = run("replay " + trace_ + kCorrupt);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.errors, "larder: WRONG BYTES: key ")) << ended.errors;
  EXPECT_EQ(run("bench" + std::string{kCorrupt} + "--size 64KiB --bytes 1MiB --pairs 1").exit_code,
            1);
}

TEST_F(LarderTest, ABenchOverMemoryExitsWith0) {
  const Ended ended =
      run("bench" + std::string{kMemory} + "--size 64KiB,128KiB --bytes 4MiB --pairs 2 --json");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["series"].size(), 2U);
}

TEST_F(LarderTest, WrongUsageExitsWith2AndSaysWhatIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"replai x y", "did you mean \"replay\"?"},
      {"replay", "TRACE is required"},
      {"replay " + trace_ + kMemory + "--block-bytes 64QiB", "64QiB"},
      {"replay " + trace_ + kMemory + "--block-bytes 0", "0 bytes"},
      {"replay " + trace_ + kMemory + "--speed fast", "expected max, trace"},
      {"replay " + trace_ + kMemory + "--no-model --model-lru", "excludes"},
      {"replay " + trace_ + kMemory + "--concurrency 0", "--concurrency"},
      {"replay " + directory_ + "/none" + kMemory, "No such file"},
      {"replay " + trace_ + " 'memroy:?capacity=1GiB'", "memory"},
      {"replay " + trace_ + " 'memory:?capacty=1GiB'", "capacity"},
      {"bench" + std::string{kMemory} + "--mode loads", "expected load, store"},
      {"bench" + std::string{kMemory} + "--size 1MiB,x", "x"},
      {"bench" + std::string{kMemory} + "--nonsense", "--nonsense"},
      {"connectors memry", "did you mean \"memory\"?"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 2) << arguments;
    EXPECT_TRUE(ended.errors.starts_with("larder: ")) << arguments << "\n" << ended.errors;
    EXPECT_TRUE(has(ended.errors, expected)) << arguments << "\n" << ended.errors;
    EXPECT_EQ(ended.output, "") << arguments;
  }
}

TEST_F(LarderTest, NoCommandShowsTheHelpAndExitsWith2) {
  const Ended ended = run("");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_TRUE(has(ended.errors, "replay")) << ended.errors;
}

TEST_F(LarderTest, HelpHasExamplesAndVersionHasTheCommit) {
  for (const char* const command :
       {"replay", "bench", "inspect", "doctor", "format", "connectors"}) {
    const Ended ended = run(std::string{command} + " --help");
    EXPECT_EQ(ended.exit_code, 0);
    EXPECT_TRUE(has(ended.output, std::string{"  larder "} + command)) << ended.output;
  }
  const Ended version = run("--version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(version.output.starts_with("larder 0.") && has(version.output, " ("))
      << version.output;
}

TEST_F(LarderTest, ConnectorsAreListedInThreeForms) {
  EXPECT_TRUE(has(run("connectors").output, "memory"));
  EXPECT_TRUE(has(run("connectors memory").output, "capacity"));
  EXPECT_TRUE(has(run("connectors --markdown").output, "|"));
  EXPECT_TRUE(nlohmann::json::parse(run("connectors --json").output, nullptr, false).is_array());
}

TEST_F(LarderTest, AnInterruptEndsWithWhatWasMeasured) {
  // At the speed of this trace, one request a day: only the signal can end it. The subshell keeps
  // the program's own exit code; the signal is sent once the first request's time has come and
  // gone.
  std::ofstream{trace_}
      << R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]})"
      << "\n"
      << R"({"timestamp":86400000,"input_length":1,"output_length":1,"hash_ids":[2]})"
      << "\n";
  const Ended ended = run("replay " + trace_ + kMemory + "--speed trace --json",
                          "timeout --preserve-status --signal=INT 1 ");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["requests"], 1);
  EXPECT_EQ(json["interrupted_by"], "a signal");
}

TEST_F(LarderTest, AnInterruptedBenchEndsWithWholePairs) {
  // timeout sends the signal to the program and to its group: two deliveries of one request.
  const Ended ended =
      run("bench" + std::string{kMemory} +
              "--size 64KiB --bytes 32MiB --pairs 1000 --in-flight 1 --json --quiet",
          "timeout --preserve-status --signal=INT 0.5 ");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["interrupted_by"], "a signal");
  EXPECT_LT(json["series"][0]["pairs"].size(), 1000U);
}

TEST_F(LarderTest, AResultThatCannotBeWrittenIsAnError) {
  EXPECT_EQ(run("connectors >/dev/full").exit_code, 1);
}

}  // namespace
}  // namespace larder::cli
