#include "larder/connectors/log/format/file_names.h"

#include <gtest/gtest.h>

namespace larder::log_store {
namespace {

TEST(FileNamesTest, FileNamesAndNumbersGoBothWays) {
  EXPECT_EQ(segment_file_name(0), "segment-0000000");
  EXPECT_EQ(segment_file_name(42), "segment-0000042");
  for (const std::uint32_t number : {0U, 1U, 42U, 99999U, 1048575U, 9999999U}) {
    EXPECT_EQ(segment_of_file_name(segment_file_name(number)), number);
  }
  for (const char* const name :
       {"segment-", "segment-1", "segment-000000", "segment-00000001", "segment-00000x1",
        "segment-+000001", "segment--000001", "Segment-0000001", "segment-0000001.bak",
        "superblock", "xsegment-0000001", "segment-000001 "}) {
    EXPECT_FALSE(segment_of_file_name(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace larder::log_store
