#include "larder/connectors/log/machine/disk_probe.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class DiskProbeTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    const auto made = device_->make(kSuperblockFileName, kSuperblockFileBytes);
    ASSERT_TRUE(made.has_value());
    const auto file = device_->open(kSuperblockFileName, io::OpenMode::kExisting);
    ASSERT_TRUE(file.has_value());
    file_ = *file;
    state_->health.note_stall(clock_.now_ns(), state_->options.stall_ns);
    ASSERT_TRUE(state_->health.is_down());
  }
  /// Whether the path is down after it.
  bool is_down_after_a_probe() {
    DiskProbe probe{*state_};
    probe.start(file_);
    run();
    EXPECT_FALSE(probe.is_busy());
    return state_->health.is_down();
  }

  io::FileId file_ = 0;
};

TEST_F(DiskProbeTest, ADiskThatWritesAndReadsBringsThePathBack) {
  EXPECT_FALSE(is_down_after_a_probe());
}

TEST_F(DiskProbeTest, ADiskThatCannotWriteOrCannotReadLeavesItDown) {
  disk_.faults().write_error = 1;
  EXPECT_TRUE(is_down_after_a_probe());
  disk_.faults().write_error = 0;
  disk_.faults().read_error = 1;
  EXPECT_TRUE(is_down_after_a_probe());
}

// The copies share the blocks, and the disk has none to overwrite one: that says nothing about
// reads.
TEST_F(DiskProbeTest, AFullDiskThatReadsBringsThePathBack) {
  ASSERT_TRUE(device_->make("others", device_->space()->free_bytes).has_value());
  disk_.copy_by_reference();
  EXPECT_FALSE(is_down_after_a_probe());
  EXPECT_GT(disk_.counts().out_of_space, 0U);
}

TEST_F(DiskProbeTest, AFullDiskThatCannotReadLeavesItDown) {
  ASSERT_TRUE(device_->make("others", device_->space()->free_bytes).has_value());
  disk_.copy_by_reference();
  disk_.faults().read_error = 1;
  EXPECT_TRUE(is_down_after_a_probe());
}

}  // namespace
}  // namespace larder::log_store
