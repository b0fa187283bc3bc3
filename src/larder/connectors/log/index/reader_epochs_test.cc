#include "larder/connectors/log/index/reader_epochs.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace larder::log_store {
namespace {

TEST(ReaderEpochsTest, WithoutReadersTwoAdvancesClear) {
  ReaderEpochs epochs;
  const std::uint64_t replaced_in = epochs.now();

  EXPECT_FALSE(epochs.is_clear(replaced_in));
  EXPECT_TRUE(epochs.advance());
  EXPECT_FALSE(epochs.is_clear(replaced_in));
  EXPECT_TRUE(epochs.advance());
  EXPECT_TRUE(epochs.is_clear(replaced_in));
}

TEST(ReaderEpochsTest, NothingIsClearBeforeAReaderThatMayHaveSeenItLeaves) {
  // The reader came in the epoch of the replacement, or in the one before.
  for (const bool is_one_before : {false, true}) {
    ReaderEpochs epochs;
    const std::uint64_t reader = epochs.enter();
    if (is_one_before) {
      ASSERT_TRUE(epochs.advance());
    }
    const std::uint64_t replaced_in = epochs.now();

    for (int i = 0; i < 5; ++i) {
      epochs.advance();
      ASSERT_FALSE(epochs.is_clear(replaced_in));
    }
    epochs.leave(reader);
    while (!epochs.is_clear(replaced_in)) ASSERT_TRUE(epochs.advance());
  }
}

TEST(ReaderEpochsTest, ReadersThatComeLaterDoNotKeepItForEver) {
  ReaderEpochs epochs;
  std::uint64_t reader = epochs.enter();
  const std::uint64_t replaced_in = epochs.now();

  // There is always one reader, and never one for long.
  for (int i = 0; i < 3; ++i) {
    epochs.advance();
    const std::uint64_t next = epochs.enter();
    epochs.leave(reader);
    reader = next;
  }

  EXPECT_TRUE(epochs.is_clear(replaced_in));
  epochs.leave(reader);
}

}  // namespace
}  // namespace larder::log_store
