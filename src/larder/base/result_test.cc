#include "larder/base/result.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "larder/base/check.h"

namespace larder {
namespace {

static_assert(std::is_trivially_copyable_v<Error>);

Result<int> half_of(int number) {
  if (number % 2 != 0) return Error{ErrorCode::kInvalidArgument, "test", "odd"};
  return number / 2;
}

Status check_even(int number) {
  LARDER_TRY(half_of(number));
  return {};
}

Result<std::unique_ptr<int>> quarter_of(int number) {
  LARDER_ASSIGN(const int half, half_of(number));
  LARDER_ASSIGN(auto quarter, half_of(half));
  return std::make_unique<int>(quarter);
}

TEST(ResultTest, TryReturnsTheErrorOrGoesOn) {
  EXPECT_TRUE(check_even(2));
  const Status status = check_even(3);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().what(), "odd");
}

TEST(ResultTest, AssignTakesTheValueOrReturnsTheFirstError) {
  auto quarter = quarter_of(8);
  ASSERT_TRUE(quarter);
  EXPECT_EQ(**quarter, 2);
  EXPECT_FALSE(quarter_of(6));
  EXPECT_FALSE(quarter_of(1));
}

TEST(ResultTest, SetupErrorsCarryTheirText) {
  const SetupResult<int> result = SetupError{ErrorCode::kInvalidArgument, "capacity is missing"};
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text, "capacity is missing");
}

TEST(ErrorTest, EveryCodeHasItsOwnName) {
  std::vector<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::kSizeMismatch); ++code) {
    names.push_back(error_code_name(static_cast<ErrorCode>(code)));
  }
  EXPECT_EQ(names.front(), "none");
  EXPECT_EQ(names[3], "unavailable");
  EXPECT_EQ(names.back(), "size_mismatch");
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
  EXPECT_EQ(std::ranges::count(names, "unknown"), 0);
  EXPECT_EQ(error_code_name(static_cast<ErrorCode>(200)), "unknown");
}

TEST(ErrorTest, TakesErrnoOfEitherSign) {
  const auto positive = Error::from_errno(EIO, "log", "reading a record");
  const auto negative = Error::from_errno(-EIO, "log", "reading a record");
  EXPECT_EQ(positive.sys_errno(), EIO);
  EXPECT_EQ(negative.sys_errno(), EIO);
  EXPECT_EQ(positive.code(), ErrorCode::kIo);
  EXPECT_EQ(negative.to_string(), "log: reading a record: Input/output error (errno 5)");
  EXPECT_EQ((Error{ErrorCode::kCorruption, "log", "bad checksum"}).to_string(),
            "log: bad checksum");
  EXPECT_EQ(Error::from_errno(EMFILE, "io", "opening a file").to_string(),
            "io: opening a file: Too many open files (raise the limit: ulimit -n) (errno 24)");
}

TEST(ErrorTest, LimitsOfTheSystemAreRetryable) {
  for (const int limit : {ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EAGAIN}) {
    const auto error = Error::from_errno(limit, "test", "test");
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted) << limit;
    EXPECT_TRUE(error.is_retryable()) << limit;
  }
  EXPECT_EQ(Error::from_errno(ETIMEDOUT, "", "").code(), ErrorCode::kDeadlineExceeded);
  // The caller did not cause it: otherwise it would not count as a failure, and would leave no
  // trace (C6).
  EXPECT_EQ(Error::from_errno(EINVAL, "", "").code(), ErrorCode::kIo);
  EXPECT_EQ(Error::from_errno(ECANCELED, "", "").code(), ErrorCode::kIo);
  EXPECT_FALSE(Error::from_errno(EIO, "", "").is_retryable());
}

TEST(CheckDeathTest, AbortsAndNamesTheCondition) {
  const int number = 1;
  LARDER_CHECK(number == 1);
  EXPECT_DEATH(LARDER_CHECK(number == 2), "result_test.cc:.*LARDER_CHECK failed: number == 2");
}

}  // namespace
}  // namespace larder
