#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "larder/cache/ids.h"

namespace larder::server {

/// One object of a tier in LMCache's words, as HTTP shows and takes it.
struct ObjectKey {
  std::string chunk_hash_hex;
  std::string model;
  std::uint32_t kv_rank = 0;
  std::uint32_t group = 0;
  std::string salt;

  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;

  /// Its name in a tier: see Spaces.
  std::string name() const;
  /// The parts of the kv_rank, if it is one that larder's workers have: all of them on one level.
  struct Place {
    std::uint32_t world_size = 0;
    std::uint32_t rank = 0;
  };
  std::optional<Place> place() const noexcept;
  /// Nothing: it is no hash of larder's, which have 32 bytes.
  std::optional<cache::ChunkHash> chunk() const noexcept;
};

/// The inverse of ObjectKey::name(). Nothing: no server of a cache has stored that.
std::optional<ObjectKey> parse_object_name(std::string_view name);

/// A filter of objects; a missing field matches any.
struct ObjectFilter {
  std::optional<std::string> model{};
  std::optional<std::uint32_t> world_size{};
  std::optional<std::string> salt{};

  bool takes(const ObjectKey& key) const noexcept;
};

}  // namespace larder::server
