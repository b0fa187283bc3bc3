#include "larder/wire/reply.h"

#include <string>

#include "larder/base/key_text.h"

namespace larder::wire {
namespace {

constexpr std::string_view kStubEvent = "stub_ipc_handle";
constexpr std::size_t kErrorTextBytes = 1000;

template <class Write>
Bytes encode(Write write) {
  Bytes bytes;
  MsgpackWriter writer{bytes};
  write(writer);
  return bytes;
}

void write_slots(MsgpackWriter& writer, std::span<const Slot> slots) {
  writer.text("slots");
  writer.array(slots.size());
  for (const Slot& slot : slots) {
    writer.map(4);
    writer.text("offset");
    writer.integer(slot.offset);
    writer.text("length");
    writer.integer(slot.bytes);
    writer.text("shape");
    writer.array(slot.layout->shape.size());
    for (const std::uint64_t size : slot.layout->shape) writer.integer(size);
    writer.text("dtype");
    writer.text(slot.layout->dtype);
  }
}

void write_numbers(MsgpackWriter& writer, std::string_view name, std::span<const Slot> slots,
                   std::uint32_t Slot::* number) {
  writer.text(name);
  writer.array(slots.size());
  for (const Slot& slot : slots) writer.integer(slot.*number);
}

Bytes encode_event(std::string_view event, bool is_good) {
  return encode([&](MsgpackWriter& writer) {
    writer.array(2);
    writer.binary(std::as_bytes(std::span{event}));
    writer.boolean(is_good);
  });
}

void write_retrieve_head(MsgpackWriter& writer, bool is_good) {
  writer.map(3);
  writer.text("success");
  writer.boolean(is_good);
  writer.text("data");
  writer.binary({});
  writer.text("context");
}

FailureReply failure_text(std::string_view text) {
  // An escaped byte takes four; whole characters are cut by printable() once more.
  const std::string shown = printable(text.substr(0, kErrorTextBytes));
  return {.operation = encode([&](MsgpackWriter& writer) { writer.text("larder: " + shown); }),
          .has_payload = false,
          .payload = {}};
}

FailureReply failure_payload(Bytes payload) {
  return {.operation = {}, .has_payload = true, .payload = std::move(payload)};
}

void write(MsgpackWriter& writer, const KvEvent& event) {
  writer.map(7);
  writer.text("seq");
  writer.integer(event.sequence);
  writer.text("kind");
  writer.text(event.is_stored ? "stored" : "removed");
  writer.text("medium");
  writer.text("CPU");
  writer.text("model_name");
  writer.text(event.model);
  writer.text("block_hashes");
  writer.array(event.hashes.size());
  for (const ChunkHash& hash : event.hashes) writer.binary(hash);
  writer.text("parent_block_hash");
  if (event.parent == nullptr) {
    writer.nil();
  } else {
    writer.binary(*event.parent);
  }
  writer.text("token_ids");
  writer.array(event.token_ids.size());
  for (const std::uint32_t token : event.token_ids) writer.integer(token);
}

}  // namespace

Bytes encode_boolean(bool value) {
  return encode([&](MsgpackWriter& writer) { writer.boolean(value); });
}

Bytes encode_number(std::uint64_t value) {
  return encode([&](MsgpackWriter& writer) { writer.integer(value); });
}

Bytes encode_ok() {
  return encode([](MsgpackWriter& writer) { writer.text("OK"); });
}

Bytes encode_names(std::span<const std::string_view> names) {
  return encode([&](MsgpackWriter& writer) {
    writer.array(names.size());
    for (const std::string_view name : names) writer.text(name);
  });
}

Bytes encode_registered(std::string_view pool, std::uint64_t pool_bytes, std::int64_t null_block) {
  return encode([&](MsgpackWriter& writer) {
    writer.map(3);
    writer.text("shm_name");
    writer.text(pool);
    writer.text("pool_size");
    writer.integer(pool_bytes);
    writer.text("null_block_id");
    if (null_block < 0) {
      writer.negative(null_block);
    } else {
      writer.integer(static_cast<std::uint64_t>(null_block));
    }
  });
}

Bytes encode_store_slots(std::span<const Slot> slots, bool has_groups) {
  return encode([&](MsgpackWriter& writer) {
    writer.map(1);
    writer.text("context");
    writer.map(has_groups ? 3 : 2);
    write_slots(writer, slots);
    write_numbers(writer, "chunk_indices", slots, &Slot::chunk);
    if (has_groups) write_numbers(writer, "group_ids", slots, &Slot::group);
  });
}

Bytes encode_retrieve_slots(std::span<const Slot> slots, bool has_groups) {
  return encode([&](MsgpackWriter& writer) {
    write_retrieve_head(writer, true);
    writer.map(has_groups ? 3 : 1);
    write_slots(writer, slots);
    if (!has_groups) return;
    write_numbers(writer, "group_ids", slots, &Slot::group);
    write_numbers(writer, "chunk_indices", slots, &Slot::chunk);
  });
}

Bytes encode_transfer_done(bool is_good) {
  return encode_event(kStubEvent, is_good);
}

Bytes encode_kv_events(const KvEventBatch& batch) {
  return encode([&](MsgpackWriter& writer) {
    writer.map(5);
    writer.text("enabled");
    writer.boolean(batch.is_enabled);
    writer.text("incarnation");
    writer.integer(batch.incarnation);
    writer.text("next_cursor");
    writer.integer(batch.next_cursor);
    writer.text("lost");
    writer.boolean(batch.is_lost);
    writer.text("events");
    writer.array(batch.events.size());
    for (const KvEvent& event : batch.events) write(writer, event);
  });
}

FailureReply encode_failure(Operation operation, std::string_view text, bool is_registered) {
  switch (operation) {
    case Operation::kUnregisterKvCache:
    case Operation::kUnregisterQCache:
    case Operation::kLookup:
    case Operation::kFreeLookupLocks:
    case Operation::kEndSession:
    case Operation::kUnregisterEngineDriven:
    case Operation::kReportBlockAllocation:
    case Operation::kCbUnregisterRope:
    case Operation::kP2pUnlockObjects:
      return {};
    case Operation::kStoreQ:
    case Operation::kStore:
    case Operation::kRetrieve:
    case Operation::kCbRetrievePreComputed:
      return failure_payload(encode_event(is_registered ? kStubEvent : "", false));
    case Operation::kQueryPrefetchStatus:
    case Operation::kWaitPrefetchStatus:
    case Operation::kP2pLookupAndLock:
      return failure_payload(encode_number(0));
    case Operation::kPrepareStore:
      return failure_payload(encode([](MsgpackWriter& writer) {
        writer.map(1);
        writer.text("context");
        writer.map(0);
      }));
    case Operation::kCommitStore:
    case Operation::kCommitRetrieve:
      return failure_payload(encode_boolean(false));
    case Operation::kPrepareRetrieve:
      return failure_payload(encode([](MsgpackWriter& writer) {
        write_retrieve_head(writer, false);
        writer.map(0);
      }));
    case Operation::kP2pQueryLookupResults:
      return failure_payload(encode([](MsgpackWriter& writer) { writer.array(0); }));
    case Operation::kRegisterKvCache:
    case Operation::kRegisterQCache:
    case Operation::kRegisterEngineDriven:
    case Operation::kClear:
    case Operation::kGetChunkSize:
    case Operation::kPing:
    case Operation::kNoop:
    case Operation::kCbRegisterRope:
    case Operation::kCbUnifiedLookup:
    case Operation::kGetExperimental:
    case Operation::kCbProtocolHandshake:
    case Operation::kNegotiateChunkSize:
    case Operation::kSubscribeKvEvents:
    case Operation::kServerModuleCall:
    case Operation::kServerModuleAffinityCall:
    case Operation::kCbReorderPlan:
      break;
  }
  return failure_text(text);
}

FailureReply encode_unknown_operation(const DecodeError& error) {
  return failure_text(error.to_string());
}

}  // namespace larder::wire
