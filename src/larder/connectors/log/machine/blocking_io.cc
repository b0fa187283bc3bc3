#include "larder/connectors/log/machine/blocking_io.h"

#include <array>

namespace larder::log_store {
namespace {

/// A device whose owner was declared dead (simulation) never answers, and its clock stands still.
constexpr int kWaitsWithoutTimeMax = 1000;

}  // namespace

Status BlockingIo::run(io::Request& request, std::uint64_t bytes, const char* what) {
  queue_.submit(request);
  std::array<io::Request*, 1> done{};
  int waits_without_time = 0;
  while (queue_.reap(done) == 0) {
    const std::uint64_t before_ns = clock_.now_ns();
    queue_.wait(before_ns + 1'000'000'000);
    waits_without_time = clock_.now_ns() == before_ns ? waits_without_time + 1 : 0;
    if (waits_without_time == kWaitsWithoutTimeMax) {
      return Error{ErrorCode::kUnavailable, "log", "the device does not answer"};
    }
  }
  if (steps_ != nullptr) steps_->fetch_add(1, std::memory_order_relaxed);
  if (request.sys_errno != 0) return Error::from_errno(request.sys_errno, "log", what);
  if (request.bytes_done != bytes) return Error{ErrorCode::kCorruption, "log", "file too short"};
  return {};
}

Status BlockingIo::read(io::FileId file, std::uint64_t offset, std::span<std::byte> out) {
  iovec vector{.iov_base = out.data(), .iov_len = out.size()};
  io::Request request;
  request.operation = io::Operation::kRead;
  request.file = file;
  request.offset = offset;
  request.buffers = {&vector, 1};
  return run(request, out.size(), "reading");
}

Status BlockingIo::write(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  iovec vector{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  io::Request request;
  request.operation = io::Operation::kWrite;
  request.file = file;
  request.offset = offset;
  request.buffers = {&vector, 1};
  return run(request, bytes.size(), "writing");
}

Status BlockingIo::sync(io::FileId file) {
  io::Request request;
  request.operation = io::Operation::kSync;
  request.file = file;
  return run(request, 0, "syncing");
}

}  // namespace larder::log_store
