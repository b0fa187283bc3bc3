// Histories that chance does not make, or whose rule no outcome of a random one shows.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/logging.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/machine/segments.h"
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
  options.events_max = 100;
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

  void submit(OneItem& one) { EXPECT_TRUE(store_.submit(one.batch)); }
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
    submit(one);
    return end(one);
  }
  void close() {
    store_.begin_stop();
    while (!store_.path().is_idle()) step(kMillisecond);
    ASSERT_TRUE(store_.close());
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
  submit(old_load);
  step(kMillisecond);
  store_.disk().faults().stall = 0;
  ASSERT_EQ(set("key", std::byte{2}), Outcome::kDone);
  ASSERT_FALSE(old_load.is_back);

  EXPECT_EQ(end(old_load), Outcome::kFailed);
  EXPECT_EQ(old_load.item.error.code(), ErrorCode::kCorruption);
  OneItem load{Op::kGet, "key"};
  submit(load);
  EXPECT_EQ(end(load), Outcome::kHit);
  EXPECT_EQ(load.memory.span()[0], std::byte{2});
}

/// A write that failed may land after its owner was told, over what that wrote next.
TEST_F(DirectedTest, AFailedHeaderDoesNotLandOverTheNextOne) {
  io::SimulatedFaults& faults = store_.disk().faults();
  faults.lands_after_error = 1;
  faults.remove_error = 1;  // So the header goes to the same place.
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> stored;
    for (int i = 0; i < 60; ++i) {
      faults.write_error = i % 2 == 0 ? 0.5 : 0;
      const std::string key = std::to_string(round) + "-" + std::to_string(i);
      if (set(key, std::byte{1}) == Outcome::kDone) stored.push_back(key);
    }
    faults.write_error = 0;
    ASSERT_EQ(set("last", std::byte{1}), Outcome::kDone);
    std::erase_if(stored, [this](const std::string& key) {
      return !store_.path().place_for_test(std::as_bytes(std::span{key}));
    });
    store_.kill();
    ASSERT_TRUE(store_.open());
    // The oldest of what was there may have been evicted by the open.
    for (const std::string& key :
         std::span{stored}.last(std::min<std::size_t>(stored.size(), 25))) {
      OneItem load{Op::kGet, key};
      submit(load);
      EXPECT_EQ(end(load), Outcome::kHit) << key;
    }
  }
}

/// The next owner appended behind the checkpoint of a clean close, and died before it began a
/// segment of its own: then nothing but the superblock tells that it has been.
TEST_F(DirectedTest, AnOlderSuperblockDoesNotBelieveACheckpointAgain) {
  const std::string superblock{log_store::kSuperblockFileName};
  ASSERT_EQ(set("key", std::byte{1}), Outcome::kDone);
  close();
  const std::uint64_t bytes = store_.disk().file_bytes(superblock);
  const std::vector<std::byte> backup =
      store_.disk().read_image(superblock, 0, static_cast<std::size_t>(bytes));
  ASSERT_TRUE(store_.open());
  ASSERT_EQ(set("key", std::byte{2}), Outcome::kDone);
  const std::uint64_t open_count = store_.path().superblock().open_count;
  std::vector<std::string> begun;
  const log_store::Segments& segments = store_.path().segments_for_test();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const bool is_new = segments.at(i).generation >> 32 == open_count;
    if (is_new && segments.at(i).has_file) begun.push_back(log_store::segment_file_name(i));
  }
  store_.kill();
  for (const std::string& name : begun) store_.disk().remove(name);
  store_.disk().write_image(superblock, 0, backup);
  ASSERT_TRUE(store_.open());
  OneItem load{Op::kGet, "key"};
  submit(load);
  EXPECT_EQ(end(load), Outcome::kHit);
  EXPECT_EQ(load.memory.span()[0], std::byte{2});
}

/// SIGSTOP, or a machine that was suspended, while a transfer was in flight.
TEST_F(DirectedTest, APathThatDidNotRunIsNotDownForIt) {
  constexpr std::uint64_t kSecond = 1000 * kMillisecond;
  ASSERT_EQ(set("key", std::byte{1}), Outcome::kDone);
  store_.disk().faults().stall = 1;
  store_.disk().faults().stall_ns = 21 * kSecond;
  OneItem load{Op::kGet, "key"};
  submit(load);
  step(kMillisecond);
  store_.clock().advance_ns(20 * kSecond);
  step(kMillisecond);
  EXPECT_FALSE(store_.path().health().is_down()) << "nobody knows whether the disk has answered";
  store_.disk().faults().stall = 0;
  const std::uint64_t until_ns = store_.clock().now_ns() + 3 * kSecond;
  while (!load.is_back && store_.clock().now_ns() < until_ns) step(kMillisecond);
  ASSERT_TRUE(load.is_back);
  EXPECT_EQ(load.item.outcome, Outcome::kHit);
  EXPECT_FALSE(store_.path().health().is_down());
}

TEST_F(DirectedTest, ATransferWithoutAnAnswerStillTakesThePathDown) {
  constexpr std::uint64_t kSecond = 1000 * kMillisecond;
  ASSERT_EQ(set("key", std::byte{1}), Outcome::kDone);
  store_.disk().faults().stall = 1;
  store_.disk().faults().stall_ns = kNever;
  OneItem load{Op::kGet, "key"};
  submit(load);
  step(kMillisecond);
  store_.clock().advance_ns(20 * kSecond);
  const std::uint64_t until_ns = store_.clock().now_ns() + 6 * kSecond;
  while (!store_.path().health().is_down() && store_.clock().now_ns() < until_ns) {
    step(100 * kMillisecond);
  }
  EXPECT_TRUE(store_.path().health().is_down()) << "after its whole time once more";
  store_.disk().faults().stall = 0;
  store_.disk().release_stalls();
  while (!load.is_back) step(kMillisecond);
}

/// A store that a delete overtakes on its way: the delete answers for it, and nobody is told that
/// the key is there.
TEST_F(DirectedTest, ADeleteThatOvertakesAStoreCountsItAndTellsNoListener) {
  ASSERT_EQ(set("other", std::byte{1}), Outcome::kDone);
  const EventCursor from = store_.path().events().read({}, 10).next;
  store_.disk().faults().stall = 1;
  store_.disk().faults().stall_ns = 100 * kMillisecond;
  OneItem store{Op::kSet, "key", std::byte{1}};
  submit(store);
  step(kMillisecond);
  store_.disk().faults().stall = 0;
  OneItem erase{Op::kDelete, "key"};
  OneItem again{Op::kDelete, "key"};
  submit(erase);
  EXPECT_EQ(end(erase), Outcome::kDone) << "the store came before it";
  submit(again);
  EXPECT_EQ(end(again), Outcome::kMiss) << "and was undone by the first";
  ASSERT_FALSE(store.is_back);
  EXPECT_EQ(end(store), Outcome::kDone);
  OneItem load{Op::kGet, "key"};
  submit(load);
  EXPECT_EQ(end(load), Outcome::kMiss);
  EXPECT_TRUE(store_.path().events().read(from, 10).events.empty());

  ASSERT_EQ(set("key", std::byte{2}), Outcome::kDone);
  OneItem last{Op::kDelete, "key"};
  submit(last);
  EXPECT_EQ(end(last), Outcome::kDone);
  EXPECT_EQ(store_.path().events().read(from, 10).events.size(), 2U) << "stored and removed";
}

}  // namespace
}  // namespace larder::simulation
