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

const PlaneBase& base_of(const LayerPlace& place, std::uint32_t plane) noexcept {
  return place.kernel->bases[place.index + plane * place.kernel->shape.layers];
}

/// Whether a block's values lie behind its keys, and not behind the keys of all blocks.
bool has_blocks_first(const LayerPlace& place) noexcept {
  if (place.kernel->shape.planes != 2) return false;
  const PlaneBase& keys = base_of(place, 0);
  const PlaneBase& values = base_of(place, 1);
  return keys.memory == values.memory && keys.offset < values.offset &&
         values.offset - keys.offset < place.kernel->shape.block_stride;
}

/// Planes and blocks of a layer, each block's planes side by side.
struct Piece {
  std::uint32_t first_plane = 0;
  std::uint32_t planes = 0;
  std::span<const std::uint32_t> blocks;
};

void gather(const LayerPlace& place, std::span<const std::span<std::byte>> memories,
            const Piece& piece, std::byte* out) noexcept {
  const CopyShape& shape = place.kernel->shape;
  const std::uint64_t bytes = block_bytes(shape);
  for (const std::uint32_t block : piece.blocks) {
    for (std::uint32_t i = 0; i < piece.planes; ++i, out += bytes) {
      const PlaneBase& base = base_of(place, piece.first_plane + i);
      std::memcpy(out, memories[base.memory].data() + base.offset + block * shape.block_stride,
                  bytes);
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

Status add_piece(Md5Hasher& hasher, const LayerPlace& place,
                 std::span<const std::span<std::byte>> memories, const Piece& piece) {
  std::vector<std::byte> bytes(piece.blocks.size() * piece.planes *
                               block_bytes(place.kernel->shape));
  std::byte* const out = bytes.data();
  const bool is_there = FaultGuard::run(memories, [&place, memories, &piece, out]() noexcept {
    gather(place, memories, piece, out);
  });
  if (!is_there) return error_of(ErrorCode::kIo, "the worker's shared memory has ended");
  const bool is_hashed = hasher.add(place.kernel->dtype == "bfloat16" ? widened(bytes) : bytes);
  if (!is_hashed) return error_of(ErrorCode::kUnimplemented, "OpenSSL cannot compute MD5");
  return {};
}

/// Its blocks as they lie in memory, in pieces, because all of them may be gigabytes.
Status add_layer(Md5Hasher& hasher, const LayerPlace& place,
                 std::span<const std::span<std::byte>> memories,
                 std::span<const std::uint32_t> blocks) {
  constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
  const CopyShape& shape = place.kernel->shape;
  const std::uint32_t planes = has_blocks_first(place) ? shape.planes : 1;
  const std::uint64_t blocks_max =
      std::max<std::uint64_t>(1, kPieceBytes / (planes * block_bytes(shape)));
  for (std::uint32_t plane = 0; plane < shape.planes; plane += planes) {
    for (std::span<const std::uint32_t> rest = blocks; !rest.empty();) {
      const auto part = rest.first(std::min<std::uint64_t>(blocks_max, rest.size()));
      rest = rest.subspan(part.size());
      LARDER_TRY(add_piece(hasher, place, memories,
                           {.first_plane = plane, .planes = planes, .blocks = part}));
    }
  }
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
