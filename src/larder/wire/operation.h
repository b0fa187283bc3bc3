#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "larder/wire/decode_error.h"

namespace larder::wire {

/// LMCache's operations. Numbers up to 33 are frozen ids on the wire; a client may send either id
/// or name. Later operations have a name only; their numbers are larder's own.
enum class Operation : std::uint8_t {
  kRegisterKvCache = 1,
  kUnregisterKvCache = 2,
  kRegisterQCache = 3,
  kUnregisterQCache = 4,
  kStoreQ = 5,
  kStore = 6,
  kRetrieve = 7,
  kLookup = 8,
  kQueryPrefetchStatus = 9,
  kWaitPrefetchStatus = 10,
  // 11 was query_prefetch_lookup_hits, which no version that larder serves has.
  kFreeLookupLocks = 12,
  kEndSession = 13,
  kRegisterEngineDriven = 14,
  kUnregisterEngineDriven = 15,
  kPrepareStore = 16,
  kCommitStore = 17,
  kPrepareRetrieve = 18,
  kCommitRetrieve = 19,
  kClear = 20,
  kGetChunkSize = 21,
  kPing = 22,
  kReportBlockAllocation = 23,
  kNoop = 24,
  kCbRegisterRope = 25,
  kCbUnregisterRope = 26,
  kCbRetrievePreComputed = 27,
  kCbUnifiedLookup = 28,
  kP2pLookupAndLock = 29,
  kP2pQueryLookupResults = 30,
  kP2pUnlockObjects = 31,
  kGetExperimental = 32,
  kCbProtocolHandshake = 33,
  kNegotiateChunkSize = 64,
  kSubscribeKvEvents = 65,
  kServerModuleCall = 66,
  kServerModuleAffinityCall = 67,
  kCbReorderPlan = 68,
};

/// The fixed properties of an operation.
struct OperationInfo {
  Operation operation;
  std::string_view name;  ///< As on the wire.
  /// How many arguments larder accepts. LMCache wants an exact number, which differs by version.
  std::uint8_t arguments_min;
  std::uint8_t arguments_max;
};

/// Every operation, in ascending order.
std::span<const OperationInfo> operations() noexcept;
const OperationInfo& info(Operation operation) noexcept;

/// Reads a request's operation frame. An error names the unknown operation: the frame is
/// MessagePack, but no operation. Nothing when the frame cannot be read: such a request is dropped.
std::optional<DecodeResult<Operation>> decode_operation(std::span<const std::byte> frame);

}  // namespace larder::wire
