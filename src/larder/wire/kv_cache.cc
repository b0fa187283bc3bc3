#include "larder/wire/kv_cache.h"

#include <algorithm>
#include <string>

#include "larder/base/nearest_name.h"
#include "larder/wire/fields.h"
#include "larder/wire/limits.h"
#include "larder/wire/struct_reader.h"

namespace larder::wire {
namespace {

constexpr std::uint32_t kMost = limits::kDimension;
constexpr std::uint32_t kTokensMost = 0x7FFF'FFFF;

template <class T>
struct Named {
  std::string_view name;
  T value;
};

constexpr Named<EngineType> kEngines[] = {
    {"vllm", EngineType::kVllm},
    {"atom", EngineType::kAtom},
    {"sglang", EngineType::kSglang},
    {"trtllm", EngineType::kTrtllm},
};
constexpr Named<KvLayout> kLayouts[] = {
    {"NHD", KvLayout::kNhd},
    {"HND", KvLayout::kHnd},
    {"BLHNC", KvLayout::kBlhnc},
    {"BLNHC", KvLayout::kBlnhc},
};
constexpr Named<KvList> kLists[] = {
    {"k_v", KvList::kKeysThenValues},
    {"unified", KvList::kUnified},
};

/// One of a few names; the error has them all, the nearest first.
template <class T, std::size_t kCount>
DecodeResult<T> read_name_of(MsgpackReader& reader, std::string_view field,
                             const Named<T> (&known)[kCount]) {
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto name, read_text(reader, field, limits::kMemoryNameBytes));
  std::vector<std::string_view> names;
  for (const Named<T>& each : known) {
    if (each.name == name) return each.value;
    names.push_back(each.name);
  }
  const std::string_view nearest = nearest_name(name, names);
  const auto first = std::ranges::find(names, nearest);
  if (first != names.end()) std::rotate(names.begin(), first, first + 1);
  std::string remedy;
  for (const std::string_view each : names) {
    remedy += (remedy.empty() ? "\"" : each == names.back() ? " or \"" : ", \"");
    remedy += std::string{each} + '"';
  }
  return wrong_value(field, before, remedy);
}

// ---- Hints.

DecodeStatus read_kv_layout(MsgpackReader& reader, std::string_view field, LayoutHints& out) {
  LARDER_ASSIGN(out.kv_layout, read_name_of(reader, field, kLayouts));
  return {};
}

DecodeStatus read_kv_list(MsgpackReader& reader, std::string_view field, LayoutHints& out) {
  LARDER_ASSIGN(out.kv_list, read_name_of(reader, field, kLists));
  return {};
}

template <std::optional<std::uint32_t> LayoutHints::* kMember>
DecodeStatus read_hint(MsgpackReader& reader, std::string_view field, LayoutHints& out) {
  LARDER_ASSIGN(const auto number, read_number(reader, field, 1, kMost));
  out.*kMember = static_cast<std::uint32_t>(number);
  return {};
}

constexpr FieldRule<LayoutHints> kHintRules[] = {
    {"kv_layout", false, read_kv_layout},
    {"kv_list_layout", false, read_kv_list},
    {"tokens_per_block", false, read_hint<&LayoutHints::tokens_per_block>},
    {"num_kv_heads", false, read_hint<&LayoutHints::num_kv_heads>},
    {"head_dim", false, read_hint<&LayoutHints::head_dim>},
};

// ---- Groups.

DecodeStatus read_layers(MsgpackReader& reader, std::string_view field, EngineGroup& out) {
  LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kTensors));
  out.layers.resize(count);
  for (std::uint32_t& layer : out.layers) {
    LARDER_ASSIGN(const auto number, read_number(reader, field, 0, limits::kTensors - 1));
    layer = static_cast<std::uint32_t>(number);
  }
  return {};
}

DecodeStatus read_window(MsgpackReader& reader, std::string_view field, EngineGroup& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(const Integer window, read_integer(reader, field));
  if (window.is_negative && window.bits == ~std::uint64_t{0}) return {};  // -1.
  if (window.is_negative || window.bits == 0 || window.bits > kTokensMost) {
    return wrong_value(field, before, "the window's tokens, or -1 for full attention");
  }
  out.window_tokens = static_cast<std::uint32_t>(window.bits);
  return {};
}

constexpr FieldRule<EngineGroup> kGroupRules[] = {
    {"engine_group_id", true, read_size<EngineGroup, &EngineGroup::id, 0, limits::kGroups - 1>},
    {"layer_indices", false, read_layers},
    {"tokens_per_block", false, read_size<EngineGroup, &EngineGroup::tokens_per_block, 0, kMost>},
    {"sw_size_tokens", false, read_window},
    {"extra_object_group_tag", false, read_size<EngineGroup, &EngineGroup::extra_tag, 0, kMost>},
    {"recurrent_state", false, read_flag<EngineGroup, &EngineGroup::is_recurrent>},
};

// ---- The arguments.

DecodeStatus read_tensors(std::span<const std::byte> frame, std::vector<Tensor>& out) {
  constexpr std::string_view kField = "kv_cache";
  MsgpackReader reader{frame};
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto count, read_array(reader, kField, limits::kTensors));
  if (count == 0) return wrong_value(kField, before, "an array of one tensor at least");
  std::size_t ignored_values = limits::kIgnoredValues;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string what = std::string{kField} + "[" + std::to_string(i) + "]";
    LARDER_TRY(read_tensor(reader, what, out.emplace_back(), ignored_values));
  }
  return expect_end(reader, kField);
}

DecodeStatus read_hints(std::span<const std::byte> frame, LayoutHints& out) {
  MsgpackReader reader{frame};
  std::size_t ignored_values = limits::kIgnoredValues;
  LARDER_TRY(read_struct(reader, "layout_hints", kHintRules, out, ignored_values));
  return expect_end(reader, "layout_hints");
}

DecodeStatus read_groups(std::span<const std::byte> frame, std::vector<EngineGroup>& out) {
  constexpr std::string_view kField = "engine_group_infos";
  MsgpackReader reader{frame};
  LARDER_ASSIGN(const auto count, read_array(reader, kField, limits::kGroups));
  std::size_t ignored_values = limits::kIgnoredValues;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string what = std::string{kField} + "[" + std::to_string(i) + "]";
    LARDER_TRY(read_struct(reader, what, kGroupRules, out.emplace_back(), ignored_values));
  }
  return expect_end(reader, kField);
}

}  // namespace

DecodeResult<KvCacheRegistration> decode_kv_cache_registration(
    std::span<const std::span<const std::byte>> frames) {
  KvCacheRegistration out;
  LARDER_ASSIGN(out.instance, read_frame(frames[0], "instance_id", read_integer));
  LARDER_TRY(read_tensors(frames[1], out.tensors));
  LARDER_ASSIGN(out.model, read_frame(frames[2], "model_name",
                                      [](MsgpackReader& reader, std::string_view field) {
                                        return read_text(reader, field, limits::kModelBytes);
                                      }));
  LARDER_ASSIGN(
      const auto ranks,
      read_frame(frames[3], "world_size", [](MsgpackReader& reader, std::string_view field) {
        return read_number(reader, field, 1, limits::kWorldSize);
      }));
  out.world_size = static_cast<std::uint32_t>(ranks);
  LARDER_ASSIGN(out.engine, read_frame(frames[4], "engine_type",
                                       [](MsgpackReader& reader, std::string_view field) {
                                         return read_name_of(reader, field, kEngines);
                                       }));
  LARDER_TRY(read_hints(frames[5], out.hints));
  if (frames.size() > 6) LARDER_TRY(read_groups(frames[6], out.groups));
  return out;
}

}  // namespace larder::wire
