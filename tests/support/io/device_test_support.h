#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/io/device.h"
#include "tests/support/io/simulated_device.h"
#include "tests/support/io/simulated_disk.h"
#include "tests/support/temporary_directory.h"

namespace larder::io {

/// Every file system that tests run on can do direct I/O at this.
inline constexpr std::size_t kTestBlock = 4096;

struct BackendKind {
  std::string backend;  ///< "uring", "threads" or "simulated".
  DirectIo direct = DirectIo::kNever;
};

/// A device of any kind. Owns what it points to.
struct TestDevice {
  TestDevice() = default;
  explicit TestDevice(Device opened)
      : directory(opened.directory.get()), queue(opened.queue.get()), real(std::move(opened)) {}
  explicit TestDevice(std::unique_ptr<SimulatedDevice> mounted)
      : directory(mounted.get()), queue(mounted.get()), simulated(std::move(mounted)) {}

  Directory* directory = nullptr;
  TransferQueue* queue = nullptr;
  Device real;
  std::unique_ptr<SimulatedDevice> simulated;
};

/// A directory and the means to open devices on it, of one kind.
class DeviceHarness {
 public:
  explicit DeviceHarness(BackendKind kind) : kind_(std::move(kind)) {}

  /// Why this kind cannot be tested here; nothing when it can.
  std::optional<std::string> why_not();
  TestDevice open(DeviceOptions options = {});
  bool is_simulated() const { return kind_.backend == "simulated"; }
  const Clock& clock() const;
  const std::string& path() const { return directory_.path(); }
  SimulatedDisk& disk() { return disk_; }

 private:
  BackendKind kind_;
  testing::TemporaryDirectory directory_;
  ManualClock manual_clock_;
  SimulatedDisk disk_{SimulatedDiskOptions{}, manual_clock_};
};

/// A request with memory of its own, in one piece or in many.
class TestTransfer {
 public:
  TestTransfer(Operation operation, FileId file, std::uint64_t offset, std::size_t bytes,
               std::size_t pieces = 1);

  Request& request() { return request_; }
  std::span<std::byte> bytes() { return buffer_.span(); }
  TestTransfer& filled(std::uint64_t seed) {
    Random{seed}.fill(buffer_.span());
    return *this;
  }

 private:
  AlignedBuffer buffer_;
  std::vector<iovec> pieces_;
  Request request_;
};

/// Submits them all and waits until all came back, each once.
void run_all(TransferQueue& queue, std::span<Request* const> requests);
void run_one(TransferQueue& queue, Request& request);
/// Waits until `count` requests came back.
std::vector<Request*> reap_all(TransferQueue& queue, std::size_t count);

/// A file that exists and is `bytes` long; a failure of the test otherwise.
FileId make_file(Directory& directory, const std::string& name, std::uint64_t bytes);
/// Writes bytes that depend on the seed, and gives them back.
std::vector<std::byte> write_random(TransferQueue& queue, FileId file, std::uint64_t offset,
                                    std::size_t bytes, std::uint64_t seed);
std::vector<std::byte> read_back(TransferQueue& queue, FileId file, std::uint64_t offset,
                                 std::size_t bytes);
/// A sync that must succeed.
void sync_file(TransferQueue& queue, FileId file);

}  // namespace larder::io
