#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace larder::fs {

/// SHA-256 (FIPS 180-4) in 64 lower-case hexadecimal digits. For names that must not collide even
/// on purpose; too slow for values. Any thread.
std::string sha256_hex(std::span<const std::byte> data);

}  // namespace larder::fs
