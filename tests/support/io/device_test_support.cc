#include "tests/support/io/device_test_support.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string_view>
#include <utility>

#include "larder/base/check.h"
#include "larder/io/posix_directory.h"
#include "larder/io/thread_queue.h"
#include "larder/io/uring_queue.h"

namespace larder::io {

std::optional<std::string> DeviceHarness::why_not() {
  if (kind_.backend != "uring") return std::nullopt;
  const char* const wanted = std::getenv("LARDER_IO");
  if (wanted != nullptr && std::string_view{wanted} == "threads") return "LARDER_IO=threads";
  const auto queue = UringQueue::create({}, {});
  if (queue) return std::nullopt;
  return "needs io_uring: " + queue.error().to_string();
}

TestDevice DeviceHarness::open(DeviceOptions options) {
  if (is_simulated()) return TestDevice{disk_.mount(options)};
  options.directory = path();
  options.direct = kind_.direct;
  auto opened = open_directory(options);
  LARDER_CHECK(opened.has_value());
  std::unique_ptr<PosixQueue> queue;
  if (kind_.backend == "threads") {
    auto threads = ThreadQueue::create(options, opened->facts.alignment);
    LARDER_CHECK(threads.has_value());
    queue = std::move(*threads);
  } else {
    auto uring = UringQueue::create(options, opened->facts.alignment);
    LARDER_CHECK(uring.has_value());
    queue = std::move(*uring);
  }
  Device device;
  device.degraded_why = opened->why_not_direct;
  device.directory =
      std::make_unique<PosixDirectory>(std::move(*opened), options.read_only, *queue);
  device.queue = std::move(queue);
  return TestDevice{std::move(device)};
}

const Clock& DeviceHarness::clock() const {
  if (is_simulated()) return manual_clock_;
  return RealClock::instance();
}

TestTransfer::TestTransfer(Operation operation, FileId file, std::uint64_t offset,
                           std::size_t bytes, std::size_t pieces) {
  auto buffer = AlignedBuffer::create(bytes, kTestBlock);
  LARDER_CHECK(buffer.has_value());
  buffer_ = std::move(*buffer);
  // All pieces of one length but the last.
  const std::size_t piece_bytes = pieces == 1 ? bytes : bytes / pieces / kTestBlock * kTestBlock;
  for (std::size_t at = 0, i = 0; i < pieces; ++i, at += piece_bytes) {
    pieces_.push_back({buffer_.data() + at, i + 1 == pieces ? bytes - at : piece_bytes});
  }
  request_.operation = operation;
  request_.file = file;
  request_.offset = offset;
  if (operation != Operation::kSync) request_.buffers = pieces_;
}

std::vector<Request*> reap_all(TransferQueue& queue, std::size_t count) {
  std::vector<Request*> all;
  std::vector<Request*> some(7);  // Fewer than may be ready: the rest must not get lost.
  while (all.size() < count) {
    const std::size_t reaped = queue.reap(some);
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(reaped));
    if (reaped == 0) queue.wait(kNever);
  }
  return all;
}

void run_all(TransferQueue& queue, std::span<Request* const> requests) {
  for (Request* const request : requests) queue.submit(*request);
  const std::vector<Request*> done = reap_all(queue, requests.size());
  EXPECT_EQ(std::set<Request*>(done.begin(), done.end()),
            std::set<Request*>(requests.begin(), requests.end()));
}

void run_one(TransferQueue& queue, Request& request) {
  Request* const requests[] = {&request};
  run_all(queue, requests);
}

FileId make_file(Directory& directory, const std::string& name, std::uint64_t bytes) {
  auto file = directory.open(name, OpenMode::kCreate);
  EXPECT_TRUE(file.has_value()) << file.error().to_string();
  const Status allocated = directory.allocate(*file, bytes);
  EXPECT_TRUE(allocated.has_value()) << allocated.error().to_string();
  return *file;
}

std::vector<std::byte> write_random(TransferQueue& queue, FileId file, std::uint64_t offset,
                                    std::size_t bytes, std::uint64_t seed) {
  TestTransfer write{Operation::kWrite, file, offset, bytes};
  run_one(queue, write.filled(seed).request());
  EXPECT_EQ(write.request().sys_errno, 0);
  EXPECT_EQ(write.request().bytes_done, bytes);
  return {write.bytes().begin(), write.bytes().end()};
}

std::vector<std::byte> read_back(TransferQueue& queue, FileId file, std::uint64_t offset,
                                 std::size_t bytes) {
  TestTransfer read{Operation::kRead, file, offset, bytes};
  run_one(queue, read.request());
  EXPECT_EQ(read.request().sys_errno, 0);
  return {read.bytes().begin(),
          read.bytes().begin() + static_cast<std::ptrdiff_t>(read.request().bytes_done)};
}

void sync_file(TransferQueue& queue, FileId file) {
  Request sync;
  sync.operation = Operation::kSync;
  sync.file = file;
  run_one(queue, sync);
  EXPECT_EQ(sync.sys_errno, 0);
}

}  // namespace larder::io
