#include "larder/connectors/log/offline/dry_run_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace larder::log_store {

void DryRunDevice::close(io::FileId file) noexcept {
  allocated_.erase(file);
  below_.directory->close(file);
}

Status DryRunDevice::allocate(io::FileId file, std::uint64_t bytes) {
  LARDER_ASSIGN(const io::FileInfo info, below_.directory->info(file));
  if (info.bytes < bytes) allocated_[file] = bytes;
  return {};
}

void DryRunDevice::submit(io::Request& request) noexcept {
  if (request.operation != io::Operation::kRead) {
    request.bytes_done = 0;
    request.sys_errno = EROFS;
    refused_.push_back(&request);
    return;
  }
  const auto grown = allocated_.find(request.file);
  if (grown != allocated_.end() && request.offset < grown->second) {
    Padded padded;
    padded.vectors.assign(request.buffers.begin(), request.buffers.end());
    for (const iovec& vector : padded.vectors) padded.bytes += vector.iov_len;
    padded.bytes = std::min(padded.bytes, grown->second - request.offset);
    padded_[&request] = std::move(padded);
  }
  below_.queue->submit(request);
}

std::size_t DryRunDevice::reap(std::span<io::Request*> done) noexcept {
  std::size_t count = 0;
  while (count < done.size() && !refused_.empty()) {
    done[count++] = refused_.front();
    refused_.pop_front();
  }
  const std::size_t reaped = below_.queue->reap(done.subspan(count));
  for (io::Request* const request : done.subspan(count, reaped)) {
    const auto found = padded_.find(request);
    if (found == padded_.end()) continue;
    const Padded padded = std::move(found->second);
    padded_.erase(found);
    if (request->sys_errno != 0) continue;
    std::uint64_t at = 0;
    for (const iovec& vector : padded.vectors) {
      const std::uint64_t from = std::clamp(request->bytes_done, at, at + vector.iov_len);
      const std::uint64_t to = std::clamp(padded.bytes, at, at + vector.iov_len);
      if (from < to) std::memset(static_cast<char*>(vector.iov_base) + (from - at), 0, to - from);
      at += vector.iov_len;
    }
    request->bytes_done = std::max(request->bytes_done, padded.bytes);
  }
  return count + reaped;
}

void DryRunDevice::wait(std::uint64_t until_ns) noexcept {
  if (refused_.empty()) below_.queue->wait(until_ns);
}

}  // namespace larder::log_store
