#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <utility>

#include "apps/larder/cli_test_support.h"
#include "larder/base/version.h"

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

TEST_F(LarderTest, SizesAreATableJsonAndAChart) {
  // 50 requests of two blocks: 8 distinct ones, the first of each prompt always the same.
  const Ended table = run("size " + trace_);
  EXPECT_EQ(table.exit_code, 0) << table.errors;
  EXPECT_EQ(table.errors, "");
  EXPECT_TRUE(has(table.output, "50 requests, 100 blocks of 64KiB, 8 of them distinct (512 KiB)"))
      << table.output;
  const std::string svg = directory_ + "/sizes.svg";
  const Ended both = run("size --capacities 64KiB,1GiB --policies ARC - --json --svg '" + svg + "'",
                         "cat " + trace_ + " | ");
  EXPECT_EQ(both.exit_code, 0) << both.errors;
  const auto json = nlohmann::json::parse(both.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << both.output;
  EXPECT_EQ(json["ok"], true);
  ASSERT_EQ(json["sizes"].size(), 2U);
  EXPECT_EQ(json["sizes"][0]["policies"]["optimum"]["hit_blocks"], 49);
  EXPECT_EQ(json["sizes"][1]["policies"]["ARC"]["miss_blocks"], 8);
  std::ifstream chart{svg};
  std::string first;
  std::getline(chart, first);
  EXPECT_TRUE(first.starts_with("<svg ")) << first;
}

TEST_F(LarderTest, AChartThatCannotBeWrittenIsAnError) {
  const Ended ended = run("size " + trace_ + " --svg " + directory_ + "/none/x.svg");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.errors, "x.svg: the chart cannot be written: No such file"))
      << ended.errors;
  EXPECT_EQ(run("size " + trace_ + " --svg /dev/full").exit_code, 1);
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

TEST_F(LarderTest, ASpecMayStandBehindTheOptions) {
  const Ended ended =
      run("bench --pairs 1 --bytes 1MiB --size 64KiB,128KiB" + std::string{kMemory});
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_TRUE(has(ended.output, "load 64KiB") && has(ended.output, "load 128KiB")) << ended.output;
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
      {"bench" + std::string{kMemory} + "--batch " + std::string(300, '9'), "--batch"},
      {"replay " + trace_ + kMemory + "--requests " + std::string(300, '9'), "--requests"},
      {"replay " + trace_ + kMemory + "--requests 0", "--requests"},
      {"size", "TRACE is required"},
      {"size " + trace_ + " --capacities 1MiB,0", "0 bytes"},
      {"size " + trace_ + " --capacities 1KiB", "expected from one block (64KiB)"},
      {"size " + trace_ + " --policies LUR", "did you mean 'LRU'?"},
      {"size " + directory_ + "/none", "No such file"},
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
  for (const std::string& command : commands()) {
    const Ended ended = run(command + " --help");
    EXPECT_EQ(ended.exit_code, 0);
    EXPECT_TRUE(has(ended.output, "Examples:\n  ")) << ended.output;
    EXPECT_TRUE(has(ended.output, "larder " + command + " ")) << ended.output;
    EXPECT_EQ(run("help " + command).output, ended.output);
  }
  EXPECT_EQ(run("help").output, run("--help").output);
  EXPECT_EQ(run("help").exit_code, 0);
  EXPECT_EQ(run("help help").output, run("--help").output);
  EXPECT_EQ(run("help help").exit_code, 0);
  const Ended version = run("--version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(version.output.starts_with("larder " + std::string{larder::version()} + " ("))
      << version.output;
  EXPECT_EQ(run("-V").output, version.output);
}

TEST_F(LarderTest, AnUnknownOptionNamesTheNearestOfItsCommand) {
  const std::pair<const char*, const char*> cases[] = {
      {"bench memory: --sizes 1MiB", "bench has no option \"--sizes\", did you mean \"--size\"?"},
      {"replay x memory: --blockbytes=1", "did you mean \"--block-bytes\"?"},
      {"inspect x --verfy", "inspect has no option \"--verfy\", did you mean \"--verify\"?"},
      {"--versoin", "larder has no option \"--versoin\", did you mean \"--version\"?"},
      {"doctor --nothing-like-it", "doctor has no option \"--nothing-like-it\" ("},
      {"help bensh", "there is no command \"bensh\", did you mean \"bench\"? There are:"},
      {"zzzzzzzzzz", "there is no command \"zzzzzzzzzz\"; there are: "},
  };
  for (const auto& [arguments, expected] : cases) {
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 2) << arguments;
    EXPECT_TRUE(has(ended.errors, expected)) << arguments << "\n" << ended.errors;
  }
}

TEST_F(LarderTest, EveryCommandAndOptionIsInTheManualAndInEachCompletion) {
  const std::string manual = run("man").output;
  const std::string bash = run("completion bash").output;
  const std::string zsh = run("completion zsh").output;
  const std::string fish = run("completion fish").output;
  std::ofstream{directory_ + "/larder.bash"} << bash;
  EXPECT_EQ(shell("bash -n '" + directory_ + "/larder.bash'").exit_code, 0);
  for (const std::string& command : commands()) {
    EXPECT_TRUE(has(manual, ".SS \"larder " + command + " ")) << command;
    for (const std::string& script : {bash, zsh, fish}) EXPECT_TRUE(has(script, command));
    const std::string help = run(command + " --help").output;
    // What begins a line of the list of options.
    static const std::regex option{"\n  (-.,)?(--[a-z-]+)"};
    std::size_t options = 0;
    for (auto at = std::sregex_iterator{help.begin(), help.end(), option};
         at != std::sregex_iterator{}; ++at) {
      const std::string name = (*at)[2];
      ++options;
      EXPECT_TRUE(has(bash, name)) << command << name;
      EXPECT_TRUE(has(zsh, name)) << command << name;
      EXPECT_TRUE(has(fish, "-l " + name.substr(2))) << command << name;
      std::string escaped;
      for (const char c : name) escaped += c == '-' ? "\\-" : std::string(1, c);
      EXPECT_TRUE(has(manual, escaped)) << command << name;
    }
    EXPECT_GE(options, 1U) << command;
  }
  EXPECT_TRUE(has(run("completion tcsh").errors, "expected bash, zsh or fish"));
}

TEST_F(LarderTest, BashCompletesCommandsOptionsAndFiles) {
  const auto complete = [&](const std::string& words) {
    return shell("bash -c 'source <(\"" LARDER_BINARY "\" completion bash); COMP_WORDS=(" + words +
                 "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _larder; echo \"${COMPREPLY[*]}\"'")
        .output;
  };
  EXPECT_EQ(complete("larder be"), "bench\n");
  EXPECT_EQ(complete("larder help re"), "replay\n");
  EXPECT_EQ(complete("larder bench --si"), "--size\n");
  EXPECT_EQ(complete("larder inspect " + trace_.substr(0, trace_.size() - 2)), trace_ + "\n");
}

TEST_F(LarderTest, TheManualIsWellFormed) {
  const Ended formatted = shell("'" LARDER_BINARY "' man | groff -man -Tutf8 -ww 2>&1 >/dev/null");
  if (formatted.exit_code == 127) GTEST_SKIP() << "SKIPPED (needs groff)";
  EXPECT_EQ(formatted.output, "");
}

TEST_F(LarderTest, JsonSaysOkAlsoOfWhatWentWrong) {
  const std::string missing = directory_ + "/none";
  const std::string metrics = directory_ + "/metrics";
  std::ofstream{metrics} << "larder_keys{type=\"memory\",where=\"memory\"} 1\n";
  for (const std::string& arguments :
       {"replay " + trace_ + kMemory, "bench" + std::string{kMemory} + "--size 64KiB --bytes 1MiB",
        "format 'log:" + directory_ +
            "/new?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0'",
        "stats " + metrics, "size " + trace_, std::string{"connectors"},
        std::string{"connectors log"}}) {
    const Ended ended = run(arguments + " --json");
    EXPECT_EQ(ended.exit_code, 0) << arguments << ended.errors;
    EXPECT_EQ(nlohmann::json::parse(ended.output, nullptr, false)["ok"], true) << arguments;
  }
  for (const std::string& arguments :
       {"replay " + trace_ + " 'memroy:'", "bench 'log:" + missing + "'", "inspect " + missing,
        "size " + missing, "doctor " + missing + " --nonsense", "format " + missing,
        "stats " + missing, std::string{"stats --list"}, std::string{"connectors memry"}}) {
    const Ended ended = run(arguments + " --json");
    EXPECT_GT(ended.exit_code, 0) << arguments;
    const auto json = nlohmann::json::parse(ended.output, nullptr, false);
    ASSERT_TRUE(json.is_object()) << arguments << ended.output;
    EXPECT_EQ(json["ok"], false) << arguments;
    EXPECT_TRUE(has(ended.errors, json["error"].get<std::string>())) << arguments;
  }
}

TEST_F(LarderTest, ConnectorsAreListedInThreeForms) {
  EXPECT_TRUE(has(run("connectors").output, "memory"));
  EXPECT_TRUE(has(run("connectors memory").output, "capacity"));
  EXPECT_TRUE(has(run("connectors --markdown").output, "|"));
  const auto json = nlohmann::json::parse(run("connectors --json").output, nullptr, false);
  EXPECT_EQ(json["ok"], true);
  EXPECT_TRUE(json["types"].is_array());
}

TEST_F(LarderTest, AnInterruptEndsWithWhatWasMeasured) {
  // The subshell keeps the program's own exit code; the signal is sent once the first request's
  // time has come and gone.
  write_endless_trace();
  const Ended ended = run("replay " + trace_ + kMemory + "--speed trace --json",
                          "timeout --preserve-status --signal=INT 1 ");
  EXPECT_EQ(ended.exit_code, 130) << ended.errors;
  EXPECT_TRUE(has(ended.errors, "larder: interrupted by SIGINT")) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["requests"], 1);
  EXPECT_EQ(json["interrupted_by"], "a signal");
  EXPECT_EQ(json["ok"], false);
}

TEST_F(LarderTest, AnInterruptEndsTheReadingOfAPipeThatNobodyWritesInto) {
  const Ended ended = run("replay -" + std::string{kMemory} + "--json",
                          "sleep 5 | timeout --preserve-status --signal=INT --kill-after=3 0.5 ");
  EXPECT_EQ(ended.exit_code, 130) << ended.errors;
  EXPECT_TRUE(has(ended.errors, "larder: interrupted by SIGINT")) << ended.errors;
}

TEST_F(LarderTest, OpeningAndClosingAreToldWhereTheEnvironmentAsksForIt) {
  const std::string bench = "bench" + std::string{kMemory} + "--size 64KiB --bytes 1MiB --pairs 1";
  EXPECT_EQ(run(bench).errors, "");
  for (const std::string& command : {bench, "replay " + trace_ + kMemory}) {
    const Ended told = run(command, "LARDER_LOG=info ");
    EXPECT_EQ(told.exit_code, 0) << told.errors;
    EXPECT_TRUE(has(told.errors, "[memory] memory: opened in ")) << told.errors;
    EXPECT_TRUE(has(told.errors, "[memory] memory: closed: ")) << told.errors;
  }
}

TEST_F(LarderTest, AHomeIsUnderstoodByEveryCommand) {
  const std::string home = "HOME='" + directory_ + "' ";
  const std::string spec = "'log:~/store?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0'";
  EXPECT_EQ(run("format " + spec, home).exit_code, 0);
  for (const char* const command : {"inspect '~/store'", "inspect 'log:~/store'",
                                    "doctor '~/store'", "doctor 'log:~/store?min_free=0'"}) {
    const Ended ended = run(command, home);
    EXPECT_TRUE(has(ended.output, directory_ + "/store")) << command << "\n" << ended.output;
    EXPECT_FALSE(has(ended.output, "does not exist")) << command << "\n" << ended.output;
  }
}

TEST_F(LarderTest, AnInterruptedBenchEndsWithWholePairs) {
  // timeout sends the signal to the program and to its group: two deliveries of one request.
  const Ended ended =
      run("bench" + std::string{kMemory} +
              "--size 64KiB --bytes 32MiB --pairs 1000 --in-flight 1 --json --quiet",
          "timeout --preserve-status --signal=INT 0.5 ");
  EXPECT_EQ(ended.exit_code, 130) << ended.errors;
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["interrupted_by"], "a signal");
  EXPECT_LT(json["series"][0]["pairs"].size(), 1000U);
}

TEST_F(LarderTest, ATerminalThatGoesEndsItAsCleanlyAsATermination) {
  write_endless_trace();
  const std::pair<const char*, int> signals[] = {{"HUP", 129}, {"TERM", 143}};
  for (const auto& [signal, exit_code] : signals) {
    const std::string store = directory_ + "/" + signal;
    const Ended ended =
        run("replay " + trace_ + " 'log:" + store +
                "?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0' --speed trace",
            std::string{"timeout --preserve-status --signal="} + signal + " 1 ");
    EXPECT_EQ(ended.exit_code, exit_code) << ended.errors;
    EXPECT_TRUE(has(ended.errors, std::string{"interrupted by SIG"} + signal)) << ended.errors;
    EXPECT_TRUE(has(ended.output, "INTERRUPTED")) << ended.output;
    EXPECT_TRUE(has(run("inspect " + store).output, "closed cleanly")) << signal;
  }
}

TEST_F(LarderTest, WhatItsStarterIgnoresStaysIgnored) {
  // As nohup does: SIGHUP ends nothing, and only the SIGKILL behind it does.
  write_endless_trace();
  const Ended ended = run("replay " + trace_ + kMemory + "--speed trace",
                          "timeout --preserve-status --signal=HUP --kill-after=0.5 0.5 "
                          "sh -c 'trap \"\" HUP; exec \"$0\" \"$@\"' ");
  EXPECT_EQ(ended.exit_code, 137) << ended.errors;
}

/// The exit code of a command whose standard output nobody reads; what it says goes to `errors`.
int run_without_reader(const char* command, const char* option, const std::string& errors) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  ::close(ends[0]);
  const ::pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGPIPE, SIG_DFL);
    if (::dup2(ends[1], STDOUT_FILENO) < 0 ||
        std::freopen(errors.c_str(), "w", stderr) == nullptr) {
      ::_exit(99);
    }
    ::execl(LARDER_BINARY, "larder", command, option, static_cast<char*>(nullptr));
    ::_exit(99);
  }
  ::close(ends[1]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F(LarderTest, AReaderThatGoesIsNothingToSay) {
  const std::string errors = directory_ + "/said";
  const std::pair<const char*, const char*> commands[] = {
      {"man", nullptr}, {"connectors", "--json"}, {"completion", "zsh"}, {"doctor", nullptr}};
  for (const auto& [command, option] : commands) {
    EXPECT_EQ(run_without_reader(command, option, errors), 128 + SIGPIPE) << command;
    EXPECT_EQ(std::filesystem::file_size(errors), 0U) << command;
  }
}

TEST_F(LarderTest, AResultThatCannotBeWrittenIsAnError) {
  EXPECT_EQ(run("connectors >/dev/full").exit_code, 1);
}

}  // namespace
}  // namespace larder::cli
