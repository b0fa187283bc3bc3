#include "larder/server/copy/paged_format.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "larder/base/check.h"
#include "larder/wire/dtype.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

using wire::DecodeError;
using wire::DecodeResult;
using wire::DecodeStatus;
using wire::KvCacheRegistration;
using wire::LayoutHints;

/// What a dimension counts.
enum class Axis : std::uint8_t {
  kBlocks,
  kPlanes,  ///< Two.
  kLayers,
  kTokens,
  kHeads,
  kOne,
  kSize,          ///< The elements of one token and head.
  kFoldedTokens,  ///< Blocks times tokens.
};

struct FormatInfo {
  std::string_view text;
  std::vector<Axis> axes;
};

const FormatInfo& info_of(PagedFormat format) {
  using enum Axis;
  static const std::array<FormatInfo, 13> infos = {{
      {"[2, blocks, tokens, heads, size]", {kPlanes, kBlocks, kTokens, kHeads, kSize}},
      {"[2, blocks, heads, tokens, size]", {kPlanes, kBlocks, kHeads, kTokens, kSize}},
      {"[2, blocks, heads, 1, tokens, size]", {kPlanes, kBlocks, kHeads, kOne, kTokens, kSize}},
      {"[blocks, 2, tokens, heads, size]", {kBlocks, kPlanes, kTokens, kHeads, kSize}},
      {"[blocks, 2, heads, tokens, size]", {kBlocks, kPlanes, kHeads, kTokens, kSize}},
      {"[blocks, tokens, heads, 2 * size]", {kBlocks, kTokens, kHeads, kSize}},
      {"[blocks, heads, tokens, 2 * size]", {kBlocks, kHeads, kTokens, kSize}},
      {"[blocks, tokens, size]", {kBlocks, kTokens, kSize}},
      {"[blocks, tokens, 132]", {kBlocks, kTokens, kSize}},
      {"2 x [blocks * tokens, heads, size]", {kFoldedTokens, kHeads, kSize}},
      {"[blocks * tokens, 1, size]", {kFoldedTokens, kOne, kSize}},
      {"[blocks, tokens, heads, size]", {kBlocks, kTokens, kHeads, kSize}},
      {"[blocks, layers, 2, heads, tokens, size]",
       {kBlocks, kLayers, kPlanes, kHeads, kTokens, kSize}},
  }};
  return infos.at(static_cast<std::size_t>(format));
}

/// A tensor with its dimensions in the order of their strides, in bytes.
struct Ordered {
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> stride;
  std::uint64_t offset = 0;
  std::uint64_t element_bytes = 0;
};

std::string field_of(std::size_t tensor) {
  return "kv_cache[" + std::to_string(tensor) + "]";
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const std::uint64_t size : shape) {
    text += (text.size() == 1 ? "" : ", ") + std::to_string(size);
  }
  return text + "]";
}

/// Dimensions of one element come behind others of the same stride, where they change nothing.
Ordered order_dimensions(const wire::TensorView& view) {
  std::vector<std::size_t> order(view.rank);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    if (view.stride[a] != view.stride[b]) return view.stride[a] > view.stride[b];
    const bool is_one = view.shape[a] == 1;
    return is_one == (view.shape[b] == 1) ? a < b : !is_one;
  });
  const std::uint64_t bytes = wire::dtype_bytes(view.dtype).value_or(1);
  Ordered out{.shape = {}, .stride = {}, .offset = view.offset * bytes, .element_bytes = bytes};
  for (const std::size_t dimension : order) {
    out.shape.push_back(view.shape[dimension]);
    out.stride.push_back(view.stride[dimension] * bytes);
  }
  return out;
}

/// No element, gaps within a block, or blocks that overlap.
DecodeStatus check_dense(const Ordered& tensor, std::size_t number) {
  std::uint64_t tight = tensor.element_bytes;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] == 0) {
      return DecodeError{.field = field_of(number) + ".metadata.shape",
                         .value = shape_text(tensor.shape),
                         .remedy = "of one element at least"};
    }
    const bool is_good =
        tensor.shape[i] == 1 || tensor.stride[i] == tight || (i == 0 && tensor.stride[i] > tight);
    if (!is_good) {
      return DecodeError{
          .field = field_of(number) + ".metadata.stride",
          .value = std::to_string(tensor.stride[i]) + " bytes for a dimension of " +
                   std::to_string(tensor.shape[i]),
          .remedy = std::to_string(tight) + " bytes: only the outermost dimension may have gaps"};
    }
    tight *= tensor.shape[i];
  }
  return {};
}

// ---- Which format a tensor has.

bool is_indexer(const wire::TensorView& view, const Ordered& tensor) {
  constexpr std::uint64_t kIndexerBytes = 132;
  return view.dtype == "uint8" && tensor.shape.back() == kIndexerBytes;
}

/// vLLM. A server without GPUs takes a missing hint for HND, as LMCache does.
std::optional<PagedFormat> vllm_format(const wire::TensorView& view, const Ordered& tensor,
                                       const LayoutHints& hints) {
  const wire::KvLayout layout = hints.kv_layout.value_or(wire::KvLayout::kHnd);
  const bool is_hnd = layout == wire::KvLayout::kHnd || layout == wire::KvLayout::kBlhnc;
  const auto& shape = tensor.shape;
  switch (shape.size()) {
    case 3:
      return is_indexer(view, tensor) ? PagedFormat::kIndexer : PagedFormat::kLatent;
    case 4:
      return is_hnd ? PagedFormat::kFusedHnd : PagedFormat::kFusedNhd;
    case 5:
      if (shape[0] == 2) return is_hnd ? PagedFormat::kKvFirstHnd : PagedFormat::kKvFirstNhd;
      if (shape[1] == 2) return is_hnd ? PagedFormat::kBlockFirstHnd : PagedFormat::kBlockFirstNhd;
      return std::nullopt;
    case 6:
      if (shape[0] == 2 && shape[3] == 1) return PagedFormat::kKvFirstHndOne;
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

/// SGLang. Folded formats need the hint tokens_per_block.
std::optional<PagedFormat> sglang_format(const Ordered& tensor, const LayoutHints& hints) {
  const auto& shape = tensor.shape;
  if (hints.kv_list == wire::KvList::kUnified) {
    if (shape.size() == 3) return PagedFormat::kLatent;
    if (shape.size() == 4) return PagedFormat::kSingle;
    return std::nullopt;
  }
  if (!hints.tokens_per_block || shape.size() != 3) return std::nullopt;
  if (hints.kv_list == wire::KvList::kKeysThenValues) return PagedFormat::kKeysThenValues;
  if (shape[1] == 1) return PagedFormat::kFoldedLatent;
  if (shape[1] == *hints.tokens_per_block) return PagedFormat::kLatent;
  return std::nullopt;
}

std::optional<PagedFormat> format_of(const KvCacheRegistration& registration, std::size_t number,
                                     const Ordered& tensor) {
  switch (registration.engine) {
    case wire::EngineType::kVllm:
      return vllm_format(registration.tensors[number].view, tensor, registration.hints);
    case wire::EngineType::kSglang:
      return sglang_format(tensor, registration.hints);
    case wire::EngineType::kAtom:
      if (tensor.shape.size() == 3) return PagedFormat::kLatent;
      return std::nullopt;
    case wire::EngineType::kTrtllm:
      if (registration.tensors.size() == 1 && tensor.shape.size() == 6 && tensor.shape[2] == 2) {
        return PagedFormat::kCrossLayer;
      }
      return std::nullopt;
  }
  return std::nullopt;
}

std::string_view known_formats(wire::EngineType engine) {
  switch (engine) {
    case wire::EngineType::kVllm:
      return "a format of vLLM: 5 sizes with a 2 among the first two, or [blocks, tokens, heads, "
             "2 * size], [blocks, tokens, size]";
    case wire::EngineType::kSglang:
      return "a format of SGLang: 3 sizes with the hint tokens_per_block, or 3 or 4 sizes with "
             "kv_list_layout \"unified\"";
    case wire::EngineType::kAtom:
      return "[blocks, tokens, size]";
    case wire::EngineType::kTrtllm:
      return "one tensor [blocks, layers, 2, heads * tokens * size] with the hints num_kv_heads, "
             "tokens_per_block and head_dim";
  }
  return "";
}

/// TensorRT-LLM folds the last three dimensions; its hints say how.
DecodeStatus unfold(const KvCacheRegistration& registration, Ordered& tensor) {
  const LayoutHints& hints = registration.hints;
  if (registration.engine != wire::EngineType::kTrtllm || tensor.shape.size() != 4) return {};
  if (!hints.num_kv_heads || !hints.tokens_per_block || !hints.head_dim) return {};
  const std::uint64_t head_elements = *hints.head_dim;
  const std::uint64_t plane = head_elements * *hints.tokens_per_block * *hints.num_kv_heads;
  if (tensor.shape[3] != plane) {
    return DecodeError{
        .field = "kv_cache[0].metadata.shape",
        .value = shape_text(tensor.shape),
        .remedy = "of " + std::to_string(plane) + " elements at its end, as its hints say"};
  }
  tensor.shape.back() = *hints.num_kv_heads;
  tensor.shape.insert(tensor.shape.end(), {*hints.tokens_per_block, head_elements});
  const std::uint64_t token = head_elements * tensor.element_bytes;
  tensor.stride.back() = *hints.tokens_per_block * token;
  tensor.stride.insert(tensor.stride.end(), {token, tensor.element_bytes});
  return {};
}

// ---- The layers of a tensor.

/// Of a size that has 32 bits in a plan.
DecodeStatus narrow(std::uint64_t size, std::size_t number, std::string_view what,
                    std::uint32_t& out) {
  if (size <= wire::limits::kDimension) {
    out = static_cast<std::uint32_t>(size);
    return {};
  }
  return DecodeError{.field = field_of(number) + ".metadata.shape",
                     .value = std::to_string(size) + ' ' + std::string{what},
                     .remedy = "of at most " + std::to_string(wire::limits::kDimension)};
}

/// One layer as the tensor says, and how many more of them follow in it, how far apart.
struct TensorLayers {
  PagedLayer layer;
  std::uint64_t count = 1;
  std::uint64_t stride = 0;
};

DecodeStatus read_folded(TensorLayers& out, std::uint64_t tokens, std::uint64_t stride,
                         std::uint32_t tokens_per_block, std::size_t number) {
  if (tokens % tokens_per_block != 0) {
    return DecodeError{
        .field = field_of(number) + ".metadata.shape",
        .value = std::to_string(tokens) + " tokens",
        .remedy = "a multiple of the hint tokens_per_block, " + std::to_string(tokens_per_block)};
  }
  out.layer.blocks = tokens / tokens_per_block;
  out.layer.slots_per_block = tokens_per_block;
  out.layer.slot_stride = stride;
  out.layer.block_stride = stride * tokens_per_block;
  return {};
}

DecodeResult<TensorLayers> read_layers(const Ordered& tensor, PagedFormat format,
                                       const LayoutHints& hints, std::size_t number) {
  TensorLayers out;
  PagedLayer& layer = out.layer;
  layer.format = format;
  layer.plane_offsets = {tensor.offset, tensor.offset};
  const auto& axes = info_of(format).axes;
  LARDER_CHECK(axes.size() == tensor.shape.size());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::uint64_t size = tensor.shape[i];
    const std::uint64_t stride = tensor.stride[i];
    switch (axes[i]) {
      case Axis::kBlocks:
        layer.blocks = size;
        layer.block_stride = stride;
        break;
      case Axis::kPlanes:
        layer.planes = 2;
        layer.plane_offsets[1] += stride;
        break;
      case Axis::kLayers:
        out.count = size;
        out.stride = stride;
        break;
      case Axis::kTokens:
        LARDER_TRY(narrow(size, number, "tokens a block", layer.slots_per_block));
        layer.slot_stride = stride;
        break;
      case Axis::kHeads:
        LARDER_TRY(narrow(size, number, "heads", layer.heads));
        layer.head_stride = stride;
        break;
      case Axis::kSize:
        LARDER_TRY(narrow(size * tensor.element_bytes, number, "bytes a head", layer.head_bytes));
        break;
      case Axis::kFoldedTokens:
        LARDER_TRY(read_folded(out, size, stride, hints.tokens_per_block.value_or(1), number));
        break;
      case Axis::kOne:
        break;
    }
  }
  // Dimensions of one element may have any stride, and formats without heads have one.
  if (layer.heads == 1) layer.head_stride = layer.head_bytes;
  if (layer.slots_per_block == 1) layer.slot_stride = std::uint64_t{layer.heads} * layer.head_bytes;
  return out;
}

DecodeResult<TensorLayers> read_tensor_layers(const KvCacheRegistration& registration,
                                              std::size_t number) {
  const wire::TensorView& view = registration.tensors[number].view;
  Ordered tensor = order_dimensions(view);
  LARDER_TRY(check_dense(tensor, number));
  LARDER_TRY(unfold(registration, tensor));
  const auto format = format_of(registration, number, tensor);
  if (!format) {
    return DecodeError{.field = field_of(number) + ".metadata.shape",
                       .value = shape_text(tensor.shape),
                       .remedy = std::string{known_formats(registration.engine)}};
  }
  LARDER_ASSIGN(TensorLayers out, read_layers(tensor, *format, registration.hints, number));
  // The indexer's head dimension, which newer vLLM has, changes no byte.
  if (registration.engine == wire::EngineType::kVllm && tensor.shape.size() == 4 &&
      out.layer.heads == 1 && is_indexer(view, tensor)) {
    out.layer.format = PagedFormat::kIndexer;
  }
  out.layer.dtype = view.dtype;
  const auto index = static_cast<std::uint32_t>(number);
  out.layer.tensors = {index, index};
  return out;
}

bool are_alike(const PagedLayer& a, const PagedLayer& b) {
  return a.dtype == b.dtype && a.blocks == b.blocks && a.heads == b.heads &&
         a.head_bytes == b.head_bytes && a.block_stride == b.block_stride &&
         a.slot_stride == b.slot_stride && a.head_stride == b.head_stride;
}

/// The keys of all layers come first, then the values: one layer of each pair.
DecodeResult<std::vector<PagedLayer>> join_planes(const std::vector<PagedLayer>& halves) {
  if (halves.size() % 2 != 0) {
    return DecodeError{.field = "kv_cache",
                       .value = "an array of " + std::to_string(halves.size()),
                       .remedy = "an even number of tensors with kv_list_layout \"k_v\""};
  }
  const std::size_t count = halves.size() / 2;
  std::vector<PagedLayer> layers(halves.begin(),
                                 halves.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t i = 0; i < count; ++i) {
    const PagedLayer& values = halves[count + i];
    if (!are_alike(layers[i], values)) {
      return DecodeError{.field = field_of(count + i),
                         .value = "of another shape than " + field_of(i),
                         .remedy = "its values, with kv_list_layout \"k_v\""};
    }
    layers[i].planes = 2;
    layers[i].tensors[1] = values.tensors[0];
    layers[i].plane_offsets[1] = values.plane_offsets[0];
  }
  return layers;
}

}  // namespace

std::string_view format_text(PagedFormat format) noexcept {
  return info_of(format).text;
}

DecodeResult<std::vector<PagedLayer>> read_paged_layers(const KvCacheRegistration& registration) {
  std::vector<PagedLayer> layers;
  for (std::size_t number = 0; number < registration.tensors.size(); ++number) {
    LARDER_ASSIGN(const TensorLayers read, read_tensor_layers(registration, number));
    if (read.count > wire::limits::kTensors) {
      return DecodeError{.field = field_of(number) + ".metadata.shape",
                         .value = std::to_string(read.count) + " layers",
                         .remedy = "of at most " + std::to_string(wire::limits::kTensors)};
    }
    for (std::uint64_t i = 0; i < read.count; ++i) {
      PagedLayer& layer = layers.emplace_back(read.layer);
      for (std::uint64_t& offset : layer.plane_offsets) offset += i * read.stride;
    }
  }
  if (layers.front().format == PagedFormat::kKeysThenValues) return join_planes(layers);
  return layers;
}

}  // namespace larder::server
