// P11: no error leaves a key that lookups find and loads do not. And values too large for any load.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "larder/connectors/fs/fs_test_support.h"

namespace larder::fs {
namespace {

constexpr int kErrnos[] = {
    EPERM,       ENOENT,      EIO,          ENXIO,      E2BIG,      EBADF,        EAGAIN,
    ENOMEM,      EACCES,      EFAULT,       EBUSY,      EEXIST,     EXDEV,        ENODEV,
    ENOTDIR,     EISDIR,      EINVAL,       ENFILE,     EMFILE,     ETXTBSY,      EFBIG,
    ENOSPC,      ESPIPE,      EROFS,        EMLINK,     EPIPE,      EDEADLK,      ELOOP,
    ENODATA,     ETIME,       ENOLINK,      EPROTO,     EBADMSG,    EOVERFLOW,    EREMOTEIO,
    ENOLCK,      ENOTEMPTY,   EILSEQ,       ESTALE,     EUCLEAN,    EDQUOT,       ECANCELED,
    ENOKEY,      ENOTCONN,    ESHUTDOWN,    ETIMEDOUT,  EHOSTDOWN,  EHOSTUNREACH, EALREADY,
    EINPROGRESS, EKEYEXPIRED, ENAMETOOLONG, EOPNOTSUPP, ECONNRESET, ECONNREFUSED};

class ReadErrorsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReadErrorsTest, AfterAnyErrorOfALoadTheKeyIsAMissUntilItIsStored) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), std::string{"stall=1h&miss_after_failure=1h&"} + GetParam()};
  const Bytes value = value_of(1, 8'192);  // One that has no trailer to read.
  for (const std::uint32_t operation : {testing::kFileOpens, testing::kReads}) {
    for (const int code : kErrnos) {
      SCOPED_TRACE(std::generic_category().message(code) +
                   (operation == testing::kReads ? " from reading" : " from opening"));
      // After these larder, and io_uring in the kernel, retry and do not fail.
      if (operation == testing::kReads && (code == EAGAIN || code == EOPNOTSUPP)) continue;
      fs.set("key", value, SetMode::kReplace);
      disk->fail(operation, code);
      EXPECT_EQ(*fs.client->exists("key"), value.size()) << "the fault is where it should not be";
      Bytes buffer(value.size());
      const auto loaded = fs.client->get_into("key", buffer);
      ASSERT_FALSE(loaded.has_value()) << "a miss, though lookups find it";
      EXPECT_EQ(loaded.error().sys_errno(), code);
      // Neither the caller's argument nor its cancellation: both would count as no failure.
      EXPECT_NE(loaded.error().code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(loaded.error().code(), ErrorCode::kCancelled);
      EXPECT_EQ(fs.client->exists("key").value(), std::nullopt);
      disk->heal();
      EXPECT_EQ(fs.client->exists("key").value(), std::nullopt);
      EXPECT_EQ(fs.client->get_into("key", buffer).value(), std::nullopt);
      fs.set("key", value_of(2));
      EXPECT_TRUE(fs.has("key", value_of(2))) << "a store if absent did not repair it";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, ReadErrorsTest,
                         ::testing::Values("staged=yes", "staged=no", "staged=no&use_odirect=yes"),
                         [](const auto& way) {
                           const std::string_view text{way.param};
                           return text == "staged=yes"  ? "Staged"
                                  : text == "staged=no" ? "Buffered"
                                                        : "Direct";
                         });

TEST(ReadErrorsTest, AFileThatIsReplacedWhileItIsOpenedIsFound) {
  const testing::TemporaryDirectory directory;
  OpenFs fs{directory.path()};
  // Absent, present, then a directory, then present: each on its own.
  const std::string path = directory.path() + "/" + kFile;
  EXPECT_TRUE(fs.is_miss(kKey));
  write_file(path, value_of(1));
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_TRUE(fs.is_miss(kKey));
}

class LargeFilesTest : public ::testing::TestWithParam<SetMode> {
 protected:
  std::string path() const { return directory.path() + "/" + kFile; }
  void make_sparse(std::uint64_t bytes) const {
    write_file(path(), {});
    ASSERT_EQ(::truncate(path().c_str(), static_cast<off_t>(bytes)), 0);
  }
  testing::TemporaryDirectory directory;
};

TEST_P(LargeFilesTest, AValueThatNoGetCanTakeIsAMissAndAnySetReplacesIt) {
  OpenFs fs{directory.path()};
  make_sparse(kValueBytesMax + 1);
  EXPECT_TRUE(fs.is_miss(kKey));
  EXPECT_TRUE(fs.connector->scan({}, 10)->entries.empty());
  EXPECT_GE(fs.counter("files_wrong_size_total"), 2U);
  fs.set(kKey, value_of(1), GetParam());
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
  make_sparse(kValueBytesMax);
  EXPECT_EQ(fs.client->exists(kKey).value(), kValueBytesMax);
  EXPECT_TRUE(*fs.client->remove(kKey));
}

TEST_P(LargeFilesTest, WhatWasStoredUnderALargerBoundLoadsAndIsReplacedAsUsual) {
  OpenFs{directory.path()}.set(kKey, value_of(1, 100'000));
  OpenFs fs{directory.path(), "max_value=10KiB"};
  EXPECT_TRUE(fs.has(kKey, value_of(1, 100'000)));
  EXPECT_EQ(fs.client->set("large", value_of(2, 100'000)).error().code(),
            ErrorCode::kInvalidArgument);
  fs.set(kKey, value_of(2, 10'000), GetParam(), GetParam() == SetMode::kIfAbsent);
}

INSTANTIATE_TEST_SUITE_P(Modes, LargeFilesTest,
                         ::testing::Values(SetMode::kIfAbsent, SetMode::kReplace),
                         [](const auto& mode) {
                           return mode.param == SetMode::kIfAbsent ? "IfAbsent" : "Replace";
                         });

}  // namespace
}  // namespace larder::fs
