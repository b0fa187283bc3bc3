#include "larder/server/admin_json.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "larder/base/key_text.h"
#include "larder/server/json_fields.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

Result<std::vector<std::uint32_t>, AdminError> read_blocks(const Json& json) {
  std::vector<std::uint32_t> blocks;
  const auto found = json.find("block_ids");
  if (found == json.end()) return blocks;
  if (!found->is_array())
    return wrong_field("block_ids", *found, "a list of block ids, as in [1, 2]");
  for (const Json& value : *found) {
    if (!is_u32(value)) return wrong_field("block_ids", value, "a block id, as in 1");
    blocks.push_back(value.get<std::uint32_t>());
  }
  return blocks;
}

Result<wire::Integer, AdminError> read_instance(const Json& json) {
  const auto found = json.find("instance_id");
  if (found == json.end()) return wire::Integer{};
  if (found->is_number_unsigned()) return wire::Integer{.bits = found->get<std::uint64_t>()};
  if (!found->is_number_integer()) {
    return wrong_field("instance_id", *found,
                       "a worker's id, as in /status under registered_gpu_ids");
  }
  const std::int64_t id = found->get<std::int64_t>();
  return wire::Integer{.bits = static_cast<std::uint64_t>(id), .is_negative = id < 0};
}

Json hex_list(std::span<const Md5> sums) {
  Json list = Json::array();
  for (const Md5& sum : sums) list.push_back(hex_text(sum));
  return list;
}

/// Like LMCache's compress_slot_mapping(): three or more consecutive numbers become [first, last].
Json ranges_of(std::span<const std::uint32_t> blocks) {
  Json list = Json::array();
  for (std::size_t first = 0, end = 0; first < blocks.size(); first = end) {
    end = first + 1;
    while (end < blocks.size() && blocks[end - 1] + std::uint64_t{1} == blocks[end]) ++end;
    if (end - first >= 3) {
      list.push_back({blocks[first], blocks[end - 1]});
      continue;
    }
    for (std::size_t i = first; i < end; ++i) list.push_back(blocks[i]);
  }
  return list;
}

}  // namespace

Result<ChecksumCommand, AdminError> read_checksums(std::string_view body) {
  LARDER_ASSIGN(const Json json, read_object(body));
  ChecksumCommand command;
  LARDER_ASSIGN(command.blocks, read_blocks(json));
  LARDER_ASSIGN(command.instance, read_instance(json));
  LARDER_ASSIGN(command.is_by_layer, read_bool(json, "layerwise"));
  if (const auto found = json.find("chunk_size"); found != json.end()) {
    if (!is_u32(*found)) return wrong_field("chunk_size", *found, "a number of blocks, as in 16");
    command.blocks_per_chunk = found->get<std::uint32_t>();
  }
  return command;
}

int http_code_of(AdminError::Kind kind) noexcept {
  switch (kind) {
    case AdminError::Kind::kMalformed:
      return 422;
    case AdminError::Kind::kInvalid:
      return 400;
    case AdminError::Kind::kNotFound:
      return 404;
    case AdminError::Kind::kBusy:
    case AdminError::Kind::kUnfinished:
      return 503;
    case AdminError::Kind::kFailed:
      return 500;
  }
  return 500;
}

Json checksums_json(const ChecksumCommand& command, const AdminResult& result) {
  const std::uint64_t per_chunk = command.blocks_per_chunk;
  const std::uint64_t chunks = (command.blocks.size() + per_chunk - 1) / per_chunk;
  Json sums = hex_list(result.checksums);
  if (command.is_by_layer) {
    sums = Json::object();
    std::span<const Md5> rest = result.checksums;
    for (std::uint32_t layer = 0; layer < result.layers; ++layer) {
      sums["layer_" + std::to_string(layer)] = hex_list(rest.first(chunks));
      rest = rest.subspan(chunks);
    }
  }
  return {{"status", "success"},
          {"chunk_size", command.blocks_per_chunk},
          {"num_chunks", chunks},
          {"chunk_checksums", std::move(sums)},
          {"layerwise", command.is_by_layer},
          {"block_id_ranges", ranges_of(command.blocks)}};
}

}  // namespace larder::server
