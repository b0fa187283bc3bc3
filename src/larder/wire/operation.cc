#include "larder/wire/operation.h"

#include <algorithm>
#include <string>
#include <vector>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/wire/fields.h"
#include "larder/wire/limits.h"

namespace larder::wire {
namespace {

constexpr OperationInfo kOperations[] = {
    {Operation::kRegisterKvCache, "register_kv_cache", 6, 7},
    {Operation::kUnregisterKvCache, "unregister_kv_cache", 1, 1},
    {Operation::kRegisterQCache, "register_q_cache", 6, 7},
    {Operation::kUnregisterQCache, "unregister_q_cache", 1, 1},
    {Operation::kStoreQ, "store_q", 4, 4},
    {Operation::kStore, "store", 4, 4},
    {Operation::kRetrieve, "retrieve", 5, 5},
    {Operation::kLookup, "lookup", 2, 2},
    {Operation::kQueryPrefetchStatus, "query_prefetch_status", 1, 1},
    {Operation::kWaitPrefetchStatus, "wait_prefetch_status", 2, 2},
    {Operation::kFreeLookupLocks, "free_lookup_locks", 2, 3},
    {Operation::kEndSession, "end_session", 1, 1},
    {Operation::kRegisterEngineDriven, "register_kv_cache_engine_driven_context", 1, 1},
    {Operation::kUnregisterEngineDriven, "unregister_kv_cache_engine_driven_context", 1, 1},
    {Operation::kPrepareStore, "prepare_store", 2, 3},
    {Operation::kCommitStore, "commit_store", 3, 3},
    {Operation::kPrepareRetrieve, "prepare_retrieve", 2, 2},
    {Operation::kCommitRetrieve, "commit_retrieve", 2, 2},
    {Operation::kClear, "clear", 0, 1},
    {Operation::kGetChunkSize, "get_chunk_size", 0, 0},
    {Operation::kPing, "ping", 0, 1},
    {Operation::kReportBlockAllocation, "report_block_allocation", 3, 3},
    {Operation::kNoop, "noop", 0, 0},
    {Operation::kCbRegisterRope, "cb_register_rope", 8, 8},
    {Operation::kCbUnregisterRope, "cb_unregister_rope", 1, 1},
    {Operation::kCbRetrievePreComputed, "cb_retrieve_pre_computed", 5, 5},
    {Operation::kCbUnifiedLookup, "cb_unified_lookup", 2, 2},
    {Operation::kP2pLookupAndLock, "p2p_lookup_and_lock", 2, 2},
    {Operation::kP2pQueryLookupResults, "p2p_query_lookup_results", 1, 1},
    {Operation::kP2pUnlockObjects, "p2p_unlock_objects", 1, 1},
    {Operation::kGetExperimental, "get_experimental", 0, 0},
    {Operation::kCbProtocolHandshake, "cb_protocol_handshake", 1, 1},
    {Operation::kNegotiateChunkSize, "negotiate_chunk_size", 1, 1},
    {Operation::kSubscribeKvEvents, "subscribe_kv_events", 4, 4},
    {Operation::kServerModuleCall, "server_module_call", 1, 1},
    {Operation::kServerModuleAffinityCall, "server_module_affinity_call", 1, 1},
    {Operation::kCbReorderPlan, "cb_reorder_plan", 3, 3},
};

constexpr std::uint64_t kLargestId = 33;

DecodeError unknown(std::string value, std::string remedy) {
  return {.field = "the operation", .value = std::move(value), .remedy = std::move(remedy)};
}

DecodeError unknown_name(std::string_view name, std::span<const std::byte> frame) {
  std::vector<std::string_view> names;
  for (const OperationInfo& each : kOperations) names.push_back(each.name);
  const std::string_view nearest = nearest_name(name, names);
  return unknown(show_value(frame), nearest.empty() ? "one that this server has"
                                                    : "one that this server has, such as \"" +
                                                          std::string{nearest} + '"');
}

}  // namespace

std::span<const OperationInfo> operations() noexcept {
  return kOperations;
}

const OperationInfo& info(Operation operation) noexcept {
  const auto* found = std::ranges::find(kOperations, operation, &OperationInfo::operation);
  LARDER_CHECK(found != std::end(kOperations));
  return *found;
}

std::optional<DecodeResult<Operation>> decode_operation(std::span<const std::byte> frame) {
  MsgpackReader reader{frame};
  const auto value = reader.next();
  if (!value || !reader.at_end()) return std::nullopt;
  if (value->type == Type::kInteger) {
    const auto is_it = [&](const OperationInfo& each) {
      return !value->integer.is_negative && value->integer.bits <= kLargestId &&
             value->integer.bits == static_cast<std::uint64_t>(each.operation);
    };
    const auto* found = std::ranges::find_if(kOperations, is_it);
    if (found != std::end(kOperations)) return found->operation;
    return unknown(show_value(frame), "an id that this server has, 1 to 10 or 12 to 33, or a name");
  }
  if (value->type != Type::kText) return unknown(show_value(frame), "an integer or text");
  const std::string_view name = as_text(value->bytes);
  const auto* found = std::ranges::find(kOperations, name, &OperationInfo::name);
  if (found != std::end(kOperations)) return found->operation;
  return unknown_name(name.substr(0, limits::kOperationBytes), frame);
}

}  // namespace larder::wire
