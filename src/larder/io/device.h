#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/io/directory.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

/// The files of one directory, under one completion queue.
struct Device {
  std::unique_ptr<Directory> directory;
  std::unique_ptr<TransferQueue> queue;
  std::string backend;       ///< "uring" or "threads".
  std::string degraded_why;  ///< Empty, or why the better backend or direct I/O was not available.
};

/// Direct or buffered is decided once, when the device is opened, and never per operation.
enum class DirectIo : std::uint8_t { kRequired = 1, kIfPossible, kNever };

struct DeviceOptions {
  std::string directory;  ///< Must exist.
  DirectIo direct = DirectIo::kIfPossible;
  std::uint32_t depth = 128;       ///< Transfers the kernel holds at once. 1..4096.
  std::uint32_t threads = 16;      ///< Number of threads of the thread backend: 1..256.
  std::uint32_t files_max = 4096;  ///< Files open at once.
  /// Read-only: files are opened for reading, and every change fails with EROFS (a write: EBADF).
  /// The probe for direct I/O does not write either. Transfers are buffered.
  bool read_only = false;
};

/// Opens `directory` over io_uring, or over threads where io_uring is forbidden (logged once,
/// counted, Device::degraded_why) or where the environment says LARDER_IO=threads.
/// LARDER_IO=uring makes a missing io_uring an error. Any other value is an error.
SetupResult<Device> open_device(const DeviceOptions& options);

}  // namespace larder::io
