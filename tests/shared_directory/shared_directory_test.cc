// Several processes and threads store the same keys in one directory; some are killed.

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "tests/shared_directory/written_value.h"
#include "tests/support/temporary_directory.h"

namespace larder::shared_directory {
namespace {

constexpr std::uint64_t kKeys = 200;
constexpr const char* kForever = "1000000";

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

/// Killed by the destructor should it still run.
class WriterProcess {
 public:
  WriterProcess(const std::string& spec, int writer, int threads, const std::string& seconds) {
    std::vector<std::string> texts{LARDER_SHARED_WRITER,   spec,
                                   std::to_string(writer), std::to_string(threads),
                                   std::to_string(kKeys),  seconds};
    std::vector<char*> arguments;
    for (std::string& text : texts) arguments.push_back(text.data());
    arguments.push_back(nullptr);
    EXPECT_EQ(
        ::posix_spawn(&pid_, LARDER_SHARED_WRITER, nullptr, nullptr, arguments.data(), environ), 0);
  }
  ~WriterProcess() {
    if (pid_ > 0) kill();
  }
  WriterProcess(const WriterProcess&) = delete;
  WriterProcess& operator=(const WriterProcess&) = delete;

  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  /// Makes it stand still for good, and tells how many files it is writing, with a name or without.
  std::size_t stop_while_writing() {
    ::kill(pid_, SIGSTOP);
    std::size_t writing = 0;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator{"/proc/" + std::to_string(pid_) + "/fd", error}) {
      const std::string file = std::filesystem::read_symlink(entry.path(), error).string();
      const bool is_unnamed = file.find("/kv/#") != std::string::npos;
      if (is_unnamed || file.find("/kv/.larder-") != std::string::npos) ++writing;
    }
    return writing;
  }
  /// Its exit status, or 128 + the signal.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  ::pid_t pid_ = -1;
};

struct Left {
  std::vector<std::string> temporaries;
  std::size_t values = 0;
};

Left left_in(const std::string& path) {
  Left left;
  for (const auto& entry : std::filesystem::directory_iterator{path}) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".data")) {
      ++left.values;
    } else {
      left.temporaries.push_back(name);
    }
  }
  return left;
}

/// Loads every key; each is a miss or one writer's whole value. How many hits.
std::size_t check_all(const std::string& spec) {
  auto opened = builtin_registry().open(spec);
  EXPECT_TRUE(opened.has_value()) << opened.error().text;
  if (!opened) return 0;
  std::size_t hits = 0;
  {
    BlockingClient client{**opened};
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      Bytes value(size_of(key));
      const auto found = client.get_into(key_of(key), value);
      EXPECT_TRUE(found.has_value()) << key_of(key) << ": " << found.error().to_string();
      if (!found || !*found) continue;
      ++hits;
      EXPECT_TRUE(author_of(key, value).has_value()) << key_of(key);
    }
  }
  EXPECT_TRUE((*opened)->stop(kNever).has_value());
  return hits;
}

class SharedDirectoryTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::string spec() const { return "fs:" + directory.path() + "/kv?" + GetParam(); }
  std::string path() const { return directory.path() + "/kv"; }
  testing::TemporaryDirectory directory;
};

TEST_P(SharedDirectoryTest, TwoProcessesOfSixteenThreadsEachSeeWholeValuesAndEveryStoreSucceeds) {
  const bool is_full = std::getenv("LARDER_FULL") != nullptr;
  const std::string seconds = is_full ? "60" : "3";
  WriterProcess first{spec(), 1, 16, seconds};
  WriterProcess second{spec(), 2, 16, seconds};
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(second.wait(), 0);
  const Left left = left_in(path());
  EXPECT_TRUE(left.temporaries.empty()) << left.temporaries.front();
  EXPECT_GT(left.values, kKeys / 2);
  EXPECT_EQ(check_all(spec()), left.values);
}

TEST_P(SharedDirectoryTest, KilledWritersLeaveNothingThatIsServedWrong) {
  const bool is_full = std::getenv("LARDER_FULL") != nullptr;
  const int kills = is_full ? 100 : 12;
  Random random{20'260'101};
  std::size_t hits = 0;
  std::size_t writing = 0;
  for (int i = 0; i < kills || ((writing == 0 || hits == 0) && i < 20 * kills); ++i) {
    WriterProcess writer{spec(), 10 + i, 8, kForever};
    // Some are killed while they open, most among their first stores.
    const std::uint64_t kill_at_ns = now_ns() + random.below(60'000'000);
    while (now_ns() < kill_at_ns || (i == 0 && !std::filesystem::exists(path()))) {
      ::usleep(500);
    }
    writing += writer.stop_while_writing();
    writer.kill();
    hits += check_all(spec());
  }
  EXPECT_GT(hits, 0U) << "nothing was ever stored";
  EXPECT_GT(writing, 0U) << "no kill met a store";
  // After an hour they are gone.
  for (const std::string& name : left_in(path()).temporaries) {
    const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours{2};
    std::filesystem::last_write_time(path() + "/" + name, old);
  }
  auto opened = builtin_registry().open(spec());
  ASSERT_TRUE(opened.has_value());
  const std::uint64_t give_up_ns = now_ns() + 60'000'000'000;
  while (!left_in(path()).temporaries.empty() && now_ns() < give_up_ns) ::usleep(1000);
  EXPECT_TRUE(left_in(path()).temporaries.empty());
  EXPECT_TRUE((*opened)->stop(kNever).has_value());
}

INSTANTIATE_TEST_SUITE_P(Ways, SharedDirectoryTest,
                         ::testing::Values("num_workers=4", "num_workers=16&use_odirect=yes"),
                         [](const auto& way) {
                           return way.index == 0 ? std::string{"Buffered"} : std::string{"Direct"};
                         });

}  // namespace
}  // namespace larder::shared_directory
