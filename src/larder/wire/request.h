#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "larder/wire/decode_error.h"
#include "larder/wire/kv_cache.h"
#include "larder/wire/msgpack_reader.h"
#include "larder/wire/operation.h"
#include "larder/wire/registration.h"

namespace larder::wire {

using Frame = std::span<const std::byte>;

/// The first frames of a message, behind the identity of the connection.
struct Envelope {
  Frame uid;              ///< Goes back as it is; never decoded, except for uid_number().
  Frame operation_frame;  ///< Goes back as it is. Empty: the message controls a stream.
  std::span<const Frame> arguments;
};

/// Why a message gets no answer.
enum class Dropped : std::uint8_t {
  kTooFewFrames,         ///< There is no uid or no operation to answer to.
  kUidTooLong,           ///< Of more than limits::kUidBytes.
  kUnreadableOperation,  ///< The operation frame is no MessagePack.
};

Result<Envelope, Dropped> read_envelope(std::span<const Frame> frames) noexcept;

/// The number that LMCache's clients count their requests with, from 0 for each new connection; or
/// nothing when the uid is something else.
std::optional<std::uint64_t> uid_number(Frame uid) noexcept;

/// A client's message about its stream; the request has the uid.
enum class StreamControl : std::uint8_t {
  kAck,     ///< It has taken a batch, and may get another one.
  kCancel,  ///< The stream is to end.
};
/// Nothing: it is neither.
std::optional<StreamControl> read_stream_control(std::span<const Frame> arguments) noexcept;

// The requests that larder decodes. A `key` is checked by KeyReader only, in pieces. Texts and
// binaries are views into the frames. Instance ids are any integer of MessagePack.

struct Lookup {
  Frame key;
};
struct QueryPrefetchStatus {
  std::string_view request_id;
};
struct WaitPrefetchStatus {
  std::string_view request_id;
  double seconds = 0;  ///< Any number, also below zero or infinite.
};
struct TokenRange {
  std::uint64_t start = 0;
  std::uint64_t end = 0;  ///< May lie below start: an empty range.
};
struct FreeLookupLocks {
  Frame key;
  std::vector<TokenRange> extra_ranges;
};
struct EndSession {
  std::string_view request_id;
};
struct UnregisterEngineDriven {
  Integer instance;
};
/// Of an instance of the other transfer mode.
struct UnregisterKvCache {
  Integer instance;
};
struct PrepareStore {
  Frame key;
  Integer instance;
  std::vector<std::vector<std::uint32_t>>
      skipped_chunks;  ///< One list for each group, or none at all.
};
struct CommitStore {
  Frame key;
  Integer instance;
  /// The last frame holds the values themselves, of any length; else the client has written them
  /// into shared memory.
  bool has_data = false;
};
struct PrepareRetrieve {
  Frame key;
  Integer instance;
};
struct CommitRetrieve {
  Frame key;
  Integer instance;
};
/// Block ids of every group of a worker, one behind the other.
struct BlockIds {
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> ends;  ///< By group: where its ids end.

  std::size_t groups() const noexcept { return ends.size(); }
  std::span<const std::uint32_t> group(std::size_t number) const noexcept {
    const std::size_t begin = number == 0 ? 0 : ends[number - 1];
    return std::span{ids}.subspan(begin, ends[number] - begin);
  }
};
/// The server copies from the worker's blocks.
struct Store {
  Frame key;
  Integer instance;
  BlockIds blocks;  ///< One list for each group; one group when it is a flat array.
  Frame event;      ///< To wait for first. On CPUs anything, also empty.
};
/// The server copies into the worker's blocks.
struct Retrieve {
  Frame key;
  Integer instance;
  BlockIds blocks;
  Frame event;
  std::uint64_t skip_tokens = 0;  ///< Blocks at the start of the range that must not be written.
};
struct Clear {
  bool force = false;
};
struct GetChunkSize {};
struct Ping {
  std::optional<Integer> instance;  ///< Empty from a scheduler.
};
struct ReportBlockAllocation {};  ///< Its arguments are not read.
struct Noop {};
struct GetExperimental {};
struct NegotiateChunkSize {
  std::uint32_t alignment = 0;
};
struct SubscribeKvEvents {
  Integer instance;
  std::string_view model;
  std::uint64_t cursor = 0;      ///< Events after this number.
  std::uint32_t events_max = 0;  ///< Of one batch: 1 to 1024.
};
/// A known operation that larder does not serve.
struct NotServed {};

using Arguments =
    std::variant<NotServed, Lookup, QueryPrefetchStatus, WaitPrefetchStatus, FreeLookupLocks,
                 EndSession, EngineDrivenRegistration, UnregisterEngineDriven, KvCacheRegistration,
                 UnregisterKvCache, Store, Retrieve, PrepareStore, CommitStore, PrepareRetrieve,
                 CommitRetrieve, Clear, GetChunkSize, Ping, ReportBlockAllocation, Noop,
                 GetExperimental, NegotiateChunkSize, SubscribeKvEvents>;

/// Decodes the arguments of a request, of either client version. The number of frames and their
/// lengths are checked for every operation. Pure; allocates for lists only, within limits.h. Takes
/// some time for lists only: up to a millisecond at their limits.
DecodeResult<Arguments> decode_arguments(Operation operation, std::span<const Frame> arguments);

}  // namespace larder::wire
