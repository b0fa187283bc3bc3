// inspect, doctor and format, as a shell runs them.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/larder/cli_test_support.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/builtin.h"
#include "tests/support/seccomp.h"

namespace larder::cli {
namespace {

class StoreCommandsTest : public LarderTest {
 protected:
  void SetUp() override {
    LarderTest::SetUp();
    store_ = directory_ + "/store";
    spec_ = "log:" + store_ + "?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0";
  }
  /// Eight keys of 64,000 bytes, stored by a replay of the trace.
  void make_store() const {
    const Ended ended =
        run("replay " + trace_ + " '" + spec_ + "' --block-bytes 64000 --concurrency 1 --no-model");
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  }
  void overwrite(const std::string& name, std::streamoff at, const std::string& bytes) const {
    std::fstream file{store_ + "/" + name, std::ios::binary | std::ios::in | std::ios::out};
    file.seekp(at) << bytes;
    file.close();
    ASSERT_TRUE(file.good());
  }
  nlohmann::json keys() const {
    const auto json =
        nlohmann::json::parse(run("inspect " + store_ + " --list --json").output, nullptr, false);
    EXPECT_EQ(json["ok"], true);
    return json["keys"];
  }

  std::string store_;
  std::string spec_;
};

// --- inspect ------------------------------------------------------------------------------------

TEST_F(StoreCommandsTest, AGoodStoreIsShownAndProvenWithExitCode0) {
  make_store();
  const Ended ended = run("inspect " + store_ + " --verify");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_EQ(ended.errors, "");
  EXPECT_TRUE(has(ended.output, "keys      8, ")) << ended.output;
  EXPECT_TRUE(has(ended.output, "verified: 8 of 8 records")) << ended.output;
  EXPECT_EQ(run("inspect " + store_ + " --count").output, "8\n");
  EXPECT_EQ(keys().size(), 8U);
}

TEST_F(StoreCommandsTest, ADamagedValueExitsWith1AndIsNamed) {
  make_store();
  const nlohmann::json first = keys()[0];
  overwrite("segment-0000000", first["offset"].get<std::streamoff>() + 4096 + 1000, "damage");
  EXPECT_EQ(run("inspect " + store_).exit_code, 0);
  const Ended ended = run("inspect " + store_ + " --verify");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.output, "segment-0000000 at " + first["offset"].dump() + ", key '" +
                                    first["key"].get<std::string>() + "': "))
      << ended.output;
  EXPECT_TRUE(has(ended.output, "1 is damaged")) << ended.output;
}

TEST_F(StoreCommandsTest, AValueGoesToAFileAndNotToATerminal) {
  make_store();
  const std::string key = keys()[3]["key"];
  const Ended dumped = run("inspect " + store_ + " --dump '" + key + "'");
  EXPECT_EQ(dumped.exit_code, 0) << dumped.errors;
  EXPECT_EQ(dumped.output.size(), 64'000U);
  // What script runs has a terminal.
  std::ofstream{directory_ + "/command"}
      << LARDER_BINARY " inspect " + store_ + " --dump '" + key + "'";
  const Ended refused = shell("script -qec 'sh " + directory_ + "/command' /dev/null");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(has(refused.output, "standard output is a terminal")) << refused.output;
  const Ended missing = run("inspect " + store_ + " --dump 'nobody\\x00'");
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_TRUE(has(missing.errors, "no key 'nobody\\x00'")) << missing.errors;
}

TEST_F(StoreCommandsTest, AStoreThatIsOpenIsRefusedWithItsOwner) {
  auto connector = builtin_registry().open(spec_);
  ASSERT_TRUE(connector.has_value()) << connector.error().text;
  const std::string owner = "pid " + std::to_string(::getpid()) + " on host ";
  for (const std::string& command : {"inspect " + store_, "format '" + spec_ + "' --force"}) {
    const Ended ended = run(command);
    EXPECT_EQ(ended.exit_code, 1) << command;
    EXPECT_TRUE(has(ended.errors, owner)) << command << "\n" << ended.errors;
  }
  EXPECT_TRUE((*connector)->stop(kNever).has_value());
}

TEST_F(StoreCommandsTest, WhereThereIsNoStoreInspectExitsWith1AndSaysWhatThereIs) {
  EXPECT_TRUE(has(run("inspect " + store_).errors, "No such file"))
      << run("inspect " + store_).errors;
  std::filesystem::create_directory(store_);
  const Ended empty = run("inspect " + store_);
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_TRUE(has(empty.errors, "is empty")) << empty.errors;
  std::ofstream{store_ + "/notes"} << "mine";
  const Ended foreign = run("inspect " + store_);
  EXPECT_EQ(foreign.exit_code, 1);
  EXPECT_TRUE(has(foreign.errors, "'notes'")) << foreign.errors;
}

TEST_F(StoreCommandsTest, ALaterFormatExitsWith1AndIsNotTouched) {
  make_store();
  for (const std::streamoff copy : {0, 65'536}) overwrite("superblock", copy + 24, "\x09");
  const Ended ended = run("inspect " + store_);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.errors, "format version 9")) << ended.errors;
}

// --- format -------------------------------------------------------------------------------------

TEST_F(StoreCommandsTest, FormatMakesAStoreOnceAndAnewByForce) {
  const Ended made = run("format '" + spec_ + "' --prefill");
  EXPECT_EQ(made.exit_code, 0) << made.errors;
  EXPECT_TRUE(has(made.output, "wrote every segment once")) << made.output;
  EXPECT_EQ(run("inspect " + store_ + " --verify").exit_code, 0);
  EXPECT_EQ(run("format '" + spec_ + "'").exit_code, 1);
  make_store();
  EXPECT_EQ(run("format '" + spec_ + "' --force").exit_code, 0);
  EXPECT_EQ(run("inspect " + store_ + " --count").output, "0\n");
}

/// The immutable bit, as the kernel's own headers spell it.
bool set_immutable(const std::string& path, bool is_immutable) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  int flags = 0;
  if (!fd || ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return false;
  flags = is_immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
  return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
}

TEST_F(StoreCommandsTest, ForceLeavesAnOpenStoreWhoseSuperblockIsImmutable) {
  make_store();
  auto connector = builtin_registry().open(spec_);
  ASSERT_TRUE(connector.has_value()) << connector.error().text;
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator{store_},
                         std::filesystem::directory_iterator{});
  };
  const auto before = files();
  const std::string superblock = store_ + "/superblock";
  if (!set_immutable(superblock, true)) {
    EXPECT_TRUE((*connector)->stop(kNever).has_value());
    GTEST_SKIP() << "SKIPPED (needs root, and a file system with the immutable bit)";
  }
  const Ended ended = run("format '" + spec_ + "' --force");
  set_immutable(superblock, false);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.errors, "cannot open the superblock file")) << ended.errors;
  EXPECT_TRUE(has(ended.errors, "lsattr")) << ended.errors;
  EXPECT_EQ(files(), before);
  EXPECT_TRUE((*connector)->stop(kNever).has_value());
  connector->reset();
  EXPECT_EQ(keys().size(), 8U);
}

TEST_F(StoreCommandsTest, FormatOfForeignFilesExitsWith1) {
  std::filesystem::create_directory(store_);
  std::ofstream{store_ + "/notes"} << "mine";
  const Ended refused = run("format " + store_ + " --capacity 32GiB");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(has(refused.errors, "'notes'") && has(refused.errors, "--force")) << refused.errors;
}

// --- doctor -------------------------------------------------------------------------------------

TEST_F(StoreCommandsTest, DoctorTellsAboutTheMachineAndTheDirectory) {
  const Ended text = run("doctor " + store_);
  EXPECT_TRUE(has(text.output, "io_uring")) << text.output;
  EXPECT_TRUE(has(text.output, "does not exist yet")) << text.output;
  EXPECT_FALSE(std::filesystem::exists(store_));
  const Ended ended = run("doctor " + store_ + " --json");
  const auto json = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ended.output;
  EXPECT_EQ(json["findings"].size(), 13U);
  EXPECT_EQ(ended.exit_code, json["ok"] == true ? 0 : 1);
}

TEST_F(StoreCommandsTest, DoctorExitsWith1WhereSomethingIsAProblem) {
  std::ofstream{store_} << "a file";
  const Ended ended = run("doctor " + store_);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.output, "is not a directory")) << ended.output;
}

TEST_F(StoreCommandsTest, DoctorSeesThatAContainerForbidsUring) {
  const std::string output = directory_ + "/doctor";
  const ::pid_t child = ::fork();
  if (child == 0) {
    if (!testing::forbid_uring(EPERM) || std::freopen(output.c_str(), "w", stdout) == nullptr) {
      ::_exit(99);
    }
    ::execl(LARDER_BINARY, "larder", "doctor", static_cast<char*>(nullptr));
    ::_exit(99);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  std::ifstream file{output};
  const std::string text{std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status << "\n" << text;
  EXPECT_TRUE(has(text, "problem  io_uring     refused: ")) << text;
  EXPECT_TRUE(has(text, "--security-opt seccomp=")) << text;
}

// --- What comes from outside --------------------------------------------------------------------

/// No control character but the ends of lines, and no line that begins like one of larder's log.
void expect_tame(const Ended& ended, const std::string& command) {
  for (const std::string& text : {ended.output, ended.errors}) {
    EXPECT_TRUE(std::ranges::none_of(
        text, [](unsigned char c) { return (c < 0x20 && c != '\n') || c == 0x7f; }))
        << command << "\n"
        << text;
    EXPECT_FALSE(has(text, "\n2026") || has(text, "\u009b")) << command << "\n" << text;
  }
}

TEST_F(StoreCommandsTest, NamesThatAreFoundCannotForgeALineOrDriveATerminal) {
  const std::string evil = "x\n2026-01-01 00:00:00.000 E [log] forged \x1b[2J\u009b2J";
  std::filesystem::create_directory(store_);
  std::ofstream{store_ + "/" + evil} << "mine";
  const std::string replay = "replay " + trace_ + " '" + spec_ + "' --block-bytes 64000 --no-model";
  for (const std::string& command : {replay, "inspect " + store_, "format '" + spec_ + "'",
                                     "doctor " + store_, "doctor " + store_ + " --json"}) {
    const Ended ended = run(command);
    expect_tame(ended, command);
    EXPECT_TRUE(has(ended.output + ended.errors, "x\\x0a2026") ||
                has(ended.output + ended.errors, "x\\\\x0a2026"))
        << command << ended.output << ended.errors;
  }
  // Beside a store it is damage.
  std::filesystem::remove(store_ + "/" + evil);
  make_store();
  std::ofstream{store_ + "/" + evil} << "mine";
  for (const std::string& command : {"inspect " + store_, "inspect " + store_ + " --json"}) {
    const Ended ended = run(command);
    expect_tame(ended, command);
    EXPECT_TRUE(has(ended.output + ended.errors, "x0a2026")) << command << ended.output;
  }
}

TEST_F(StoreCommandsTest, AKeyOfAnyBytesIsShownInOneLineAndFoundByWhatIsShown) {
  auto connector = builtin_registry().open(spec_);
  ASSERT_TRUE(connector.has_value()) << connector.error().text;
  (*connector)->stop(kNever).ignore("only its making is wanted");
  connector->reset();
  const Ended stored = run("replay " + trace_ + " '" + spec_ +
                           "' --block-bytes 64000 --no-model --key-prefix \"$(printf '" +
                           "\\033]0;x\\007\\nE [log] forged ')\"");
  ASSERT_EQ(stored.exit_code, 0) << stored.errors;
  const Ended listed = run("inspect " + store_ + " --list");
  expect_tame(listed, "--list");
  EXPECT_EQ(std::ranges::count(listed.output, '\n'), 8) << listed.output;
  const std::string key = keys()[0]["key"];
  EXPECT_TRUE(key.starts_with("\\x1b]0;x\\x07\\x0aE [log] forged")) << key;
  EXPECT_EQ(run("inspect " + store_ + " --dump '" + key + "'").output.size(), 64'000U);
  expect_tame(run("inspect " + store_ + " --dump '" + key + "none'"), "--dump");
}

// --- Wrong usage --------------------------------------------------------------------------------

TEST_F(StoreCommandsTest, WrongUsageExitsWith2AndSaysWhatIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"inspect", "DIR|SPEC is required"},
      {"inspect memory:", "is not a log store; name a directory or log:DIRECTORY"},
      {"inspect 'log:'", "'path' is missing"},
      {"inspect " + store_ + " --list --count", "excludes"},
      {"inspect " + store_ + " --list --verify", "excludes"},
      {"inspect " + store_ + " --limit 3", "--list"},
      {"inspect " + store_ + " --prefix a", "--prefix is for --list and --count"},
      {"inspect " + store_ + " --list --prefix 'a\\b'", "position 2"},
      {"inspect " + store_ + " --dump 'a\\x0'", "position 2"},
      {"format", "SPEC|DIR is required"},
      {"format " + store_, "Add --capacity"},
      {"format " + store_ + " --capacity lots", "lots"},
      {"format 'memory:?capacity=1GiB'", "needs no store to be made"},
      {"doctor " + store_ + " " + store_, "store"},
      {"doctor 'log:" + store_ + "?capacty=1GiB'", "did you mean 'capacity'?"},
      {"doctor fault:?inner=memory:", "name the connector that keeps the values"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 2) << arguments;
    EXPECT_TRUE(ended.errors.starts_with("larder: ")) << arguments << "\n" << ended.errors;
    EXPECT_TRUE(has(ended.errors, expected)) << arguments << "\n" << ended.errors;
    EXPECT_EQ(ended.output, "") << arguments;
    EXPECT_FALSE(std::filesystem::exists(store_)) << arguments;
  }
}

}  // namespace
}  // namespace larder::cli
