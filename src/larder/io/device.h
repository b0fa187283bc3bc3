#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/result.h"

namespace larder::io {

/// Index of an open file in a device's table. Small, dense, reused after close().
using FileId = std::uint32_t;

enum class Operation : std::uint8_t { kRead = 1, kWrite, kSync };

/// One transfer. Everything in it is the caller's, but the device's from submit() until reap()
/// returns it; no allocation is made for it.
struct Request {
  Operation operation = Operation::kRead;
  FileId file = 0;
  std::uint64_t offset = 0;  ///< Bytes. Unused by kSync.
  std::span<iovec> buffers;  ///< Scattered memory, 1..kBuffersMax. The device may change the
                             ///< array (not the bytes, for a write) while the request is in flight.
  void* user_data = nullptr;

  std::uint64_t bytes_done = 0;  ///< Out: length of the prefix that was transferred.
  int sys_errno = 0;  ///< Out: 0, or why it ended before its end. A read that meets the end
                      ///< of the file ends early with 0.

  std::uint64_t device_words[4] = {};  ///< The device's while in flight.
  Request* device_next = nullptr;      ///< The device's while in flight.
};

/// Scatter list limit of one request (IOV_MAX on Linux is 1024).
inline constexpr std::size_t kBuffersMax = 1024;

/// What direct I/O on a file demands. A power of two each; 1 when buffered.
struct Alignment {
  std::uint32_t memory = 1;  ///< Of every buffer's address.
  std::uint32_t offset = 1;  ///< Of file offsets and of every buffer's length.
};

enum class OpenMode : std::uint8_t {
  kExisting = 1,  ///< kIo with ENOENT when it is not there.
  kCreate,        ///< Must not exist: EEXIST otherwise. 0600.
  kReadOnly,      ///< As kExisting, where only reading is permitted. A write ends with EBADF.
};

/// Direct or buffered is decided once, when the device is opened, and never per operation.
enum class DirectIo : std::uint8_t { kRequired = 1, kIfPossible, kNever };

struct FileInfo {
  std::string name;
  std::uint64_t bytes = 0;            ///< Length.
  std::uint64_t allocated_bytes = 0;  ///< Blocks that it occupies, in bytes.
  bool is_regular = true;
  std::uint64_t inode = 0;  ///< Tells a file from another one of its name; 0: not known.
};

struct Space {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  ///< For this user.
};

struct DeviceInfo {
  std::string backend;       ///< "uring", "threads" or "simulated".
  std::string degraded_why;  ///< Empty, or why the better backend or direct I/O was not to be had.
  bool direct = false;
  Alignment alignment;            ///< The strictest of the directory's file system.
  std::string file_system;        ///< "ext4", "xfs", "tmpfs", ... or a magic number in hex.
  bool may_share_blocks = false;  ///< Its files can be copied by reflink or snapshot.
};

/// The files of one directory, under one completion queue.
///
/// Two planes. The control plane (list, open, allocate, lock, remove, ...) may block for as long as
/// the file system takes; it is for opening a store and for the rare growth of one. The data plane
/// (submit, reap, wait) never blocks but in wait().
///
/// Transfers: a request ends when all its bytes were moved, the file ended, or an error came. Short
///   transfers, EINTR and EAGAIN are handled inside. Requests end in any order, also those to one
///   place. submit() has no limit of its own: what the kernel cannot take yet waits inside, so the
///   caller bounds what it submits.
/// Threads: one thread at a time uses a device, and another one may take over only while no request
///   is in flight (the destructor excepted). Any thread may call wake() at any time, and on devices
///   of the operating system look_for(), make(), remove(), sync_directory(), space() and
///   shares_blocks().
/// Ownership: the caller keeps requests and buffers alive until reap() returned them. The
///   destructor waits until the kernel has let go of every buffer.
class Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Control plane. Names are plain file names, without a slash.
  virtual Result<std::vector<FileInfo>> list() = 0;
  virtual Result<FileId> open(std::string_view name, OpenMode mode) = 0;
  virtual void close(FileId file) noexcept = 0;
  virtual Result<FileInfo> info(FileId file) = 0;
  /// Of the file that has this name now, open or not; kIo with ENOENT when there is none.
  virtual Result<FileInfo> look_for(std::string_view name);
  /// Reserves blocks for [0, bytes) and makes the file at least that long: later writes there
  /// cannot meet ENOSPC and do not extend the file.
  virtual Status allocate(FileId file, std::uint64_t bytes) = 0;
  /// Creates a file that must not exist, allocates it and makes its name durable; leaves no file
  /// open, and none behind when it fails.
  virtual Status make(std::string_view name, std::uint64_t bytes);
  virtual Status remove(std::string_view name) = 0;
  /// Makes created and removed names durable.
  virtual Status sync_directory() = 0;
  virtual Result<Space> space() = 0;
  /// Whether blocks of the file belong to another one as well (a reflink copy, a snapshot). To
  /// overwrite such a block takes a new one, and can meet ENOSPC.
  virtual Result<bool> shares_blocks(std::string_view /*name*/) { return false; }
  /// Takes an exclusive lock on the file, trying until `deadline_ns`; kUnavailable when another
  /// owner still has it. At once EDEADLK when this process has it by another open file, and is not
  /// done with that: waiting would be for itself. It is held until the file is closed AND the
  /// kernel has let go of all of this device's I/O, also when the process is killed. No child of
  /// fork() has a share in it.
  virtual Status lock(FileId file, std::uint64_t deadline_ns) = 0;

  /// The calling thread is done with the device, and another one takes over. Gets what it needs for
  /// that, so that a lack (of descriptors, of memory) is an error here and not a device that has
  /// stopped working there. No request is in flight.
  virtual Status release_thread() { return {}; }
  /// The last call of the thread that drives the device. Where no request is in flight the kernel
  /// keeps no file of the directory afterwards, so that its file system can be unmounted at once
  /// when the device has gone.
  virtual void end_thread() noexcept {}

  // Data plane.
  virtual void submit(Request& request) noexcept = 0;
  /// Fills `done` with finished requests; returns how many. Never waits. Also what hands submitted
  /// requests to the kernel: call it (or wait()) after a round of submit().
  virtual std::size_t reap(std::span<Request*> done) noexcept = 0;
  /// Returns when reap() has something to return, when wake() was called since the last return, or
  /// at `until_ns` (monotonic; kNever waits without limit). May return early.
  virtual void wait(std::uint64_t until_ns) noexcept = 0;
  /// Ends the present or the next wait(). Any thread.
  virtual void wake() noexcept = 0;

  virtual const DeviceInfo& device_info() const noexcept = 0;
};

struct DeviceOptions {
  std::string directory;  ///< Must exist.
  DirectIo direct = DirectIo::kIfPossible;
  std::uint32_t depth = 128;       ///< Transfers the kernel holds at once. 1..4096.
  std::uint32_t threads = 16;      ///< Of the thread backend. 1..256.
  std::uint32_t files_max = 4096;  ///< Files open at once.
  /// Only looks: files are opened for reading, whatever would change something fails with EROFS
  /// (a write: EBADF), not even the probe for direct I/O writes. Transfers are buffered.
  bool read_only = false;
};

/// Opens `directory` over io_uring, or over threads where io_uring is forbidden (logged once,
/// counted, device_info().degraded_why) or where the environment says LARDER_IO=threads.
/// LARDER_IO=uring makes a missing io_uring an error. Any other value is an error.
SetupResult<std::unique_ptr<Device>> open_device(const DeviceOptions& options);

}  // namespace larder::io
