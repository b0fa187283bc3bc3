#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/path_state.h"
#include "tests/support/io/simulated_device.h"

namespace larder::log_store {

/// The shared state of a path's parts, over a simulated disk with a few segments, without a driver:
/// a test runs its part and lets the disk work with run().
class PathStateTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kGrain = 4096;
  static constexpr std::uint64_t kSegmentBytes = 64 * kGrain;
  static constexpr std::uint32_t kIoBytes = 8 * kGrain;

  PathStateTest() {
    options_.value_bytes_max = 4 * kIoBytes;
    options_.io_bytes = kIoBytes;
    options_.staging_bytes = 64 * kGrain;
    options_.hash_threads = 0;
    options_.depth = 16;
  }
  void SetUp() override { open(6); }

  /// Anew, with so many files at most and none there.
  void open(std::uint32_t files) {
    state_.reset();
    device_ = disk_.mount();
    Superblock superblock;
    superblock.grain_bytes = kGrain;
    superblock.open_count = 3;
    const Geometry geometry{.grain_bytes = kGrain,
                            .segment_count = files,
                            .slot_bytes = kSegmentBytes + 65536,
                            .segment_bytes = kSegmentBytes};
    auto memory = PathMemory::create(options_, kGrain);
    ASSERT_TRUE(memory.has_value());
    state_ = std::make_unique<PathState>(options_, geometry, superblock, files, std::move(*memory),
                                         *device_, *device_, clock_, "the disk");
    state_->hash_pool = *HashPool::create(0, [] {});
    state_->file_calls = *FileCalls::create(*device_, *device_, clock_, false);
  }

  /// Gives the segment a file of its own; it becomes the last of the free ones.
  void make_free(std::uint32_t number) {
    ASSERT_TRUE(device_->make(segment_file_name(number), kSegmentBytes).has_value());
    const auto file = device_->open(segment_file_name(number), io::OpenMode::kExisting);
    ASSERT_TRUE(file.has_value());
    state_->segments.at(number).file = *file;
    state_->segments.set_has_file(number, true);
    state_->segments.push_free(number);
  }
  /// The same, up to the head.
  void make_open(std::uint32_t number, std::uint64_t generation) {
    make_free(number);
    state_->segments.begin_preparing(number, generation);
    state_->segments.note_ready(number);
    state_->segments.begin_appending(number);
  }
  Segment& segment(std::uint32_t number) { return state_->segments.at(number); }

  /// Lets everything in flight end.
  void run() {
    while (state_->transfers.in_flight() > 0) {
      device_->wait(kNever);
      state_->transfers.poll();
    }
  }
  bool has_condition(const std::string& part) const {
    for (const std::string& reason : state_->health.snapshot().second) {
      if (reason.find(part) != std::string::npos) return true;
    }
    return false;
  }

  PathOptions options_;  ///< For open().
  ManualClock clock_;
  io::SimulatedDisk disk_{io::SimulatedDiskOptions{}, clock_};
  std::unique_ptr<io::SimulatedDevice> device_;
  std::unique_ptr<PathState> state_;
};

/// Remembers which tasks ended.
class RecordingSink final : public StoreSink {
 public:
  void on_store(StoreTask& task) noexcept override { stores.push_back(&task); }
  void on_delete(DeleteTask& task) noexcept override { deletes.push_back(&task); }
  bool on_written(StoreTask& /*task*/) noexcept override {
    ++written;
    return is_batch_complete;
  }

  std::vector<StoreTask*> stores;
  std::vector<DeleteTask*> deletes;
  std::uint32_t written = 0;
  bool is_batch_complete = false;
};

/// Tasks with keys and values of their own.
class TestTasks {
 public:
  explicit TestTasks(PathState& state, StoreSink& sink) : state_(state), sink_(sink) {}

  /// With `misalignment` the value's memory misses the device's alignment.
  StoreTask& store(const std::string& key, std::uint64_t bytes, std::size_t misalignment = 0) {
    Store& one = stores_.emplace_back();
    one.key = key;
    one.memory = *AlignedBuffer::create(round_up(bytes + misalignment, 4096) + 4096, 4096);
    Random{bytes + key.size()}.fill(one.memory.span());
    one.slice = {.data = one.memory.data() + misalignment, .bytes = bytes};
    one.task.fingerprint = state_.fingerprint(std::as_bytes(std::span{one.key}));
    one.task.key = std::as_bytes(std::span{one.key});
    one.task.value = {&one.slice, 1};
    one.task.value_bytes = bytes;
    one.task.sink = &sink_;
    return one.task;
  }
  DeleteTask& erase(const std::string& key) {
    Erase& one = erases_.emplace_back();
    one.key = key;
    one.task.fingerprint = state_.fingerprint(std::as_bytes(std::span{one.key}));
    one.task.key = std::as_bytes(std::span{one.key});
    one.task.sink = &sink_;
    return one.task;
  }

 private:
  struct Store {
    std::string key;
    AlignedBuffer memory;
    Slice slice;
    StoreTask task;
  };
  struct Erase {
    std::string key;
    DeleteTask task;
  };
  PathState& state_;
  StoreSink& sink_;
  std::deque<Store> stores_;
  std::deque<Erase> erases_;
};

}  // namespace larder::log_store
