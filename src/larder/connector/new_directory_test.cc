#include "larder/connector/new_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace larder {
namespace {

namespace fs = std::filesystem;

class NewDirectoriesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/larder_dirs_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = fs::canonical(pattern);
  }
  void TearDown() override { fs::remove_all(root_); }

  SetupResult<NewDirectories> make(const std::string& below, bool may_create = true) const {
    return NewDirectories::make("log: path=" + root_ + below, root_ + below, 0700, may_create);
  }
  static mode_t mode_of(const std::string& path) {
    struct stat status{};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777U;
  }

  std::string root_;
};

TEST_F(NewDirectoriesTest, EveryLevelIsMadeForItsOwnerAloneWhateverTheUmask) {
  int number = 0;
  for (const mode_t mask : {0U, 022U, 077U, 0277U, 0777U}) {
    const std::string top = "/" + std::to_string(++number);
    const mode_t before = ::umask(mask);
    const auto made = make(top + "/a/./b//kv/");
    ::umask(before);
    ASSERT_TRUE(made.has_value()) << made.error().text;
    ASSERT_EQ(made->made().size(), 4U);
    EXPECT_EQ(made->made().front(), root_ + top);
    EXPECT_EQ(made->made().back(), root_ + top + "/a/b/kv");
    for (const std::string& one : made->made()) EXPECT_EQ(mode_of(one), 0700U) << one;
  }
}

TEST_F(NewDirectoriesTest, WhatIsThereStaysAsItIs) {
  ASSERT_EQ(::mkdir((root_ + "/old").c_str(), 0755), 0);
  ASSERT_EQ(::chmod((root_ + "/old").c_str(), 0755), 0);
  auto made = make("/old/kv");
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_EQ(made->made(), std::vector<std::string>{root_ + "/old/kv"});
  EXPECT_EQ(mode_of(root_ + "/old"), 0755U);
  EXPECT_EQ(make("/old/kv")->made().size(), 0U);
  fs::create_directory_symlink(root_ + "/old", root_ + "/link");
  EXPECT_EQ(make("/link/kv")->made().size(), 0U);
}

TEST_F(NewDirectoriesTest, UndoRemovesWhatWasMadeAndNothingElse) {
  auto made = make("/a/b/kv");
  ASSERT_TRUE(made.has_value()) << made.error().text;
  std::ofstream{root_ + "/a/mine"} << "x";
  made->undo();
  EXPECT_FALSE(fs::exists(root_ + "/a/b"));
  EXPECT_TRUE(fs::exists(root_ + "/a/mine"));
  EXPECT_TRUE(fs::exists(root_));
}

TEST_F(NewDirectoriesTest, CreateNoRefusesAndNamesWhatIsMissing) {
  const auto refused = make("/disk/kv", false);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().text.find(root_ + "/disk does not exist, and create=no"),
            std::string::npos)
      << refused.error().text;
  EXPECT_FALSE(fs::exists(root_ + "/disk"));
  ASSERT_TRUE(make("/disk/kv").has_value());
  EXPECT_TRUE(make("/disk/kv", false).has_value());
}

TEST_F(NewDirectoriesTest, AFileInTheWayIsNamedAndNothingStays) {
  std::ofstream{root_ + "/file"} << "x";
  const auto refused = make("/file/kv");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().text.find(root_ + "/file is not a directory"), std::string::npos)
      << refused.error().text;
  // A name that is too long, after one that could be made.
  EXPECT_FALSE(make("/new/" + std::string(300, 'x')).has_value());
  EXPECT_FALSE(fs::exists(root_ + "/new"));
}

}  // namespace
}  // namespace larder
