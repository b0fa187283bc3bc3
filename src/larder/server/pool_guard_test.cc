#include "larder/server/pool_guard.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

#include "larder/cache/arena/arena.h"
#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

using larder::testing::ForkedChild;
using larder::testing::TemporaryDirectory;

bool is_there(const std::string& path) {
  struct ::stat found{};
  return ::lstat(path.c_str(), &found) == 0;
}

void make(const std::string& path) {
  std::ofstream{path} << "pool";
}

/// Runs a server that watches the file at `path` in its own process; its orphaned helper becomes a
/// child of this process, so that its end can be waited for.
class PoolGuardTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0); }
  void TearDown() override { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }

  /// "ok", or the error. The guard lives as long as the child.
  std::string watch() const {
    auto guard = PoolGuard::start();
    if (!guard) return guard.error().text;
    const Status status = guard->watch(path_);
    new PoolGuard{*std::move(guard)};  // NOLINT: as in a process that is killed.
    return status ? "ok" : status.error().to_string();
  }
  static void wait_for_orphans() {
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    ASSERT_EQ(errno, ECHILD);
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/pool";
};

SetupResult<std::unique_ptr<cache::Arena>> open_arena() {
  cache::ArenaOptions options;
  options.kind = cache::ArenaKind::kShared;
  options.name = "larder_pool_guard_test_" + std::to_string(::getpid());
  options.capacity_bytes = std::uint64_t{4} << 20;
  return cache::Arena::open(options);
}

TEST_F(PoolGuardTest, RemovesTheNameWhenTheServerIsKilled) {
  make(path_);
  ForkedChild server{[this](int) { return watch(); }};
  ASSERT_EQ(server.said(), "ok");
  EXPECT_TRUE(is_there(path_));
  server.kill();
  wait_for_orphans();
  EXPECT_FALSE(is_there(path_));
}

TEST_F(PoolGuardTest, RemovesAnArenasName) {
  ForkedChild server{[](int) -> std::string {
    auto guard = PoolGuard::start();
    auto arena = open_arena();
    if (!guard || !arena) return "";
    std::string path = "/dev/shm/" + (*arena)->name();
    if (!guard->watch(path)) return "";
    new PoolGuard{*std::move(guard)};  // NOLINT
    (void)arena->release();            // NOLINT
    return path;
  }};
  const std::string path = server.said();
  ASSERT_TRUE(is_there(path)) << path;
  server.kill();
  wait_for_orphans();
  EXPECT_FALSE(is_there(path));
}

TEST_F(PoolGuardTest, OneThatIsLeftWaitsForTheEndOfTheProcess) {
  ForkedChild server{[](int) -> std::string {
    auto guard = PoolGuard::start();
    auto arena = open_arena();
    if (!guard || !arena) return "";
    std::string path = "/dev/shm/" + (*arena)->name();
    if (!guard->watch(path)) return "";
    (void)arena->release();  // NOLINT: with the file's lock, which the helper needs.
    guard->leave();
    return path;
  }};
  const std::string path = server.said();  // The guard has been destroyed.
  EXPECT_TRUE(is_there(path)) << path;
  server.kill();
  wait_for_orphans();
  EXPECT_FALSE(is_there(path));
}

TEST_F(PoolGuardTest, EndsWithItsServer) {
  make(path_);
  {
    auto guard = PoolGuard::start();
    ASSERT_TRUE(guard) << guard.error().text;
    ASSERT_TRUE(guard->watch(path_));
    const PoolGuard moved = *std::move(guard);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), 0);
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // There is no child any more.
  EXPECT_FALSE(is_there(path_));
}

TEST_F(PoolGuardTest, EndsWithoutAName) {
  ASSERT_TRUE(PoolGuard::start());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
}

TEST_F(PoolGuardTest, LeavesANameThatIsAnotherFilesByNow) {
  make(path_);
  ForkedChild server{[this](int) { return watch(); }};
  ASSERT_EQ(server.said(), "ok");
  const std::string kept = directory_.path() + "/kept";  // So that its inode is not reused.
  ASSERT_EQ(::rename(path_.c_str(), kept.c_str()), 0);
  make(path_);
  server.kill();
  wait_for_orphans();
  EXPECT_TRUE(is_there(path_));
  EXPECT_TRUE(is_there(kept));
}

TEST_F(PoolGuardTest, OutlivesTheSignalsOfItsServersGroup) {
  make(path_);
  ForkedChild server{[this](int) -> std::string {
    ::setpgid(0, 0);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::signal(number, SIG_IGN);
    return watch();
  }};
  ASSERT_EQ(server.said(), "ok");
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    ASSERT_EQ(::kill(-server.pid(), number), 0);
  }
  EXPECT_TRUE(is_there(path_));
  ASSERT_EQ(::kill(-server.pid(), SIGKILL), 0);  // The helper is not in the group.
  server.kill();
  wait_for_orphans();
  EXPECT_FALSE(is_there(path_));
}

TEST_F(PoolGuardTest, DoesNotWaitForChildrenOfTheServer) {
  make(path_);
  ForkedChild server{[this](int hold) {
    std::string said = watch();
    ForkedChild::fork_to_stay(hold);
    return said;
  }};
  ASSERT_EQ(server.said(), "ok");
  server.kill();  // Its child stays.
  while (is_there(path_) && ::waitpid(-1, nullptr, 0) > 0) {
  }
  EXPECT_FALSE(is_there(path_));
}

TEST_F(PoolGuardTest, HoldsNoOtherDescriptor) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  const auto guard = PoolGuard::start();
  ASSERT_TRUE(guard);
  write_end.reset();
  char end = 0;
  EXPECT_EQ(::read(read_end.get(), &end, 1), 0);
}

TEST_F(PoolGuardTest, RefusesANameThatIsNotThere) {
  auto guard = PoolGuard::start();
  ASSERT_TRUE(guard);
  EXPECT_FALSE(guard->watch(path_));
  EXPECT_FALSE(guard->watch(""));
  EXPECT_FALSE(guard->watch(std::string(5000, 'p')));
}

}  // namespace
}  // namespace larder::server
