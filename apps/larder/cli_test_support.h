#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

/// What the tests of the command line share.
namespace larder::cli {

struct Ended {
  int exit_code = -1;
  std::string output;  ///< Standard output.
  std::string errors;  ///< Standard error.
};

/// Runs the program that was built beside this test, as a shell would.
class LarderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/larder_cli_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    trace_ = directory_ + "/trace.jsonl";
    std::ofstream trace{trace_};
    for (int i = 0; i < 50; ++i) {
      trace << R"({"timestamp": )" << i << R"(, "input_length": 1024, "output_length": 1, )"
            << R"("hash_ids": [0, )" << i % 7 + 1 << "]}\n";
    }
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  /// At the speed of this trace, one request a day: only a signal can end it.
  void write_endless_trace() const {
    std::ofstream{trace_}
        << R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]})"
        << "\n"
        << R"({"timestamp":86400000,"input_length":1,"output_length":1,"hash_ids":[2]})"
        << "\n";
  }

  Ended run(const std::string& arguments, const std::string& before = "") const {
    return shell(before + "'" LARDER_BINARY "' " + arguments + " 2>'" + directory_ + "/errors'");
  }

  /// The commands that `larder --help` lists.
  std::vector<std::string> commands() const {
    std::istringstream lines{run("--help").output};
    std::vector<std::string> names;
    std::string line;
    while (std::getline(lines, line) && line != "Subcommands:") {
    }
    while (std::getline(lines, line) && !line.empty()) {
      names.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
    EXPECT_GE(names.size(), 9U);
    return names;
  }

  Ended shell(const std::string& line) const {
    Ended ended;
    FILE* const pipe = ::popen(line.c_str(), "r");
    if (pipe == nullptr) return ended;
    std::array<char, 4096> buffer;
    for (std::size_t count = 0; (count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
      ended.output.append(buffer.data(), count);
    }
    const int status = ::pclose(pipe);
    if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
    std::ifstream errors{directory_ + "/errors"};
    ended.errors.assign(std::istreambuf_iterator<char>{errors}, std::istreambuf_iterator<char>{});
    return ended;
  }

  std::string directory_;
  std::string trace_;
};

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace larder::cli
