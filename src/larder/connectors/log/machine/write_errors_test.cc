#include "larder/connectors/log/machine/write_errors.h"

#include <cerrno>

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class WriteErrorsTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    errors_ = std::make_unique<WriteErrors>(*state_);
  }
  std::unique_ptr<WriteErrors> errors_;
};

TEST_F(WriteErrorsTest, AnErrorOfTheDiskDegradesThePath) {
  errors_->note("writing a record", EIO);
  EXPECT_EQ(state_->health.health(), Health::kDegraded);
  EXPECT_EQ(state_->counters.io_errors_total.value(), 1U);
  EXPECT_FALSE(errors_->lacks_space());
}

TEST_F(WriteErrorsTest, ALackOfSpaceIsNoErrorOfTheDisk) {
  for (const int sys_errno : {ENOSPC, EDQUOT, EFBIG}) {
    errors_->try_again();
    errors_->note("writing a record", sys_errno);
    EXPECT_TRUE(errors_->lacks_space());
  }
  EXPECT_EQ(state_->counters.no_space_total.value(), 3U);
  EXPECT_EQ(state_->counters.io_errors_total.value(), 0U);
  EXPECT_TRUE(has_condition("no room to overwrite a segment"));
}

TEST_F(WriteErrorsTest, TheConditionStaysUntilAWriteSucceeds) {
  errors_->note("writing a record", ENOSPC);
  errors_->try_again();
  EXPECT_FALSE(errors_->lacks_space());
  EXPECT_TRUE(has_condition("no room to overwrite a segment"));
  errors_->note_success();
  EXPECT_FALSE(has_condition("no room to overwrite a segment"));
}

TEST_F(WriteErrorsTest, AWriteThatEndedEarlyIsAnErrorOfTheDisk) {
  Transfer transfer;
  transfer.bytes = 4096;
  EXPECT_EQ(errors_->note_failed_write(transfer).code(), ErrorCode::kIo);
  EXPECT_EQ(state_->counters.io_errors_total.value(), 1U);
  transfer.request.sys_errno = ENOSPC;
  EXPECT_EQ(errors_->note_failed_write(transfer).sys_errno(), ENOSPC);
  EXPECT_TRUE(errors_->lacks_space());
}

}  // namespace
}  // namespace larder::log_store
