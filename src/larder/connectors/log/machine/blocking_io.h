#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "larder/io/transfer_queue.h"

namespace larder::log_store {

/// Transfers that block for as long as the disk takes: opening and closing a store, when nothing
/// else uses the queue. Memory, offsets and lengths meet the files' alignment.
class BlockingIo {
 public:
  /// `steps`, where it is not null, counts transfers that ended.
  BlockingIo(io::TransferQueue& queue, const Clock& clock,
             std::shared_ptr<std::atomic<std::uint64_t>> steps = nullptr)
      : queue_(queue), clock_(clock), steps_(std::move(steps)) {}

  /// A file that ends early is kCorruption.
  Status read(io::FileId file, std::uint64_t offset, std::span<std::byte> out);
  Status write(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes);
  Status sync(io::FileId file);

 private:
  Status run(io::Request& request, std::uint64_t bytes, const char* what);

  io::TransferQueue& queue_;
  const Clock& clock_;
  const std::shared_ptr<std::atomic<std::uint64_t>> steps_;
};

}  // namespace larder::log_store
