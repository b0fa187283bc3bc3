#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "larder/wire/decode_error.h"
#include "larder/wire/limits.h"
#include "larder/wire/msgpack_reader.h"

namespace larder::wire {

enum class MemoryKind : std::uint8_t {
  kSharedMemory = 0,  ///< `cpu_shm`: POSIX shared memory.
  kCuda,              ///< `cuda`: a storage that torch shares.
  kCudaRaw,           ///< `cuda_raw`: a handle of the CUDA driver.
  kCudaVmm,           ///< `cuda_vmm`: an allocation of CUDA's virtual memory management.
};

/// The location of a worker's memory, in the terms of its kind. Members that a kind does not have
/// stay as they are here. Nothing was opened, and none of it may be trusted.
struct MemoryHandle {
  MemoryKind kind = MemoryKind::kSharedMemory;
  std::uint64_t bytes = 0;
  std::string_view name;  ///< kSharedMemory, with its slash; empty for a tensor of none.
  std::span<const std::byte> handle;     ///< kCuda (or empty), kCudaRaw: 64, kCudaVmm: 16 bytes.
  std::int64_t device = 0;               ///< kCuda.
  std::uint64_t offset = 0;              ///< Offset of the memory within its allocation.
  std::uint64_t allocation_bytes = 0;    ///< kCudaVmm.
  std::span<const std::byte> fabric;     ///< kCudaVmm; empty: a file descriptor is passed.
  std::span<const std::byte> reference;  ///< kCuda: torch's counter of references.
  std::uint64_t reference_offset = 0;    ///< kCuda.
  std::span<const std::byte> event;      ///< kCuda.
  bool waits_for_event = false;          ///< kCuda.
};

/// A view of memory, as torch describes it.
struct TensorView {
  std::string_view dtype;  ///< A name that dtype_bytes() knows.
  std::uint32_t rank = 0;
  std::array<std::uint64_t, limits::kTensorRank> shape{};
  std::array<std::uint64_t, limits::kTensorRank> stride{};  ///< In elements.
  std::uint64_t offset = 0;                                 ///< In elements.
  std::string_view device;
  /// From the memory's first byte to the view's last: at most MemoryHandle::bytes; 0: no element.
  std::uint64_t span_bytes = 0;
};

/// A tensor of a worker's KV cache.
struct Tensor {
  MemoryHandle memory;
  TensorView view;
};

/// Reads the extension of type 1 that LMCache calls an IPC wrapper, as strictly as LMCache does:
/// version 1, known fields only, a view within its memory. `what` is how errors call it. A pickle,
/// as older clients send, is an error like any other; nothing is executed. Pure; allocates only for
/// errors and names of fields.
DecodeStatus read_tensor(MsgpackReader& reader, const std::string& what, Tensor& out,
                         std::size_t& ignored_values);

}  // namespace larder::wire
