#pragma once

#include <cstddef>
#include <cstdint>

/// The limits of a message. Every decoder checks the limit before it allocates or loops, so that no
/// message costs more than its own length. A message beyond a limit is an error; it is never
/// truncated.
namespace larder::wire::limits {

// A message.
inline constexpr std::size_t kFrameBytes = std::size_t{64} << 20;  ///< Except inline data.
inline constexpr std::size_t kFrames = 16;  ///< Frames of one request: uid, operation, arguments.
inline constexpr std::size_t kUidBytes = 64;
inline constexpr std::size_t kOperationBytes = 128;
inline constexpr std::size_t kDepth = 16;  ///< Arrays and maps within each other.
/// Values that a decoder skips (unknown fields, request_configs) in one frame. It bounds the time,
/// as kFrameBytes bounds the bytes.
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
inline constexpr std::size_t kTensors = 4096;  ///< Tensors that a worker registers.
inline constexpr std::size_t kTensorRank = 8;
/// Bytes of one tensor's memory; also the limit of sizes and strides, so that their product stays
/// within 128 bits.
inline constexpr std::uint64_t kTensorBytes = std::uint64_t{1} << 48;
inline constexpr std::size_t kMemoryNameBytes = 255;  ///< Also for a device's name.
inline constexpr std::size_t kHandleBytes = 4096;  ///< Handle of an event, or of a device's memory.
inline constexpr std::size_t kBlockIds = 65536;    ///< A group.

// Replies and failures.
inline constexpr std::size_t kShownValueBytes = 80;  ///< Of a wrong value, in an error.

}  // namespace larder::wire::limits
