// The owner of a store: children of fork(), a second open in one process, owners that have ended.
#include "larder/connectors/log/machine/owner.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "larder/connectors/log/log_connector_test_support.h"
#include "tests/support/forked_child.h"

namespace larder::log_store {
namespace {

std::string note_of_a_dead_process() {
  std::string note;
  {
    const larder::testing::ForkedChild child{[](int /*hold*/) { return note_of_this_process(); }};
    note = child.said();
  }
  return note;
}

TEST(OwnerTest, APidIsOnlyBlamedWhileItLives) {
  const larder::testing::ForkedChild child{[](int /*hold*/) { return note_of_this_process(); }};
  const std::string alive = in_use_elsewhere("/kv", child.said());
  EXPECT_NE(alive.find("/kv is in use by another process (" + child.said() + ")"),
            std::string::npos)
      << alive;
  EXPECT_NE(alive.find("stop that process"), std::string::npos) << alive;

  const std::string note = note_of_a_dead_process();
  const std::string dead = in_use_elsewhere("/kv", note);
  EXPECT_NE(dead.find("(" + note + ") has ended"), std::string::npos) << dead;
  EXPECT_EQ(dead.find("stop that process"), std::string::npos) << dead;
  EXPECT_NE(dead.find("fuser -v /kv/superblock"), std::string::npos) << dead;
}

TEST(OwnerTest, OfAnotherHostsProcessAndOfNoNoteNothingIsSaid) {
  const std::string note = note_of_a_dead_process();
  const std::string pid = note.substr(0, note.find(" on "));
  for (const std::string& unknown :
       {std::string{}, pid + " on host another.example", pid + "x", std::string{"pid -1"},
        std::string{"pid 99999999999999999999"}, std::string{"pid "}, std::string{"nonsense"}}) {
    EXPECT_NE(in_use_elsewhere("/kv", unknown).find("another process"), std::string::npos)
        << unknown;
  }
}

/// Over io_uring if it is available, whose ring has the lock's file too, and over threads.
class LogOwnerTest : public LogConnectorTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {  // NOLINT(readability-identifier-naming): GoogleTest's.
    if (std::getenv("LARDER_IO") != nullptr) {
      if (!is_chosen()) GTEST_SKIP() << "LARDER_IO is set, which decides";
    } else if (GetParam() == std::string_view{"threads"}) {
      ::setenv("LARDER_IO", "threads", 1);
      is_set_ = true;
    }
  }
  void TearDown() override {  // NOLINT(readability-identifier-naming): GoogleTest's.
    if (is_set_) ::unsetenv("LARDER_IO");
  }

 private:
  static bool is_chosen() { return std::getenv("LARDER_IO") == std::string_view{GetParam()}; }

  bool is_set_ = false;
};

TEST_P(LogOwnerTest, AForkedChildDoesNotKeepTheStoreOfAKilledOwner) {
  larder::testing::ForkedChild killed{[this](int hold) -> std::string {
    static const auto store = open(spec());  // Never closed.
    if (store == nullptr) return "not opened";
    store->fill(0, 3);
    if (::fork() == 0) larder::testing::ForkedChild::stay(hold);
    return HasFailure() ? "failed" : "filled";
  }};
  ASSERT_EQ(killed.said(), "filled");
  killed.kill();
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(0, 3), numbers(0, 3));
}

TEST_P(LogOwnerTest, AChildIsToldThatItsParentHasTheStore) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const std::string text = in_child([this] { return refusal(spec()).text; });
  expect_names({ErrorCode::kUnavailable, text},
               {path_, "another process", note_of_this_process(), "stop that process"});
  store->fill(0, 3);
  EXPECT_EQ(store->present(0, 3), numbers(0, 3));
}

TEST_P(LogOwnerTest, ASecondOpenInOneProcessNamesThisProcess) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  expect_names(error, {path_, "this process itself", note_of_this_process(), "close it first"});
  EXPECT_EQ(error.text.find("another process"), std::string::npos) << error.text;
}

TEST_P(LogOwnerTest, ASuperblockThatIsReplacedLetsNobodyElseIn) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  store->fill(0, 3);
  const std::string file = path_ + "/superblock";
  std::filesystem::copy_file(file, file + ".new");  // Like a restore or an rsync.
  std::filesystem::rename(file + ".new", file);
  for (const std::string& text :
       {refusal(spec()).text, in_child([this] { return refusal(spec()).text; })}) {
    EXPECT_NE(text.find("is in use"), std::string::npos) << text;
  }
  EXPECT_EQ(store->present(0, 3), numbers(0, 3));
}

INSTANTIATE_TEST_SUITE_P(Io, LogOwnerTest, ::testing::Values("threads", "uring"),
                         [](const auto& chosen) { return std::string{chosen.param}; });

}  // namespace
}  // namespace larder::log_store
