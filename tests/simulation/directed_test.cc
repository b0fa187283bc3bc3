// Histories that chance does not make, or whose rule no outcome of a random one shows.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/logging.h"
#include "larder/connectors/log/segments.h"
#include "tests/simulation/store_under_test.h"

namespace larder::simulation {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::size_t kValueBytes = 8192;
constexpr std::size_t kGrain = log_store::kGrainBytesMin;

log_store::PathOptions path_options() {
  log_store::PathOptions options;
  options.segment_bytes = 256 * 1024;
  options.capacity_bytes = 8 * options.segment_bytes;
  options.segments_min = 4;
  options.value_bytes_max = 64 * 1024;
  options.io_bytes = 64 * 1024;
  options.coalesce_bytes = 64 * 1024;
  options.staging_bytes = 1024 * 1024;
  options.hash_threads = 0;
  options.id_seed = 1;
  return options;
}

/// A batch of one item with memory of its own.
struct OneItem {
  OneItem(Op op, std::string_view key_text, std::byte filling = {})
      : key(key_text), memory(AlignedBuffer::create(kValueBytes, kGrain).value()) {
    std::memset(memory.data(), static_cast<int>(filling), memory.size());
    slice = {.data = memory.data(), .bytes = memory.size()};
    item.key = std::as_bytes(std::span{key});
    if (op == Op::kGet || op == Op::kSet) item.value = {&slice, 1};
    batch.items = {&item, 1};
    batch.op = op;
    batch.set_mode = SetMode::kReplace;
    batch.user_data = this;
  }
  OneItem(const OneItem&) = delete;
  OneItem& operator=(const OneItem&) = delete;

  std::string key;
  AlignedBuffer memory;
  Slice slice;
  Item item;
  Batch batch;
  bool is_back = false;
};

class DirectedTest : public ::testing::Test {
 protected:
  DirectedTest()
      : store_(path_options(), {},
               [](Batch& batch) { static_cast<OneItem*>(batch.user_data)->is_back = true; }) {
    set_log_level(LogLevel::kOff);
    EXPECT_TRUE(store_.open());
  }

  void step(std::uint64_t for_ns) {
    store_.turn();
    store_.wait(store_.clock().now_ns() + for_ns);
  }
  /// Runs until it is back; gives up after a second.
  Outcome end(OneItem& one) {
    const std::uint64_t until_ns = store_.clock().now_ns() + 1000 * kMillisecond;
    while (!one.is_back && store_.clock().now_ns() < until_ns) step(kMillisecond);
    EXPECT_TRUE(one.is_back) << one.key;
    return one.item.outcome;
  }
  Outcome set(std::string_view key, std::byte filling) {
    OneItem one{Op::kSet, key, filling};
    store_.accept(one.batch);
    return end(one);
  }
  /// A bit in the key's value on the disk.
  void flip_bit_of(std::string_view key) {
    const auto place = store_.path().place_for_test(std::as_bytes(std::span{key}));
    ASSERT_TRUE(place);
    const log_store::Segments& segments = store_.path().segments_for_test();
    for (std::uint32_t i = 0; i < segments.count(); ++i) {
      if (segments.at(i).generation != place->generation) continue;
      store_.disk().flip_bit(log_store::segment_file_name(i), place->offset + kGrain + 100, 3);
    }
  }

  StoreUnderTest store_;
};

TEST_F(DirectedTest, AFailedLoadLeavesANewerRecordAlone) {
  ASSERT_EQ(set("key", std::byte{1}), Outcome::kDone);
  flip_bit_of("key");
  OneItem old_load{Op::kGet, "key"};
  store_.disk().faults().stall = 1;
  store_.disk().faults().stall_ns = 50 * kMillisecond;
  store_.accept(old_load.batch);
  step(kMillisecond);
  store_.disk().faults().stall = 0;
  ASSERT_EQ(set("key", std::byte{2}), Outcome::kDone);
  ASSERT_FALSE(old_load.is_back);

  EXPECT_EQ(end(old_load), Outcome::kFailed);
  EXPECT_EQ(old_load.item.error.code(), ErrorCode::kCorruption);
  OneItem load{Op::kGet, "key"};
  store_.accept(load.batch);
  EXPECT_EQ(end(load), Outcome::kHit);
  EXPECT_EQ(load.memory.span()[0], std::byte{2});
}

}  // namespace
}  // namespace larder::simulation
