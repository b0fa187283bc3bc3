#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "larder/wire/chunk_hash.h"
#include "larder/wire/decode_error.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/operation.h"

namespace larder::wire {

// The third frame of a reply, byte for byte as LMCache writes it. A reply of "none" has no third
// frame. All are pure; each allocates its bytes.

/// ping, commit_store, commit_retrieve.
Bytes encode_boolean(bool value);
/// get_chunk_size, negotiate_chunk_size; query_prefetch_status and wait_prefetch_status once the
/// answer is known, in chunks from the prompt's beginning.
Bytes encode_number(std::uint64_t value);
/// noop.
Bytes encode_ok();
/// get_experimental.
Bytes encode_names(std::span<const std::string_view> names);

/// register_kv_cache_engine_driven_context. `pool` is the shared memory's name without the leading
/// slash.
Bytes encode_registered(std::string_view pool, std::uint64_t pool_bytes, std::int64_t null_block);

/// Properties that the slots of one group share.
struct SlotLayout {
  std::span<const std::uint64_t> shape;
  std::string_view dtype;
};

/// A chunk's place in the pool.
struct Slot {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  const SlotLayout* layout = nullptr;  ///< Never null.
  std::uint32_t chunk = 0;             ///< Counted from the key's start.
  std::uint32_t group = 0;
};

/// prepare_store: the slots to write, in the order of their groups. `has_groups` when the worker
/// registered several. No slots means that everything is stored already.
Bytes encode_store_slots(std::span<const Slot> slots, bool has_groups);
/// prepare_retrieve, likewise: every chunk's slot.
Bytes encode_retrieve_slots(std::span<const Slot> slots, bool has_groups);

/// store and retrieve: the event to wait for, on a CPU server LMCache's stub, and whether it
/// worked.
Bytes encode_transfer_done(bool is_good);

/// A change in L1, as subscribe_kv_events reports it.
struct KvEvent {
  std::uint64_t sequence = 0;  ///< From 1.
  bool is_stored = false;      ///< Else removed.
  std::string_view model{};
  std::span<const ChunkHash> hashes{};         ///< One, if stored.
  const ChunkHash* parent = nullptr;           ///< Stored: the chunk before; null: it is the first.
  std::span<const std::uint32_t> token_ids{};  ///< Stored: of the chunk; empty where not known.
};

/// One batch of subscribe_kv_events. The stream ends with a reply of "none" after the last one.
struct KvEventBatch {
  bool is_enabled = false;        ///< False: there are no events here, and no further batches.
  std::uint64_t incarnation = 0;  ///< Another number after a restart.
  std::uint64_t next_cursor = 0;  ///< The client has seen everything up to this number.
  bool is_lost = false;           ///< Events behind the client's cursor are not known any more.
  std::span<const KvEvent> events{};
};
Bytes encode_kv_events(const KvEventBatch& batch);

/// How a request is answered that failed: each in the form in which LMCache's client takes it for
/// the mildest failure (docs/wire.md has the table).
struct FailureReply {
  Bytes operation;           ///< The second frame. Empty: the request's own goes back.
  bool has_payload = false;  ///< Whether there is a third frame.
  Bytes payload;
};

/// `is_registered` is for transfers: whether the instance was known, which 5, 6, 7 and 27 tell
/// apart.
FailureReply encode_failure(Operation operation, std::string_view text, bool is_registered = true);

/// For an unknown operation. The client raises ValueError with the text.
FailureReply encode_unknown_operation(const DecodeError& error);

}  // namespace larder::wire
