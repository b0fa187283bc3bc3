#include "larder/server/copy/copy_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "larder/base/key_text.h"
#include "larder/server/copy/paged_format.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

using wire::DecodeError;
using wire::DecodeResult;
using wire::DecodeStatus;
using wire::KvCacheRegistration;

constexpr std::uint64_t kCellBytesMax = std::uint64_t{1} << 40;

std::string group_field(std::size_t group, std::string_view field) {
  return "engine_group_infos[" + std::to_string(group) + "]." + std::string{field};
}

std::string numbers_text(const std::vector<std::uint32_t>& numbers) {
  std::string text = "[";
  for (const std::uint32_t number : numbers) {
    text += (text.size() == 1 ? "" : ", ") + std::to_string(number);
    if (text.size() > 60) return text + ", ...]";
  }
  return text + "]";
}

// ---- Which layers are copied together.

/// The block table of each layer; empty: it is in no group, because it shares another layer's
/// blocks.
using BlockTables = std::vector<std::optional<std::uint32_t>>;

DecodeResult<BlockTables> block_tables(const KvCacheRegistration& registration,
                                       std::size_t layers) {
  BlockTables tables(layers);
  if (registration.groups.empty()) {
    std::ranges::fill(tables, 0U);
    return tables;
  }
  for (std::size_t i = 0; i < registration.groups.size(); ++i) {
    for (const std::uint32_t layer : registration.groups[i].layers) {
      if (layer >= layers) {
        return DecodeError{.field = group_field(i, "layer_indices"),
                           .value = std::to_string(layer),
                           .remedy = "below the number of layers, " + std::to_string(layers)};
      }
      tables[layer] = registration.groups[i].id;
    }
  }
  return tables;
}

/// LMCache's rule: layers that differ in any of these are copied separately.
auto identity_of(const PagedLayer& layer, std::uint32_t table) {
  return std::tuple{layer.planes, layer.heads, layer.head_bytes, layer.slots_per_block,
                    table,        layer.dtype, layer.format};
}

/// Kernel groups in the order of their first layers, each with its layers.
std::vector<std::vector<std::uint32_t>> group_layers(const std::vector<PagedLayer>& layers,
                                                     const BlockTables& tables) {
  std::map<decltype(identity_of(layers[0], 0)), std::size_t> numbers;
  std::vector<std::vector<std::uint32_t>> groups;
  for (std::uint32_t i = 0; i < layers.size(); ++i) {
    if (!tables[i]) continue;
    const auto [found, is_new] = numbers.emplace(identity_of(layers[i], *tables[i]), groups.size());
    if (is_new) groups.emplace_back();
    groups[found->second].push_back(i);
  }
  return groups;
}

/// The worker has made the same groups, and its requests have block ids in that order.
DecodeStatus check_groups(const KvCacheRegistration& registration,
                          const std::vector<std::vector<std::uint32_t>>& groups) {
  if (groups.empty()) {
    return DecodeError{.field = "engine_group_infos",
                       .value = "without layers",
                       .remedy = "empty, or name the layers of each group"};
  }
  if (registration.groups.empty()) {
    if (groups.size() == 1) return {};
    return DecodeError{.field = "engine_group_infos",
                       .value = "empty",
                       .remedy = "given: the tensors make " + std::to_string(groups.size()) +
                                 " groups, because their formats differ"};
  }
  if (registration.groups.size() != groups.size()) {
    return DecodeError{
        .field = "engine_group_infos",
        .value = "an array of " + std::to_string(registration.groups.size()),
        .remedy = std::to_string(groups.size()) + " groups, which is what the tensors make"};
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (registration.groups[i].layers != groups[i]) {
      return DecodeError{.field = group_field(i, "layer_indices"),
                         .value = numbers_text(registration.groups[i].layers),
                         .remedy = numbers_text(groups[i]) +
                                   ": groups in the order of their first layers, each of one "
                                   "format"};
    }
    if (registration.groups[i].extra_tag != 0) {
      return DecodeError{.field = group_field(i, "extra_object_group_tag"),
                         .value = std::to_string(registration.groups[i].extra_tag),
                         .remedy = "0: what CacheBlend adds is not served here"};
    }
  }
  return {};
}

// ---- Memory.

/// Each shared memory once, however many tensors are in it.
class Memories {
 public:
  explicit Memories(std::vector<PlanMemory>& memories) : memories_(memories) {}

  DecodeResult<std::uint32_t> add(const KvCacheRegistration& registration, std::uint32_t tensor) {
    const wire::MemoryHandle& memory = registration.tensors[tensor].memory;
    if (memory.kind != wire::MemoryKind::kSharedMemory) {
      return DecodeError{.field = "kv_cache[" + std::to_string(tensor) + "].type",
                         .value = "memory of a GPU",
                         .remedy =
                             "\"cpu_shm\": this server copies in the memory of the CPU; let "
                             "the worker copy (engine-driven transfers)"};
    }
    const std::string name{memory.name};
    const auto [found, is_new] =
        numbers_.emplace(name, static_cast<std::uint32_t>(memories_.size()));
    if (is_new) memories_.push_back({.name = name, .bytes = 0});
    PlanMemory& out = memories_[found->second];
    out.bytes = std::max(out.bytes, registration.tensors[tensor].view.span_bytes);
    return found->second;
  }

 private:
  std::vector<PlanMemory>& memories_;
  std::map<std::string, std::uint32_t> numbers_;
};

// ---- Kernel groups.

/// A group's own info, or the default without one.
struct GroupRules {
  std::uint32_t tokens_per_block = 0;
  std::optional<std::uint32_t> window_tokens;
  bool is_recurrent = false;
};

DecodeResult<GroupRules> rules_of(const KvCacheRegistration& registration, std::size_t group,
                                  std::uint32_t slots_per_block, std::uint32_t chunk_tokens) {
  GroupRules rules;
  if (!registration.groups.empty()) {
    const wire::EngineGroup& info = registration.groups[group];
    rules = {.tokens_per_block = info.tokens_per_block,
             .window_tokens = info.window_tokens,
             .is_recurrent = info.is_recurrent};
  }
  if (rules.tokens_per_block == 0) rules.tokens_per_block = slots_per_block;
  const std::uint32_t tokens = rules.tokens_per_block;
  if (tokens % slots_per_block != 0) {
    return DecodeError{.field = group_field(group, "tokens_per_block"),
                       .value = std::to_string(tokens),
                       .remedy = "a multiple of the slots of a block in the tensors, " +
                                 std::to_string(slots_per_block)};
  }
  if (chunk_tokens % tokens != 0) {
    return DecodeError{
        .field = "the size of a block",
        .value = std::to_string(tokens) + " tokens",
        .remedy = "a divisor of this server's --chunk-size, " + std::to_string(chunk_tokens)};
  }
  if (rules.window_tokens && *rules.window_tokens < chunk_tokens &&
      *rules.window_tokens % tokens != 0) {
    return DecodeError{
        .field = group_field(group, "sw_size_tokens"),
        .value = std::to_string(*rules.window_tokens),
        .remedy = "a multiple of the group's tokens_per_block, " + std::to_string(tokens)};
  }
  return rules;
}

/// Layers of one kernel group may lie in different places, but in the same way.
DecodeStatus check_alike(const PagedLayer& first, const PagedLayer& other,
                         const std::vector<std::uint32_t>& layers, std::uint32_t number) {
  if (first.block_stride == other.block_stride && first.slot_stride == other.slot_stride &&
      first.head_stride == other.head_stride) {
    return {};
  }
  return DecodeError{.field = "kv_cache[" + std::to_string(other.tensors[0]) + "].metadata.stride",
                     .value = std::to_string(other.block_stride) + " bytes a block in layer " +
                              std::to_string(number),
                     .remedy = std::to_string(first.block_stride) + " bytes, as in layer " +
                               std::to_string(layers.front()) + " of the same group"};
}

DecodeStatus add_bases(const KvCacheRegistration& registration,
                       const std::vector<PagedLayer>& layers, Memories& memories,
                       KernelGroupPlan& out) {
  CopyShape& shape = out.shape;
  for (std::uint32_t plane = 0; plane < shape.planes; ++plane) {
    for (const std::uint32_t number : out.layers) {
      const PagedLayer& layer = layers[number];
      LARDER_TRY(check_alike(layers[out.layers.front()], layer, out.layers, number));
      LARDER_ASSIGN(const std::uint32_t memory, memories.add(registration, layer.tensors[plane]));
      out.bases.push_back({.memory = memory, .offset = layer.plane_offsets[plane]});
      shape.blocks = std::min(shape.blocks, layer.blocks);
    }
  }
  return {};
}

DecodeStatus add_sizes(const GroupRules& rules, std::uint32_t chunk_tokens, KernelGroupPlan& out) {
  out.tokens_per_block = rules.tokens_per_block;
  out.blocks_per_chunk = chunk_tokens / rules.tokens_per_block;
  const std::uint32_t kept = std::min(rules.window_tokens.value_or(chunk_tokens), chunk_tokens);
  out.shape.blocks_kept = kept / rules.tokens_per_block;
  __extension__ using Wide = unsigned __int128;
  const Wide bytes =
      Wide{block_bytes(out.shape)} * out.blocks_per_chunk * out.shape.planes * out.shape.layers;
  if (bytes > kCellBytesMax) {
    return DecodeError{.field = "kv_cache",
                       .value = "of chunks of more than a TiB",
                       .remedy = "smaller, or lower this server's --chunk-size"};
  }
  out.cell_bytes = static_cast<std::uint64_t>(bytes);
  return {};
}

// ---- Object groups.

/// S21. Windows count in chunks here; 0: full attention.
struct ObjectKey {
  bool is_recurrent = false;
  std::uint32_t window_chunks = 0;

  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
};

void add_to_object(CopyPlan& plan, const ObjectKey& key, KernelGroupPlan kernel) {
  const auto found = std::ranges::find_if(plan.groups, [&](const ObjectGroupPlan& group) {
    return ObjectKey{group.is_recurrent, group.window_chunks} == key;
  });
  ObjectGroupPlan& group = found == plan.groups.end() ? plan.groups.emplace_back() : *found;
  group.is_recurrent = key.is_recurrent;
  group.window_chunks = key.window_chunks;
  kernel.cell_offset = group.cell_bytes;
  group.cell_bytes += kernel.cell_bytes;
  group.kernels.push_back(std::move(kernel));
}

}  // namespace

DecodeResult<CopyPlan> make_copy_plan(const KvCacheRegistration& registration,
                                      const PlanOptions& options) {
  LARDER_ASSIGN(const std::vector<PagedLayer> layers, read_paged_layers(registration));
  LARDER_ASSIGN(const BlockTables tables, block_tables(registration, layers.size()));
  const auto groups = group_layers(layers, tables);
  LARDER_TRY(check_groups(registration, groups));

  CopyPlan plan;
  plan.chunk_tokens = options.chunk_tokens;
  plan.lists = static_cast<std::uint32_t>(groups.size());
  Memories memories{plan.memories};
  for (std::uint32_t i = 0; i < groups.size(); ++i) {
    const PagedLayer& first = layers[groups[i].front()];
    LARDER_ASSIGN(const GroupRules rules,
                  rules_of(registration, i, first.slots_per_block, options.chunk_tokens));
    KernelGroupPlan kernel;
    kernel.shape = {.blocks = std::numeric_limits<std::uint64_t>::max(),
                    .block_stride = first.block_stride,
                    .slot_stride = first.slot_stride,
                    .head_stride = first.head_stride,
                    .planes = first.planes,
                    .layers = static_cast<std::uint32_t>(groups[i].size()),
                    .blocks_kept = 0,
                    .slots_per_block = first.slots_per_block,
                    .heads = first.heads,
                    .head_bytes = first.head_bytes};
    kernel.layers = groups[i];
    kernel.list = i;
    kernel.dtype = first.dtype;
    kernel.format = format_text(first.format);
    LARDER_TRY(add_bases(registration, layers, memories, kernel));
    LARDER_TRY(add_sizes(rules, options.chunk_tokens, kernel));
    ObjectKey key;
    if (options.has_separate_groups) {
      key.is_recurrent = rules.is_recurrent;
      if (rules.window_tokens) {
        key.window_chunks = (*rules.window_tokens - 1) / options.chunk_tokens + 1;
      }
    }
    add_to_object(plan, key, std::move(kernel));
  }
  return plan;
}

std::uint32_t layers_of(const CopyPlan& plan) noexcept {
  std::uint32_t count = 0;
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) count += kernel.shape.layers;
  }
  return count;
}

// ---- Block ids.

DecodeStatus check_blocks(const CopyPlan& plan, const wire::BlockIds& blocks,
                          std::uint32_t chunks) {
  if (blocks.groups() != plan.lists) {
    return DecodeError{.field = "gpu_block_ids",
                       .value = std::to_string(blocks.groups()) + " lists",
                       .remedy = std::to_string(plan.lists) + ", one a group of the registration"};
  }
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) {
      const auto ids = blocks.group(kernel.list);
      const std::string field = "gpu_block_ids[" + std::to_string(kernel.list) + "]";
      const std::uint64_t needed = std::uint64_t{chunks} * kernel.blocks_per_chunk;
      if (ids.size() < needed || ids.size() % kernel.blocks_per_chunk != 0) {
        return DecodeError{.field = field,
                           .value = "of " + std::to_string(ids.size()) + " blocks",
                           .remedy = "of " + std::to_string(needed) + ", " +
                                     std::to_string(kernel.blocks_per_chunk) +
                                     " for each chunk of the range"};
      }
      const auto beyond =
          std::ranges::find_if(ids, [&](std::uint32_t id) { return id >= kernel.shape.blocks; });
      if (beyond == ids.end()) continue;
      return DecodeError{.field = field,
                         .value = std::to_string(*beyond),
                         .remedy = "below the number of blocks that were registered, " +
                                   std::to_string(kernel.shape.blocks)};
    }
  }
  return {};
}

bool is_null_chunk(const ObjectGroupPlan& group, const wire::BlockIds& blocks, std::uint32_t chunk,
                   std::uint32_t null_block) noexcept {
  const auto is_null = [&](std::uint32_t id) { return id == null_block; };
  const auto ids_of = [&](const KernelGroupPlan& kernel) {
    return blocks.group(kernel.list)
        .subspan(std::size_t{chunk} * kernel.blocks_per_chunk, kernel.blocks_per_chunk);
  };
  if (group.window_chunks != 0 || group.is_recurrent) {
    return std::ranges::any_of(group.kernels, [&](const KernelGroupPlan& kernel) {
      return std::ranges::any_of(ids_of(kernel).last(kernel.shape.blocks_kept), is_null);
    });
  }
  return std::ranges::all_of(group.kernels, [&](const KernelGroupPlan& kernel) {
    return std::ranges::all_of(ids_of(kernel), is_null);
  });
}

}  // namespace larder::server
