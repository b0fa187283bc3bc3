#include "larder/wire/tensor.h"

#include <algorithm>
#include <optional>

#include "larder/wire/dtype.h"
#include "larder/wire/fields.h"
#include "larder/wire/struct_reader.h"

namespace larder::wire {
namespace {

constexpr std::int8_t kTensorExtension = 1;
constexpr std::size_t kRawHandleBytes = 64;
constexpr std::size_t kExportIdBytes = 16;
constexpr std::byte kPickle{0x80};  ///< Begins a pickle of protocol 2 and above.

using Bytes = std::span<const std::byte>;

/// A tensor that is being read, with fields that only the checks need.
struct Draft {
  Tensor tensor;
  bool is_fabric = false;
};

// ---- The view.

using Sizes = std::array<std::uint64_t, limits::kTensorRank>;

template <Sizes TensorView::* kMember>
DecodeStatus read_sizes(MsgpackReader& reader, std::string_view field, TensorView& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto count, read_array(reader, field, limits::kTensorRank));
  if (out.rank != 0 && out.rank != count) {
    return wrong_value(field, before, "as long as the other of shape and stride");
  }
  if (count == 0) return wrong_value(field, before, "an array of one size at least");
  out.rank = count;
  for (std::uint32_t i = 0; i < count; ++i) {
    LARDER_ASSIGN((out.*kMember)[i], read_number(reader, field, 0, limits::kTensorBytes));
  }
  return {};
}

DecodeStatus read_offset(MsgpackReader& reader, std::string_view field, TensorView& out) {
  LARDER_ASSIGN(out.offset, read_number(reader, field, 0, limits::kTensorBytes));
  return {};
}

DecodeStatus read_device(MsgpackReader& reader, std::string_view field, TensorView& out) {
  LARDER_ASSIGN(out.device, read_text(reader, field, limits::kMemoryNameBytes));
  return {};
}

constexpr FieldRule<TensorView> kViewRules[] = {
    {"dtype", true, read_dtype<TensorView, &TensorView::dtype>},
    {"shape", true, read_sizes<&TensorView::shape>},
    {"stride", true, read_sizes<&TensorView::stride>},
    {"storage_offset", true, read_offset},
    {"device_uuid", true, read_device},
};

/// Nothing: more than limits::kTensorBytes.
std::optional<std::uint64_t> span_of(const TensorView& view) {
  __extension__ using Wide = unsigned __int128;
  Wide elements = Wide{view.offset} + 1;
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    if (view.shape[i] == 0) return 0;
    elements += Wide{view.shape[i] - 1} * view.stride[i];
  }
  const Wide bytes = elements * dtype_bytes(view.dtype).value_or(1);
  if (bytes > limits::kTensorBytes) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

// ---- The memory.

DecodeStatus read_version(MsgpackReader& reader, std::string_view field, Draft& /*out*/) {
  LARDER_TRY(read_number(reader, field, 1, 1));
  return {};
}

/// Read before: see kind_of().
DecodeStatus pass_type(MsgpackReader& reader, std::string_view field, Draft& /*out*/) {
  LARDER_TRY(read_text(reader, field, limits::kMemoryNameBytes));
  return {};
}

DecodeStatus read_view(MsgpackReader& reader, std::string_view field, Draft& out) {
  std::size_t ignored_values = 0;
  return read_struct(reader, std::string{field}, kViewRules, out.tensor.view, ignored_values,
                     UnknownFields::kRefuse);
}

DecodeStatus read_name(MsgpackReader& reader, std::string_view field, Draft& out) {
  LARDER_ASSIGN(out.tensor.memory.name, read_text(reader, field, limits::kMemoryNameBytes));
  return {};
}

template <std::uint64_t MemoryHandle::* kMember>
DecodeStatus read_bytes(MsgpackReader& reader, std::string_view field, Draft& out) {
  LARDER_ASSIGN(out.tensor.memory.*kMember, read_number(reader, field, 0, limits::kTensorBytes));
  return {};
}

template <std::size_t kBytes>
DecodeStatus read_handle(MsgpackReader& reader, std::string_view field, Draft& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(out.tensor.memory.handle, read_binary(reader, field));
  if (out.tensor.memory.handle.size() == kBytes) return {};
  return wrong_value(field, before, "binary of " + std::to_string(kBytes) + " bytes");
}

/// Nil is none.
DecodeStatus read_optional(MsgpackReader& reader, std::string_view field, Bytes& out) {
  if (take_nil(reader)) return {};
  const auto before = reader.rest();
  LARDER_ASSIGN(out, read_binary(reader, field));
  if (!out.empty() && out.size() <= limits::kHandleBytes) return {};
  return wrong_value(field, before,
                     "nil, or binary of 1 to " + std::to_string(limits::kHandleBytes) + " bytes");
}

DecodeStatus read_fabric(MsgpackReader& reader, std::string_view field, Draft& out) {
  return read_optional(reader, field, out.tensor.memory.fabric);
}

DecodeStatus read_fabric_kind(MsgpackReader& reader, std::string_view field, Draft& out) {
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto kind, read_text(reader, field, limits::kMemoryNameBytes));
  out.is_fabric = kind == "fabric";
  if (out.is_fabric || kind == "posix_fd") return {};
  return wrong_value(field, before, "\"posix_fd\" or \"fabric\"");
}

/// The eight values with which torch shares a storage between processes.
DecodeStatus read_torch_handle(MsgpackReader& reader, std::string_view field, Draft& out) {
  constexpr std::uint32_t kValues = 8;
  MemoryHandle& memory = out.tensor.memory;
  const auto before = reader.rest();
  LARDER_ASSIGN(const auto count, read_array(reader, field, kValues));
  if (count != kValues) return wrong_value(field, before, "an array of 8");
  const auto device_at = reader.rest();
  LARDER_ASSIGN(const Integer device, read_integer(reader, field));
  memory.device = static_cast<std::int64_t>(device.bits);
  if ((memory.device < 0) != device.is_negative) {
    return wrong_value(field, device_at, "a device's number");
  }
  LARDER_TRY(read_optional(reader, field, memory.handle));
  LARDER_ASSIGN(memory.bytes, read_number(reader, field, 0, limits::kTensorBytes));
  LARDER_ASSIGN(memory.offset, read_number(reader, field, 0, limits::kTensorBytes));
  LARDER_TRY(read_optional(reader, field, memory.reference));
  LARDER_ASSIGN(memory.reference_offset, read_number(reader, field, 0, limits::kTensorBytes));
  LARDER_TRY(read_optional(reader, field, memory.event));
  LARDER_ASSIGN(memory.waits_for_event, read_boolean(reader, field));
  return {};
}

constexpr FieldRule<Draft> kSharedMemoryRules[] = {
    {"type", true, pass_type},
    {"shm_name", true, read_name},
    {"nbytes", true, read_bytes<&MemoryHandle::bytes>},
    {"version", true, read_version},
    {"metadata", true, read_view},
};
constexpr FieldRule<Draft> kCudaRules[] = {
    {"type", true, pass_type},
    {"handle", true, read_torch_handle},
    {"version", true, read_version},
    {"metadata", true, read_view},
};
constexpr FieldRule<Draft> kCudaRawRules[] = {
    {"type", true, pass_type},
    {"ipc_handle", true, read_handle<kRawHandleBytes>},
    {"alloc_offset", true, read_bytes<&MemoryHandle::offset>},
    {"nbytes", true, read_bytes<&MemoryHandle::bytes>},
    {"version", true, read_version},
    {"metadata", true, read_view},
};
constexpr FieldRule<Draft> kCudaVmmRules[] = {
    {"type", true, pass_type},
    {"export_id", true, read_handle<kExportIdBytes>},
    {"kind", true, read_fabric_kind},
    {"fabric_blob", true, read_fabric},
    {"alloc_size", true, read_bytes<&MemoryHandle::allocation_bytes>},
    {"alloc_offset", true, read_bytes<&MemoryHandle::offset>},
    {"nbytes", true, read_bytes<&MemoryHandle::bytes>},
    {"version", true, read_version},
    {"metadata", true, read_view},
};

struct Kind {
  std::string_view name;
  MemoryKind kind;
};
constexpr Kind kKinds[] = {
    {"cpu_shm", MemoryKind::kSharedMemory},
    {"cuda", MemoryKind::kCuda},
    {"cuda_raw", MemoryKind::kCudaRaw},
    {"cuda_vmm", MemoryKind::kCudaVmm},
};

/// The kind decides which fields there are, and may come after them.
DecodeResult<MemoryKind> kind_of(Bytes body, const std::string& what, std::size_t& ignored_values) {
  MsgpackReader reader{body};
  LARDER_ASSIGN(const auto count, read_map(reader, what));
  for (std::uint32_t i = 0; i < count; ++i) {
    LARDER_ASSIGN(const auto name, read_text(reader, "a field's name in " + what, body.size()));
    if (name != "type") {
      LARDER_TRY(pass_value(reader, what + "." + printable(name), ignored_values));
      continue;
    }
    const auto before = reader.rest();
    LARDER_ASSIGN(const auto kind, read_text(reader, what + ".type", body.size()));
    const auto* found = std::ranges::find(kKinds, kind, &Kind::name);
    if (found != std::end(kKinds)) return found->kind;
    return wrong_value(what + ".type", before,
                       "\"cpu_shm\", \"cuda\", \"cuda_raw\" or \"cuda_vmm\"");
  }
  return missing_field(what + ".type");
}

DecodeStatus read_body(MsgpackReader& reader, const std::string& what, Draft& out,
                       std::size_t& ignored_values) {
  constexpr auto kRefuse = UnknownFields::kRefuse;
  switch (out.tensor.memory.kind) {
    case MemoryKind::kSharedMemory:
      return read_struct(reader, what, kSharedMemoryRules, out, ignored_values, kRefuse);
    case MemoryKind::kCuda:
      return read_struct(reader, what, kCudaRules, out, ignored_values, kRefuse);
    case MemoryKind::kCudaRaw:
      return read_struct(reader, what, kCudaRawRules, out, ignored_values, kRefuse);
    case MemoryKind::kCudaVmm:
      return read_struct(reader, what, kCudaVmmRules, out, ignored_values, kRefuse);
  }
  return {};
}

/// For values that are within their limits alone, but may not fit together.
DecodeStatus check_body(Draft& draft, const std::string& what) {
  const MemoryHandle& memory = draft.tensor.memory;
  const auto bytes = span_of(draft.tensor.view);
  if (!bytes || *bytes > memory.bytes) {
    return DecodeError{
        .field = what + ".metadata",
        .value = bytes ? "a view that ends at byte " + std::to_string(*bytes)
                       : "a view that ends beyond any memory",
        .remedy = "within its memory, which has " + std::to_string(memory.bytes) + " bytes"};
  }
  draft.tensor.view.span_bytes = *bytes;
  if (memory.kind != MemoryKind::kCudaVmm) return {};
  if (memory.offset + memory.bytes > memory.allocation_bytes) {
    return DecodeError{
        .field = what + ".alloc_offset",
        .value = std::to_string(memory.offset) + ", with nbytes " + std::to_string(memory.bytes),
        .remedy = "within alloc_size, " + std::to_string(memory.allocation_bytes)};
  }
  if (draft.is_fabric != memory.fabric.empty()) return {};
  return DecodeError{.field = what + ".fabric_blob",
                     .value = draft.is_fabric ? "nil" : "given",
                     .remedy = "given for kind \"fabric\", and only for that"};
}

}  // namespace

DecodeStatus read_tensor(MsgpackReader& reader, const std::string& what, Tensor& out,
                         std::size_t& ignored_values) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kExtension || value->extension != kTensorExtension) {
    return wrong_value(what, before, "an extension of type 1, a tensor of LMCache's clients");
  }
  const Bytes body = value->bytes;
  if (body.size() > 1 && body[0] == kPickle) {
    return DecodeError{.field = what,
                       .value = "a Python pickle, which is never read",
                       .remedy = "a map, as LMCache 0.5.6 and 0.5.7 send"};
  }
  Draft draft;
  LARDER_ASSIGN(draft.tensor.memory.kind, kind_of(body, what, ignored_values));
  MsgpackReader fields{body};
  LARDER_TRY(read_body(fields, what, draft, ignored_values));
  LARDER_TRY(expect_end(fields, what));
  LARDER_TRY(check_body(draft, what));
  out = draft.tensor;
  return {};
}

}  // namespace larder::wire
