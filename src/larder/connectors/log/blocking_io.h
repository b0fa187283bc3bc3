#pragma once

#include <cstdint>
#include <span>

#include "larder/io/device.h"

namespace larder::log_store {

/// Transfers that are waited for, as long as the disk takes: opening and closing a store, when
/// nothing else uses the device. Memory, offsets and lengths meet the device's alignment.
class BlockingIo {
 public:
  BlockingIo(io::Device& device, const Clock& clock) : device_(device), clock_(clock) {}

  /// A file that ends early is kCorruption.
  Status read(io::FileId file, std::uint64_t offset, std::span<std::byte> out);
  Status write(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes);
  Status sync(io::FileId file);

 private:
  Status run(io::Request& request, std::uint64_t bytes, const char* what);

  io::Device& device_;
  const Clock& clock_;
};

}  // namespace larder::log_store
