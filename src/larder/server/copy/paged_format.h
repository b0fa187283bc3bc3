#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/wire/decode_error.h"
#include "larder/wire/kv_cache.h"

namespace larder::server {

/// The formats of paged KV caches that larder copies, by the sizes of a tensor from its outermost.
enum class PagedFormat : std::uint8_t {
  kKvFirstNhd = 0,  ///< [2, blocks, tokens, heads, size]
  kKvFirstHnd,      ///< [2, blocks, heads, tokens, size]
  kKvFirstHndOne,   ///< [2, blocks, heads, 1, tokens, size]
  kBlockFirstNhd,   ///< [blocks, 2, tokens, heads, size]
  kBlockFirstHnd,   ///< [blocks, 2, heads, tokens, size]
  kFusedNhd,        ///< [blocks, tokens, heads, size]: keys and values, or one of them, in `size`.
  kFusedHnd,        ///< [blocks, heads, tokens, size]
  kLatent,          ///< [blocks, tokens, size]: MLA.
  kIndexer,         ///< The same with 132 bytes a token: vLLM's sparse indexer.
  kKeysThenValues,  ///< Tensors [blocks * tokens, heads, size]: keys of all layers, then values.
  kFoldedLatent,    ///< [blocks * tokens, 1, size]
  kSingle,          ///< [blocks, tokens, heads, size]: each tensor for itself.
  kCrossLayer,      ///< [blocks, layers, 2, heads, tokens, size] in one tensor.
};

/// Its sizes, as above. A literal.
std::string_view format_text(PagedFormat format) noexcept;

/// A layer in a format. Sizes and strides are bytes.
struct PagedLayer {
  PagedFormat format = PagedFormat::kKvFirstNhd;
  std::string_view dtype;
  std::uint32_t planes = 1;
  std::array<std::uint32_t, 2> tensors{};        ///< By plane: in whose memory it is.
  std::array<std::uint64_t, 2> plane_offsets{};  ///< By plane: from that memory's start.
  std::uint64_t blocks = 0;
  std::uint32_t slots_per_block = 0;
  std::uint32_t heads = 1;
  std::uint32_t head_bytes = 0;
  std::uint64_t block_stride = 0;
  std::uint64_t slot_stride = 0;
  std::uint64_t head_stride = 0;
};

/// The layers of a registration. Dimensions are taken in the order of their strides, so views that
/// were permuted are read as they lie in memory; which of them are heads and which tokens, the
/// engine and its hints say. Only the outermost dimension may have gaps. Pure.
wire::DecodeResult<std::vector<PagedLayer>> read_paged_layers(
    const wire::KvCacheRegistration& registration);

}  // namespace larder::server
