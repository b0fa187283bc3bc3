#include "larder/server/copy/segments.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "larder/server/copy/copy_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

class SegmentsTest : public ::testing::Test {
 protected:
  std::string error_of(const std::string& name, std::uint64_t bytes = 1) {
    const auto segment = segments_.map(name, bytes);
    return segment ? "no error" : segment.error().text;
  }

  const larder::testing::TemporaryDirectory directory_;
  Segments segments_{directory_.path()};
};

TEST_F(SegmentsTest, SharesMemoryWithTheWorker) {
  const TestSegment worker{directory_.path(), 10'000};
  const auto segment = segments_.map(worker.name(), 9'000);
  ASSERT_TRUE(segment) << segment.error().text;
  ASSERT_EQ((*segment)->memory().size(), 9'000U);
  worker.memory()[8'999] = std::byte{7};
  EXPECT_EQ((*segment)->memory()[8'999], std::byte{7});
  (*segment)->memory()[0] = std::byte{8};
  EXPECT_EQ(worker.memory()[0], std::byte{8});
}

TEST_F(SegmentsTest, MapsEachSegmentOnceAndUnmapsItWithItsLastUser) {
  const TestSegment worker{directory_.path(), 10'000};
  auto first = segments_.map(worker.name(), 10'000);
  auto second = segments_.map(worker.name(), 5'000);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->get(), second->get());
  EXPECT_EQ(segments_.mapped(), 1U);
  first->reset();
  EXPECT_EQ(segments_.mapped(), 1U);
  second->reset();
  EXPECT_EQ(segments_.mapped(), 0U);
}

TEST_F(SegmentsTest, MapsAnewWhatIsLargerOrAnotherFile) {
  const TestSegment worker{directory_.path(), 10'000};
  const auto small = segments_.map(worker.name(), 100);
  const auto large = segments_.map(worker.name(), 10'000);
  ASSERT_TRUE(small && large);
  EXPECT_NE(small->get(), large->get());
  EXPECT_EQ((*large)->memory().size(), 10'000U);
  // Another process may get the name of one that has ended.
  std::filesystem::remove(worker.path());
  const int fd = ::open(worker.path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::ftruncate(fd, 10'000), 0);
  ::close(fd);
  const auto other = segments_.map(worker.name(), 10'000);
  ASSERT_TRUE(other);
  EXPECT_NE(other->get(), large->get());
}

TEST_F(SegmentsTest, TakesOnlyNamesOfLmcachesClients) {
  for (const char* const name :
       {"", "/lmcache_kv_", "/lmcache_kv_1", "/lmcache_kv_1_", "/lmcache_kv__1",
        "/lmcache_kv_1_2_3", "/lmcache_kv_1_2/..", "/lmcache_kv_1x_2", "lmcache_kv_1_2",
        "/../etc/passwd", "/lmcache_l1_pool_x", "/lmcache_kv_-1_2"}) {
    EXPECT_NE(error_of(name).find("it must be called /lmcache_kv_ and two numbers"),
              std::string::npos)
        << name;
  }
  EXPECT_NE(error_of(std::string{"/lmcache_kv_1_2\0x", 17}).find("must be called"),
            std::string::npos);
}

TEST_F(SegmentsTest, SaysWhyASegmentCannotBeUsed) {
  EXPECT_NE(error_of("/lmcache_kv_1_2").find("worker and server must share one /dev/shm"),
            std::string::npos);
  const TestSegment worker{directory_.path(), 4'096};
  EXPECT_EQ(error_of(worker.name(), 4'097),
            "the shared memory \"" + worker.name() +
                "\" has 4096 bytes; it must have the 4097 that the worker registered");
  EXPECT_NE(error_of(worker.name(), 0).find("is empty"), std::string::npos);
  std::filesystem::create_directory(directory_.path() + "/lmcache_kv_8_8");
  EXPECT_NE(error_of("/lmcache_kv_8_8"), "no error");
  std::filesystem::create_symlink(worker.path(), directory_.path() + "/lmcache_kv_9_9");
  EXPECT_NE(error_of("/lmcache_kv_9_9"), "no error");
  EXPECT_EQ(segments_.mapped(), 0U);
}

TEST_F(SegmentsTest, RefusesTheMemoryOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const TestSegment worker{directory_.path(), 4'096};
  ASSERT_EQ(::chown(worker.path().c_str(), 4242, 4242), 0);
  EXPECT_NE(error_of(worker.name()).find("belongs to user 4242"), std::string::npos);
}

}  // namespace
}  // namespace larder::server
