// The kernel that moves cells between L1, or a staging buffer, and the blocks of a worker on a GPU.
// It is built only where nvcc is found, to keep it compiling, and is part of no library yet: the
// backend that launches it does not exist. The index function is tested on the CPU
// (copy_index_test.cc).
#include <cuda_runtime.h>

#include "larder/server/copy/copy_index.h"

namespace larder::server {
namespace {

constexpr unsigned kThreads = 256;

/// One vector a thread; a row of blocks for each cell.
template <class Vector>
__global__ void copy_cells(KernelArguments arguments) {
  const std::uint64_t index = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  copy_vector<Vector>(arguments, blockIdx.y, index);
}

template <class Vector>
cudaError_t launch(const KernelArguments& arguments, unsigned cells, cudaStream_t stream) {
  const std::uint64_t vectors = copied_bytes(arguments.shape) / sizeof(Vector);
  const dim3 grid{static_cast<unsigned>((vectors + kThreads - 1) / kThreads), cells};
  copy_cells<Vector><<<grid, kThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

/// The widest vector that divides every size and address of the shape.
unsigned vector_bytes(const CopyShape& shape, std::uint64_t addresses) {
  const std::uint64_t all = shape.head_bytes | shape.slot_stride | shape.head_stride |
                            shape.block_stride | addresses | 16;
  return static_cast<unsigned>(all & (0 - all));
}

}  // namespace

/// Queues the copy of `cells` cells, at most 65,535, on `stream`; everything in `arguments` is
/// memory that the device reaches, alive until then. `addresses` are all bases and cells or-ed.
cudaError_t launch_copy(const KernelArguments& arguments, unsigned cells, std::uint64_t addresses,
                        cudaStream_t stream) {
  switch (vector_bytes(arguments.shape, addresses)) {
    case 16:
      return launch<uint4>(arguments, cells, stream);
    case 8:
      return launch<uint2>(arguments, cells, stream);
    case 4:
      return launch<std::uint32_t>(arguments, cells, stream);
    case 2:
      return launch<std::uint16_t>(arguments, cells, stream);
    default:
      return launch<std::uint8_t>(arguments, cells, stream);
  }
}

}  // namespace larder::server
