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
#include "tests/support/io/simulated_disk.h"
#include "tests/support/temporary_directory.h"

namespace larder::io {

/// Every file system that tests run on can do direct I/O at this.
inline constexpr std::size_t kTestBlock = 4096;

struct BackendKind {
  std::string backend;  ///< "uring", "threads" or "simulated".
  DirectIo direct = DirectIo::kNever;
};

/// A directory and the means to open devices on it, of one kind.
class DeviceHarness {
 public:
  explicit DeviceHarness(BackendKind kind) : kind_(std::move(kind)) {}

  /// Why this kind cannot be tested here; nothing when it can.
  std::optional<std::string> why_not();
  std::unique_ptr<Device> open(DeviceOptions options = {});
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
void run_all(Device& device, std::span<Request* const> requests);
void run_one(Device& device, Request& request);
/// Waits until `count` requests came back.
std::vector<Request*> reap_all(Device& device, std::size_t count);

/// A file that exists and is `bytes` long; a failure of the test otherwise.
FileId make_file(Device& device, const std::string& name, std::uint64_t bytes);
/// Writes bytes that depend on the seed, and gives them back.
std::vector<std::byte> write_random(Device& device, FileId file, std::uint64_t offset,
                                    std::size_t bytes, std::uint64_t seed);
std::vector<std::byte> read_back(Device& device, FileId file, std::uint64_t offset,
                                 std::size_t bytes);
/// A sync that must succeed.
void sync_file(Device& device, FileId file);

}  // namespace larder::io
