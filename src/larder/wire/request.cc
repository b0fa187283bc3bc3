#include "larder/wire/request.h"

#include <string>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/wire/fields.h"
#include "larder/wire/limits.h"

namespace larder::wire {
namespace {

constexpr std::string_view kInstance = "instance_id";
constexpr std::string_view kRequestId = "request_id";

DecodeResult<Integer> instance(Frame frame) {
  return read_frame(frame, kInstance, read_integer);
}

DecodeResult<std::string_view> request_id(Frame frame) {
  return read_frame(frame, kRequestId, [](MsgpackReader& reader, std::string_view field) {
    return read_text(reader, field, limits::kRequestIdBytes);
  });
}

/// Python's truth of a value, as LMCache takes it for a flag.
DecodeResult<bool> truth(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  std::size_t values = limits::kIgnoredValues;
  MsgpackReader head{before};
  LARDER_TRY(pass_value(reader, field, values));
  const auto value = head.next();
  if (!value) return wrong_value(field, before, "true or false");
  switch (value->type) {
    case Type::kNil:
      return false;
    case Type::kBoolean:
      return value->boolean;
    case Type::kInteger:
      return value->integer.bits != 0;
    case Type::kFloat:
      return value->real != 0;
    case Type::kText:
    case Type::kBinary:
    case Type::kExtension:
      return !value->bytes.empty();
    case Type::kArray:
    case Type::kMap:
      return value->count != 0;
  }
  return false;
}

/// tp_size of a lookup: ignored, but not nil, as in LMCache.
DecodeStatus check_tp_size(Frame frame) {
  auto size = read_frame(frame, "tp_size", read_integer);
  if (!size) return std::move(size).error();
  return {};
}

DecodeResult<std::vector<TokenRange>> token_ranges(MsgpackReader& reader, std::string_view field) {
  constexpr std::uint64_t kAny = ~std::uint64_t{0};
  LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kFreedRanges));
  std::vector<TokenRange> ranges(count);
  for (TokenRange& range : ranges) {
    const auto before = reader.rest();
    LARDER_ASSIGN(const auto ends, read_array(reader, field, 2));
    if (ends != 2) return wrong_value(field, before, "an array of [start, end]");
    LARDER_ASSIGN(range.start, read_number(reader, field, 0, kAny));
    LARDER_ASSIGN(range.end, read_number(reader, field, 0, kAny));
  }
  return ranges;
}

DecodeResult<std::vector<std::vector<std::uint32_t>>> chunk_lists(MsgpackReader& reader,
                                                                  std::string_view field) {
  LARDER_ASSIGN(const auto groups, read_array(reader, field, limits::kGroups));
  std::vector<std::vector<std::uint32_t>> lists(groups);
  for (auto& list : lists) {
    LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kSkippedChunks));
    list.resize(count);
    for (std::uint32_t& chunk : list) {
      LARDER_ASSIGN(const auto number, read_number(reader, field, 0, limits::kTokens - 1));
      chunk = static_cast<std::uint32_t>(number);
    }
  }
  return lists;
}

DecodeStatus check_count(const OperationInfo& operation, std::size_t count) {
  if (count >= operation.arguments_min && count <= operation.arguments_max) return {};
  std::string accepted = std::to_string(operation.arguments_min);
  if (operation.arguments_max != operation.arguments_min) {
    accepted += " or " + std::to_string(operation.arguments_max);
  }
  constexpr std::size_t kMost = limits::kFrames - 2;
  return DecodeError{
      .field = "the number of arguments of " + std::string{operation.name},
      .value = count > kMost ? "more than " + std::to_string(kMost) : std::to_string(count),
      .remedy = accepted + ", as LMCache 0.5.6 and 0.5.7 send"};
}

/// The data of a commit is skipped, and may have any length.
DecodeStatus check_lengths(const OperationInfo& operation, std::span<const Frame> frames) {
  for (const Frame& frame : frames) {
    const bool is_data = operation.operation == Operation::kCommitStore && &frame == &frames.back();
    if (frame.size() <= limits::kFrameBytes || is_data) continue;
    return DecodeError{.field = "the length of an argument of " + std::string{operation.name},
                       .value = std::to_string(frame.size()) + " bytes",
                       .remedy = "at most " + std::to_string(limits::kFrameBytes)};
  }
  return {};
}

DecodeResult<Arguments> free_lookup_locks(std::span<const Frame> frames) {
  FreeLookupLocks request{.key = frames[0], .extra_ranges = {}};
  LARDER_TRY(check_tp_size(frames[1]));
  if (frames.size() > 2) {
    LARDER_ASSIGN(request.extra_ranges, read_frame(frames[2], "extra_ranges", token_ranges));
  }
  return request;
}

DecodeResult<Arguments> prepare_store(std::span<const Frame> frames) {
  PrepareStore request{.key = frames[0], .instance = {}, .skipped_chunks = {}};
  LARDER_ASSIGN(request.instance, instance(frames[1]));
  if (frames.size() > 2) {
    LARDER_ASSIGN(request.skipped_chunks, read_frame(frames[2], "skipped_chunks", chunk_lists));
  }
  return request;
}

DecodeResult<Arguments> commit_store(std::span<const Frame> frames) {
  CommitStore request{.key = frames[0], .instance = {}};
  LARDER_ASSIGN(request.instance, instance(frames[1]));
  LARDER_ASSIGN(const auto data, read_frame(frames[2], "data", read_binary));
  request.has_data = !data.empty();
  return request;
}

/// The ids of one group, at the end of those of the groups before.
DecodeStatus append_ids(MsgpackReader& reader, std::string_view field, std::uint32_t count,
                        BlockIds& out) {
  for (std::uint32_t i = 0; i < count; ++i) {
    LARDER_ASSIGN(const auto id, read_number(reader, field, 0, 0xFFFF'FFFF));
    out.ids.push_back(static_cast<std::uint32_t>(id));
  }
  out.ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
  return {};
}

/// Nested lists, one a group, or the ids of the only group.
DecodeResult<BlockIds> block_ids(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kBlockIds));
  BlockIds out;
  MsgpackReader first{reader.rest()};
  const auto head = count == 0 ? std::nullopt : first.next();
  if (!head || head->type != Type::kArray) {
    LARDER_TRY(append_ids(reader, field, count, out));
    return out;
  }
  if (count > limits::kGroups) {
    return wrong_value(field, before,
                       "an array of at most " + std::to_string(limits::kGroups) + " arrays");
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string group = std::string{field} + "[" + std::to_string(i) + "]";
    LARDER_ASSIGN(const auto ids, read_array(reader, group, limits::kBlockIds));
    LARDER_TRY(append_ids(reader, group, ids, out));
  }
  return out;
}

DecodeResult<Frame> event_handle(Frame frame) {
  constexpr std::string_view kField = "event_ipc_handle";
  LARDER_ASSIGN(const Frame event, read_frame(frame, kField, read_binary));
  if (event.size() <= limits::kHandleBytes) return event;
  return wrong_value(kField, frame,
                     "binary of at most " + std::to_string(limits::kHandleBytes) + " bytes");
}

DecodeResult<Arguments> store(std::span<const Frame> frames) {
  Store request{.key = frames[0], .instance = {}, .blocks = {}, .event = {}};
  LARDER_ASSIGN(request.instance, instance(frames[1]));
  LARDER_ASSIGN(request.blocks, read_frame(frames[2], "gpu_block_ids", block_ids));
  LARDER_ASSIGN(request.event, event_handle(frames[3]));
  return request;
}

DecodeResult<Arguments> retrieve(std::span<const Frame> frames) {
  Retrieve request{.key = frames[0], .instance = {}, .blocks = {}, .event = {}};
  LARDER_ASSIGN(request.instance, instance(frames[1]));
  LARDER_ASSIGN(request.blocks, read_frame(frames[2], "gpu_block_ids", block_ids));
  LARDER_ASSIGN(request.event, event_handle(frames[3]));
  LARDER_ASSIGN(request.skip_tokens, read_frame(frames[4], "skip_first_n_tokens",
                                                [](MsgpackReader& reader, std::string_view field) {
                                                  return read_number(reader, field, 0,
                                                                     ~std::uint64_t{0} >> 1);
                                                }));
  return request;
}

DecodeResult<Arguments> wait_prefetch_status(std::span<const Frame> frames) {
  WaitPrefetchStatus request;
  LARDER_ASSIGN(request.request_id, request_id(frames[0]));
  LARDER_ASSIGN(request.seconds, read_frame(frames[1], "timeout", read_real));
  return request;
}

DecodeResult<Arguments> ping(std::span<const Frame> frames) {
  MsgpackReader reader{frames.empty() ? Frame{} : frames[0]};
  if (frames.empty() || (take_nil(reader) && reader.at_end())) return Ping{};
  LARDER_ASSIGN(const Integer id, instance(frames[0]));
  return Ping{.instance = id};
}

DecodeResult<Arguments> subscribe(std::span<const Frame> frames) {
  SubscribeKvEvents request;
  LARDER_ASSIGN(request.instance, instance(frames[0]));
  LARDER_ASSIGN(request.model,
                read_frame(frames[1], "model_name", [](MsgpackReader& reader, auto field) {
                  return read_text(reader, field, limits::kModelBytes);
                }));
  constexpr std::uint64_t kAny = ~std::uint64_t{0};
  LARDER_ASSIGN(request.cursor,
                read_frame(frames[2], "cursor", [](MsgpackReader& reader, auto field) {
                  return read_number(reader, field, 0, kAny);
                }));
  LARDER_ASSIGN(const auto most,
                read_frame(frames[3], "max_events", [](MsgpackReader& reader, auto field) {
                  return read_number(reader, field, 1, 1024);
                }));
  request.events_max = static_cast<std::uint32_t>(most);
  return request;
}

DecodeResult<Arguments> negotiate(Frame frame) {
  LARDER_ASSIGN(const auto alignment, read_frame(frame, "the chunk size's alignment",
                                                 [](MsgpackReader& reader, std::string_view field) {
                                                   return read_number(reader, field, 1,
                                                                      limits::kChunkTokens);
                                                 }));
  return NegotiateChunkSize{.alignment = static_cast<std::uint32_t>(alignment)};
}

}  // namespace

Result<Envelope, Dropped> read_envelope(std::span<const Frame> frames) noexcept {
  if (frames.size() < 2) return Dropped::kTooFewFrames;
  if (frames[0].size() > limits::kUidBytes) return Dropped::kUidTooLong;
  if (frames[1].size() > limits::kOperationBytes) return Dropped::kUnreadableOperation;
  return Envelope{.uid = frames[0], .operation_frame = frames[1], .arguments = frames.subspan(2)};
}

std::optional<StreamControl> read_stream_control(std::span<const Frame> arguments) noexcept {
  if (arguments.size() != 1) return std::nullopt;
  const std::string_view word = as_text(arguments[0]);
  if (word == "ack") return StreamControl::kAck;
  if (word == "cancel") return StreamControl::kCancel;
  return std::nullopt;
}

std::optional<std::uint64_t> uid_number(Frame uid) noexcept {
  MsgpackReader reader{uid};
  const auto value = reader.next();
  if (!value || !reader.at_end() || value->type != Type::kInteger || value->integer.is_negative) {
    return std::nullopt;
  }
  return value->integer.bits;
}

DecodeResult<Arguments> decode_arguments(Operation operation, std::span<const Frame> frames) {
  LARDER_TRY(check_count(info(operation), frames.size()));
  LARDER_TRY(check_lengths(info(operation), frames));
  switch (operation) {
    case Operation::kLookup:
      LARDER_TRY(check_tp_size(frames[1]));
      return Lookup{.key = frames[0]};
    case Operation::kQueryPrefetchStatus: {
      LARDER_ASSIGN(const auto id, request_id(frames[0]));
      return QueryPrefetchStatus{.request_id = id};
    }
    case Operation::kWaitPrefetchStatus:
      return wait_prefetch_status(frames);
    case Operation::kFreeLookupLocks:
      return free_lookup_locks(frames);
    case Operation::kEndSession: {
      LARDER_ASSIGN(const auto id, request_id(frames[0]));
      return EndSession{.request_id = id};
    }
    case Operation::kRegisterEngineDriven: {
      LARDER_ASSIGN(auto registration, decode_engine_driven_registration(frames[0]));
      return registration;
    }
    case Operation::kUnregisterEngineDriven: {
      LARDER_ASSIGN(const Integer id, instance(frames[0]));
      return UnregisterEngineDriven{.instance = id};
    }
    case Operation::kRegisterKvCache: {
      LARDER_ASSIGN(auto registration, decode_kv_cache_registration(frames));
      return registration;
    }
    case Operation::kStore:
      return store(frames);
    case Operation::kRetrieve:
      return retrieve(frames);
    case Operation::kUnregisterKvCache: {
      LARDER_ASSIGN(const Integer id, instance(frames[0]));
      return UnregisterKvCache{.instance = id};
    }
    case Operation::kPrepareStore:
      return prepare_store(frames);
    case Operation::kCommitStore:
      return commit_store(frames);
    case Operation::kPrepareRetrieve: {
      LARDER_ASSIGN(const Integer id, instance(frames[1]));
      return PrepareRetrieve{.key = frames[0], .instance = id};
    }
    case Operation::kCommitRetrieve: {
      LARDER_ASSIGN(const Integer id, instance(frames[1]));
      return CommitRetrieve{.key = frames[0], .instance = id};
    }
    case Operation::kClear: {
      if (frames.empty()) return Clear{};
      LARDER_ASSIGN(const bool force, read_frame(frames[0], "force", truth));
      return Clear{.force = force};
    }
    case Operation::kGetChunkSize:
      return GetChunkSize{};
    case Operation::kPing:
      return ping(frames);
    case Operation::kReportBlockAllocation:
      return ReportBlockAllocation{};
    case Operation::kNoop:
      return Noop{};
    case Operation::kGetExperimental:
      return GetExperimental{};
    case Operation::kNegotiateChunkSize:
      return negotiate(frames[0]);
    case Operation::kSubscribeKvEvents:
      return subscribe(frames);
    default:
      return NotServed{};
  }
}

}  // namespace larder::wire
