#include "larder/server/copy/block_checksums.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "larder/server/copy/fault_guard.h"

namespace larder::server {
namespace {

Error error_of(ErrorCode code, const char* what) noexcept {
  return {code, "checksums", what};
}

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const noexcept { ::EVP_MD_CTX_free(context); }
};

class Md5Hasher {
 public:
  bool begin() noexcept {
    return context_ != nullptr && ::EVP_DigestInit_ex(context_.get(), ::EVP_md5(), nullptr) == 1;
  }
  bool add(std::span<const std::byte> bytes) noexcept {
    return ::EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
  }
  bool end(Md5& out) noexcept {
    return ::EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(out.data()),
                                nullptr) == 1;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, FreeContext> context_{::EVP_MD_CTX_new()};
};

/// A layer: which kernel group has it, and as which of its layers.
struct LayerPlace {
  std::uint32_t layer = 0;
  const KernelGroupPlan* kernel = nullptr;
  std::uint32_t index = 0;
};

std::vector<LayerPlace> layers_in_order(const CopyPlan& plan) {
  std::vector<LayerPlace> places;
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) {
      for (std::uint32_t i = 0; i < kernel.layers.size(); ++i) {
        places.push_back({.layer = kernel.layers[i], .kernel = &kernel, .index = i});
      }
    }
  }
  std::ranges::sort(places, {}, &LayerPlace::layer);
  return places;
}

/// The blocks of one layer as they lie in memory.
void gather(const LayerPlace& place, std::span<const std::span<std::byte>> memories,
            std::span<const std::uint32_t> blocks, std::byte* out) noexcept {
  const KernelGroupPlan& kernel = *place.kernel;
  const std::uint64_t bytes = block_bytes(kernel.shape);
  const PlaneBase& keys = kernel.bases[place.index];
  const PlaneBase& values =
      kernel.bases[place.index + (kernel.shape.planes - 1) * kernel.shape.layers];
  const auto base = [&](std::uint32_t plane) {
    const PlaneBase& each = plane == 0 ? keys : values;
    return memories[each.memory].data() + each.offset;
  };
  // Blocks come first where a block's values are within its stride.
  if (kernel.shape.planes == 2 && keys.memory == values.memory && keys.offset < values.offset &&
      values.offset - keys.offset < kernel.shape.block_stride) {
    for (const std::uint32_t block : blocks) {
      for (std::uint32_t plane = 0; plane < 2; ++plane, out += bytes) {
        std::memcpy(out, base(plane) + block * kernel.shape.block_stride, bytes);
      }
    }
    return;
  }
  for (std::uint32_t plane = 0; plane < kernel.shape.planes; ++plane) {
    for (const std::uint32_t block : blocks) {
      std::memcpy(out, base(plane) + block * kernel.shape.block_stride, bytes);
      out += bytes;
    }
  }
}

/// bfloat16 is the upper half of a float32.
std::vector<std::byte> widened(std::span<const std::byte> halves) {
  std::vector<std::byte> out(2 * halves.size());
  for (std::size_t i = 0; i + 1 < halves.size(); i += 2) {
    out[2 * i + 2] = halves[i];
    out[2 * i + 3] = halves[i + 1];
  }
  return out;
}

Status add_layer(Md5Hasher& hasher, const LayerPlace& place,
                 std::span<const std::span<std::byte>> memories,
                 std::span<const std::uint32_t> blocks) {
  std::vector<std::byte> bytes(blocks.size() * place.kernel->shape.planes *
                               block_bytes(place.kernel->shape));
  std::byte* const out = bytes.data();
  const bool is_there = FaultGuard::run(memories, [&place, memories, blocks, out]() noexcept {
    gather(place, memories, blocks, out);
  });
  if (!is_there) return error_of(ErrorCode::kIo, "the worker's shared memory has ended");
  const bool is_hashed = hasher.add(place.kernel->dtype == "bfloat16" ? widened(bytes) : bytes);
  if (!is_hashed) return error_of(ErrorCode::kUnimplemented, "OpenSSL cannot compute MD5");
  return {};
}

Status add_checksum(std::span<const LayerPlace> layers,
                    std::span<const std::span<std::byte>> memories,
                    std::span<const std::uint32_t> blocks, std::vector<Md5>& out) {
  Md5Hasher hasher;
  if (!hasher.begin()) return error_of(ErrorCode::kUnimplemented, "OpenSSL has no MD5 here");
  for (const LayerPlace& place : layers) {
    LARDER_TRY(add_layer(hasher, place, memories, blocks));
  }
  if (hasher.end(out.emplace_back())) return {};
  return error_of(ErrorCode::kUnimplemented, "OpenSSL cannot compute MD5");
}

}  // namespace

std::uint32_t layers_of(const CopyPlan& plan) noexcept {
  std::uint32_t count = 0;
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) count += kernel.shape.layers;
  }
  return count;
}

Status checksum_blocks(const CopyPlan& plan, std::span<const std::span<std::byte>> memories,
                       ChecksumRequest& request) {
  request.checksums.clear();
  if (request.blocks.empty() || request.blocks_per_chunk == 0) {
    return error_of(ErrorCode::kInvalidArgument, "there are no blocks");
  }
  const std::uint32_t highest = std::ranges::max(request.blocks);
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) {
      if (highest < kernel.shape.blocks) continue;
      return error_of(ErrorCode::kInvalidArgument, "a block is not in the worker's memory");
    }
  }
  const std::vector<LayerPlace> layers = layers_in_order(plan);
  const std::size_t layers_each = request.is_by_layer ? 1 : layers.size();
  for (std::size_t first = 0; first < layers.size(); first += layers_each) {
    std::span<const std::uint32_t> rest = request.blocks;
    while (!rest.empty()) {
      const auto chunk = rest.first(std::min<std::size_t>(request.blocks_per_chunk, rest.size()));
      rest = rest.subspan(chunk.size());
      LARDER_TRY(add_checksum(std::span{layers}.subspan(first, layers_each), memories, chunk,
                              request.checksums));
    }
  }
  return {};
}

}  // namespace larder::server
