#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "larder/wire/decode_error.h"
#include "larder/wire/msgpack_reader.h"
#include "larder/wire/tensor.h"

namespace larder::wire {

/// The serving engines whose tensors larder knows.
enum class EngineType : std::uint8_t { kVllm = 0, kAtom, kSglang, kTrtllm };

/// How a vLLM worker's dimensions lie in memory.
enum class KvLayout : std::uint8_t {
  kNhd = 0,  ///< Tokens before heads.
  kHnd,      ///< Heads before tokens.
  kBlhnc,    ///< Like kHnd; all layers of a block are contiguous.
  kBlnhc,    ///< Like kNhd; all layers of a block are contiguous.
};

/// How an SGLang worker lists its tensors.
enum class KvList : std::uint8_t {
  kKeysThenValues = 0,  ///< "k_v": the keys of all layers, then the values.
  kUnified,             ///< "unified": each tensor for itself.
};

/// A worker's description of its tensors besides their shapes.
struct LayoutHints {
  std::optional<KvLayout> kv_layout;
  std::optional<KvList> kv_list;
  std::optional<std::uint32_t> tokens_per_block;
  std::optional<std::uint32_t> num_kv_heads;
  std::optional<std::uint32_t> head_dim;
};

/// Layers that share a block table and a way of copying: EngineGroupInfo.
struct EngineGroup {
  std::uint32_t id = 0;                        ///< Of the block table.
  std::vector<std::uint32_t> layers;           ///< Indices of tensors.
  std::uint32_t tokens_per_block = 0;          ///< 0: as the tensors say.
  std::optional<std::uint32_t> window_tokens;  ///< Empty: full attention.
  std::uint32_t extra_tag = 0;                 ///< Above 0: private to a connector (blend).
  bool is_recurrent = false;
};

/// The arguments of register_kv_cache. Texts are views into the frames.
struct KvCacheRegistration {
  Integer instance;
  std::vector<Tensor> tensors;  ///< One at least.
  std::string_view model;
  std::uint32_t world_size = 0;
  EngineType engine = EngineType::kVllm;
  LayoutHints hints;
  std::vector<EngineGroup> groups;  ///< Empty: one group of all layers.
};

/// `frames` are 6 or, with the groups, 7. Unknown fields of hints and groups are ignored, those of
/// tensors are refused, as in LMCache. Pure; allocates for tensors and groups, within limits.h.
DecodeResult<KvCacheRegistration> decode_kv_cache_registration(
    std::span<const std::span<const std::byte>> frames);

}  // namespace larder::wire
