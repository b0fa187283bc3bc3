#pragma once

#include <cstddef>
#include <cstdint>

/// What a message may hold at most. Every decoder checks the limit before it allocates or loops, so
/// that no message costs more than its own length. What lies beyond is an error, never cut off.
namespace larder::wire::limits {

// A message.
inline constexpr std::size_t kFrameBytes = std::size_t{64} << 20;  ///< But for inline data.
inline constexpr std::size_t kFrames = 16;  ///< Of one request: uid, operation, arguments.
inline constexpr std::size_t kUidBytes = 64;
inline constexpr std::size_t kOperationBytes = 128;
inline constexpr std::size_t kDepth = 16;  ///< Arrays and maps within each other.
/// Values in what a decoder reads past (unknown fields, request_configs) in one frame. It bounds
/// the time, as kFrameBytes bounds the bytes.
inline constexpr std::size_t kIgnoredValues = std::size_t{64} << 10;

// The key.
inline constexpr std::size_t kTokens = std::size_t{4} << 20;
inline constexpr std::uint32_t kChunkTokens = 65536;
inline constexpr std::uint32_t kWorldSize = 255;  ///< It has 8 bits in an object's rank.
inline constexpr std::size_t kModelBytes = 512;
inline constexpr std::size_t kRequestIdBytes = 1024;
inline constexpr std::size_t kSaltCharacters = 128;  ///< LMCache's own limit, in code points.
inline constexpr std::uint32_t kKvReaders = 128;  ///< More are taken as this many, as in LMCache.

// Registration and transfers.
inline constexpr std::size_t kDtypeBytes = 64;
inline constexpr std::size_t kGroups = 64;
inline constexpr std::size_t kSkippedChunks = 65536;  ///< A group.
inline constexpr std::size_t kFreedRanges = 4096;
/// Layers, block sizes, hidden sizes: any dimension of a registered layout. The product of three of
/// them stays within 64 bits.
inline constexpr std::uint32_t kDimension = std::uint32_t{1} << 20;
inline constexpr std::size_t kTensors = 4096;  ///< That a worker registers.
inline constexpr std::size_t kTensorRank = 8;
/// Of one tensor's memory; also its sizes and strides, so that their product stays within 128 bits.
inline constexpr std::uint64_t kTensorBytes = std::uint64_t{1} << 48;
inline constexpr std::size_t kMemoryNameBytes = 255;  ///< Also of a device's name.
inline constexpr std::size_t kHandleBytes = 4096;     ///< Of an event, or of memory of a device.
inline constexpr std::size_t kBlockIds = 65536;       ///< A group.

// Replies and failures.
inline constexpr std::size_t kShownValueBytes = 80;  ///< Of a wrong value, in an error's text.

}  // namespace larder::wire::limits
