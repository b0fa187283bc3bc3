#include "larder/connectors/log/machine/record_writer.h"

#include <algorithm>

#include "larder/connectors/log/machine/append_parts_test_support.h"

namespace larder::log_store {
namespace {

constexpr Error kDown{ErrorCode::kUnavailable, "log", "the storage does not answer"};

class RecordWriterTest : public AppendPartsTest {
 protected:
  void SetUp() override {
    AppendPartsTest::SetUp();
    writer_ = std::make_unique<RecordWriter>(*state_, *errors_, *publisher_);
  }
  StoreTask& start(const std::string& key, std::uint64_t bytes, std::size_t misalignment = 0) {
    return start(tasks_->store(key, bytes, misalignment));
  }
  StoreTask& start(StoreTask& task) {
    EXPECT_TRUE(writer_->prepare(task));
    writer_->take_place(*head_, task);
    note_placed(task);
    writer_->start(task);
    return task;
  }
  /// Whether the disk has the record as a load would want it.
  bool is_whole(const StoreTask& task) const {
    if (task.is_packed) return is_whole_in_pack(task);
    const std::uint64_t offset = std::uint64_t{task.location.grain} * kGrain;
    const auto grain = disk_.read_image(segment_file_name(0), offset, kGrain);
    const auto header =
        decode_record_header(grain, state_->identity(0), offset, state_->superblock.secret);
    if (!header || header->value_bytes != task.value_bytes) return false;
    if (!std::ranges::equal(header->payload, task.key)) return false;
    const auto value = disk_.read_image(segment_file_name(0), offset + kGrain, task.value_bytes);
    const Slice& slice = task.value.front();
    return hash128(value) == header->checksum &&
           std::ranges::equal(value, std::span{slice.data, slice.bytes});
  }
  /// The header of the pack is somewhere before the value, and tells of it.
  bool is_whole_in_pack(const StoreTask& task) const {
    const std::uint64_t value_at = std::uint64_t{task.location.grain} * kGrain;
    for (std::uint64_t offset = value_at - kGrain; offset >= kGrain; offset -= kGrain) {
      const auto grain = disk_.read_image(segment_file_name(0), offset, kGrain);
      const auto header =
          decode_record_header(grain, state_->identity(0), offset, state_->superblock.secret);
      if (!header) continue;
      if (header->kind != RecordKind::kPack) return false;
      const auto values = packed_values(header->payload);
      EXPECT_TRUE(values.has_value());
      if (!values) return false;
      std::uint64_t at = offset + kGrain;
      bool is_found = false;
      Hash128 checksum{};
      for (const PackedValue& value : *values) {
        if (at == value_at && std::ranges::equal(value.key, task.key)) {
          is_found = value.value_bytes == task.value_bytes;
          checksum = value.checksum;
        }
        at += round_up(value.value_bytes, kGrain);
      }
      EXPECT_EQ(at, offset + kGrain + header->value_bytes);
      const auto value = disk_.read_image(segment_file_name(0), value_at, task.value_bytes);
      const Slice& slice = task.value.front();
      return is_found && hash128(value) == checksum &&
             std::ranges::equal(value, std::span{slice.data, slice.bytes});
    }
    return false;
  }
  std::uint64_t appended_grains() { return segment(0).append_offset / kGrain - 1; }
  void take_all_transfers() {
    while (Transfer* const transfer = state_->transfers.acquire()) taken_.push_back(transfer);
  }
  void give_transfers_back() {
    for (Transfer* const transfer : taken_) state_->transfers.release(*transfer);
    taken_.clear();
  }

  std::unique_ptr<RecordWriter> writer_;
  std::vector<Transfer*> taken_;
};

TEST_F(RecordWriterTest, NeighboursAreWrittenTogether) {
  const std::vector<StoreTask*> tasks{&start("a", 100), &start("b", 5000), &start("c", 4096)};
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  writer_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 1U);
  run();
  EXPECT_EQ(sink_.stores, tasks);
  EXPECT_EQ(disk_.counts().writes, 1U);
  EXPECT_EQ(appended_grains(), 5U);  // One header, and 1, 2 and 1 grains of values.
  for (const StoreTask* const task : tasks) {
    EXPECT_TRUE(task->is_packed);
    EXPECT_TRUE(is_whole(*task));
    EXPECT_TRUE(points_to(*task));
  }
}

TEST_F(RecordWriterTest, EmptyValuesAndThoseHashedByThreadsHaveHeadersOfTheirOwn) {
  const StoreTask& empty = start("empty", 0);
  const StoreTask& other = start("other", 0);
  const StoreTask& packed = start("packed", 100);
  const StoreTask& last = start("last", 0);
  writer_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 3U);  // Two of one run, a pack, and one more.
  run();
  EXPECT_EQ(appended_grains(), 5U);
  EXPECT_TRUE(packed.is_packed);
  for (const StoreTask* const task : {&empty, &other, &packed, &last}) {
    EXPECT_EQ(task->is_packed, task == &packed);
    EXPECT_TRUE(is_whole(*task));
  }
  EXPECT_EQ(state_->kind_of_new(kHashInlineBytesMax), RecordKind::kValue);
}

TEST_F(RecordWriterTest, APackEndsWhereItsHeaderIsFull) {
  const std::string long_key(1000, 'k');
  for (int i = 0; i < 7; ++i) start(long_key + std::to_string(i), 100);
  writer_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 3U);
  run();
  EXPECT_EQ(appended_grains(), 10U);
  for (const StoreTask* const task : sink_.stores) EXPECT_TRUE(is_whole(*task));
}

TEST_F(RecordWriterTest, AGapEndsTheRun) {
  start("a", 100);
  head_->allocate(kGrain, 0, 0);
  start("b", 100);
  writer_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 2U);
  run();
  EXPECT_EQ(sink_.stores.size(), 2U);
}

TEST_F(RecordWriterTest, WhatMissesTheAlignmentGoesThroughStagingMemory) {
  const StoreTask& aligned = start("a", 8192);
  const StoreTask& misaligned = start("b", 5000, 8);
  writer_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 1U);
  EXPECT_GT(state_->staging.bytes_in_use(), 0U);
  run();
  EXPECT_EQ(state_->staging.bytes_in_use(), 0U);
  EXPECT_EQ(state_->counters.bytes_staged_total.value(), 8192U + 5000U);  // The run as a whole.
  EXPECT_TRUE(is_whole(aligned));
  EXPECT_TRUE(is_whole(misaligned));
}

TEST_F(RecordWriterTest, OfARunThatFailsExactlyTheRecordsBehindThePrefixFail) {
  disk_.faults().write_error = 1;
  for (int i = 0; i < 6; ++i) start("key" + std::to_string(i), 100);
  writer_->flush();
  run();
  ASSERT_EQ(sink_.stores.size(), 6U);
  bool has_failed = false;
  for (const StoreTask* const task : sink_.stores) {
    const bool failed = task->error.code() != ErrorCode::kNone;
    EXPECT_FALSE(has_failed && !failed) << "behind one that failed";
    has_failed = has_failed || failed;
    EXPECT_NE(points_to(*task), failed);
    EXPECT_TRUE(failed || is_whole(*task));
  }
  EXPECT_TRUE(has_failed);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
}

TEST_F(RecordWriterTest, ALongRecordGoesInPiecesWithItsHeaderLast) {
  const StoreTask& task = start("long", 3 * kIoBytes + 100);
  EXPECT_EQ(state_->transfers.in_flight(), 5U);  // Four pieces, and it was hashed in line.
  EXPECT_TRUE(task.header_submitted);
  run();
  EXPECT_EQ(sink_.stores.size(), 1U);
  EXPECT_TRUE(is_whole(task));
  EXPECT_TRUE(points_to(task));
}

TEST_F(RecordWriterTest, ALongRecordWithAFailedPieceIsNone) {
  disk_.faults().write_error = 1;
  StoreTask& task = start("long", 2 * kIoBytes);
  run();
  EXPECT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(task.error.code(), ErrorCode::kIo);
  EXPECT_FALSE(points_to(task));
  EXPECT_EQ(state_->staging.bytes_in_use(), 0U);
}

TEST_F(RecordWriterTest, WhatLacksATransferGoesOnInItsOrder) {
  take_all_transfers();
  const StoreTask& first = start("a", 100);
  writer_->flush();
  EXPECT_TRUE(writer_->has_waiting());
  const StoreTask& second = start("long", 2 * kIoBytes);
  writer_->pump();
  EXPECT_TRUE(writer_->has_waiting());
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  give_transfers_back();
  writer_->pump();
  EXPECT_FALSE(writer_->has_waiting());
  run();
  EXPECT_EQ(sink_.stores.size(), 2U);
  EXPECT_TRUE(is_whole(first));
  EXPECT_TRUE(is_whole(second));
}

TEST_F(RecordWriterTest, WhatLacksStagingMemoryWaitsForIt) {
  const auto memory = state_->staging.allocate(state_->staging.capacity());
  const StoreTask& task = start("a", 5000, 8);
  writer_->flush();
  EXPECT_TRUE(writer_->has_waiting());
  EXPECT_EQ(state_->transfers.available(), 16U);  // It holds no transfer meanwhile.
  state_->staging.release(memory);
  writer_->pump();
  run();
  EXPECT_TRUE(is_whole(task));
}

TEST_F(RecordWriterTest, WhatWaitsWhenThePathIsDownFails) {
  take_all_transfers();
  start("a", 100);
  start("b", 100);
  writer_->flush();
  start("long", 2 * kIoBytes);
  writer_->fail_waiting(kDown);
  EXPECT_FALSE(writer_->has_waiting());
  ASSERT_EQ(sink_.stores.size(), 3U);
  for (const StoreTask* const task : sink_.stores) {
    EXPECT_EQ(task->error.code(), ErrorCode::kUnavailable);
  }
  EXPECT_EQ(state_->index.keys(), 0U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  give_transfers_back();
}

TEST_F(RecordWriterTest, AMoveKeepsTheChecksumThatItCameWith) {
  StoreTask& move = tasks_->store("a", 100);
  move.source = Location{.segment = 5, .grain = 9};
  move.checksum = Hash128{.low = 1, .high = 2};  // As if the value had changed since.
  start(move);
  writer_->flush();
  run();
  EXPECT_FALSE(is_whole(move));
  EXPECT_EQ(move.checksum, (Hash128{.low = 1, .high = 2}));
}

}  // namespace
}  // namespace larder::log_store
