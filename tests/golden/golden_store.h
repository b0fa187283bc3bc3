#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/result.h"

namespace larder::testing {

/// What a golden store holds under one key; nothing where the key must be a miss.
struct GoldenValue {
  std::uint32_t version = 0;
  std::uint64_t bytes = 0;
};
using GoldenManifest = std::map<std::string, std::optional<GoldenValue>>;

/// The value that follows from key, version and length: byte i is
///   key[(i + version) mod (key length)] xor (i / 4093 mod 256).
std::vector<std::byte> golden_value(const std::string& key, const GoldenValue& value);

/// One line a key: "hit HEX VERSION BYTES" or "miss HEX", where HEX is the key in hexadecimal.
std::string to_text(const GoldenManifest& manifest);
SetupResult<GoldenManifest> read_manifest(const std::string& file);

/// Writes each file of `store` to `golden` as NAME.zst.
SetupStatus pack_store(const std::string& store, const std::string& golden);
/// The other way round.
SetupStatus unpack_store(const std::string& golden, const std::string& store);

}  // namespace larder::testing
