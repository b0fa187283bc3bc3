#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "larder/wire/decode_error.h"
#include "larder/wire/msgpack_reader.h"

namespace larder::wire {

/// The part of a registration that belongs to one KV group (0.5.7; hybrid models).
struct GroupLayout {
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_dim_size = 0;  ///< Elements of a token in one layer and plane.
  std::string_view dtype;             ///< A name that dtype_bytes() knows.
  std::uint32_t tokens_per_block = 0;
  std::uint32_t window_tokens = 0;  ///< Tokens stored per chunk; 0: all of them.
  std::uint32_t planes = 0;         ///< `kv_size`: 1 or 2; 0: by use_mla.
  std::uint32_t window_chunks = 0;  ///< Chunks at the end that a hit needs; 0: all of them.
  bool is_recurrent = false;
};

/// The argument of register_kv_cache_engine_driven_context. Texts are views into the frame.
struct EngineDrivenRegistration {
  Integer instance;
  std::string_view model;
  std::uint32_t world_size = 0;
  std::uint32_t block_size = 0;
  std::uint32_t num_layers = 0;                     ///< Of all groups together.
  std::uint32_t hidden_dim_size = 0;                ///< Elements of a token in one layer and plane.
  std::string_view dtype;                           ///< A name that dtype_bytes() knows.
  bool use_mla = false;                             ///< One plane instead of keys and values.
  std::optional<std::uint32_t> num_physical_slots;  ///< Slots of a chunk; empty: its tokens.
  std::vector<GroupLayout> groups;                  ///< Empty: one group, as described above.
};

/// Unknown fields are ignored. All sizes are from 1 to limits::kDimension, except where 0 has a
/// meaning. Pure; allocates for the groups only.
DecodeResult<EngineDrivenRegistration> decode_engine_driven_registration(
    std::span<const std::byte> frame);

}  // namespace larder::wire
