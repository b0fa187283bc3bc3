#include "larder/wire/kv_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "larder/wire/request.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

/// The decoded message, with the frames that it points into.
struct Decoded {
  std::vector<Bytes> frames;
  DecodeResult<KvCacheRegistration> result;
};

Decoded decode(std::vector<Bytes> frames) {
  std::vector<std::span<const std::byte>> views(frames.begin(), frames.end());
  auto result = decode_kv_cache_registration(views);
  return {.frames = std::move(frames), .result = std::move(result)};
}

std::string error_of(const KvCacheSample& sample) {
  const Decoded decoded = decode(make_kv_cache(sample));
  return decoded.result ? "no error" : decoded.result.error().to_string();
}

/// A registration with this one tensor, a body of MessagePack.
std::string error_of_body(const Bytes& body) {
  std::vector<Bytes> frames = make_kv_cache({});
  frames[1].assign(1, std::byte{0x91});
  append_extension(frames[1], body);
  const Decoded decoded = decode(std::move(frames));
  return decoded.result ? "no error" : decoded.result.error().to_string();
}

TensorView view_of(const Decoded& decoded) {
  return decoded.result->tensors[0].view;
}

TEST(KvCacheTest, ReadsWhatVllmSent) {
  // From a capture of LMCache 0.5.6.
  const Decoded decoded = decode(
      {from_hex("cd02bc"),
       from_hex("91c7900185a474797065a76370755f73686da873686d5f6e616d65b22f6c6d63616368655f6b765f33"
                "3237315f30a66e6279746573cd2000a776657273696f6e01a86d6574616461746185a56474797065a7"
                "666c6f61743136a57368617065950240040204a673747269646595cd080020080401ae73746f726167"
                "655f6f666673657400ab6465766963655f75756964a3637075"),
       from_hex("a46c617930"), from_hex("01"), from_hex("a4766c6c6d"),
       from_hex("81a96b765f6c61796f7574a34e4844"), from_hex("90")});
  ASSERT_TRUE(decoded.result) << decoded.result.error().to_string();
  const KvCacheRegistration& got = *decoded.result;
  EXPECT_EQ(got.instance.bits, 700U);
  EXPECT_EQ(got.model, "lay0");
  EXPECT_EQ(got.world_size, 1U);
  EXPECT_EQ(got.engine, EngineType::kVllm);
  EXPECT_EQ(got.hints.kv_layout, KvLayout::kNhd);
  EXPECT_TRUE(got.groups.empty());
  ASSERT_EQ(got.tensors.size(), 1U);
  const Tensor& tensor = got.tensors[0];
  EXPECT_EQ(tensor.memory.kind, MemoryKind::kSharedMemory);
  EXPECT_EQ(tensor.memory.name, "/lmcache_kv_3271_0");
  EXPECT_EQ(tensor.memory.bytes, 8192U);
  EXPECT_EQ(tensor.view.dtype, "float16");
  ASSERT_EQ(tensor.view.rank, 5U);
  EXPECT_EQ(tensor.view.shape[1], 64U);
  EXPECT_EQ(tensor.view.stride[0], 2048U);
  EXPECT_EQ(tensor.view.device, "cpu");
  EXPECT_EQ(tensor.view.span_bytes, 8192U);
}

TEST(KvCacheTest, ReadsHintsAndGroupsAndDoesWithoutThem) {
  KvCacheSample sample;
  sample.engine = "sglang";
  sample.kv_layout.clear();
  sample.kv_list = "k_v";
  sample.hints = {{"tokens_per_block", 4}, {"num_kv_heads", 2}, {"head_dim", 8}, {"other", 1}};
  sample.groups = {{.id = 0, .layers = {0}, .tokens_per_block = 4},
                   {.id = 1, .layers = {1}, .window = 16, .tag = 3, .is_recurrent = true}};
  const Decoded decoded = decode(make_kv_cache(sample));
  ASSERT_TRUE(decoded.result) << decoded.result.error().to_string();
  const KvCacheRegistration& got = *decoded.result;
  EXPECT_EQ(got.engine, EngineType::kSglang);
  EXPECT_FALSE(got.hints.kv_layout.has_value());
  EXPECT_EQ(got.hints.kv_list, KvList::kKeysThenValues);
  EXPECT_EQ(got.hints.tokens_per_block, 4U);
  EXPECT_EQ(got.hints.num_kv_heads, 2U);
  EXPECT_EQ(got.hints.head_dim, 8U);
  ASSERT_EQ(got.groups.size(), 2U);
  EXPECT_EQ(got.groups[0].layers, std::vector<std::uint32_t>{0});
  EXPECT_FALSE(got.groups[0].window_tokens.has_value());
  EXPECT_EQ(got.groups[1].id, 1U);
  EXPECT_EQ(got.groups[1].window_tokens, 16U);
  EXPECT_EQ(got.groups[1].extra_tag, 3U);
  EXPECT_TRUE(got.groups[1].is_recurrent);

  std::vector<Bytes> frames = make_kv_cache({});
  frames.pop_back();
  const Decoded older = decode(frames);
  ASSERT_TRUE(older.result);
  EXPECT_TRUE(older.result->groups.empty());
  frames.push_back(from_hex("9181af656e67696e655f67726f75705f696405"));  // {engine_group_id: 5}
  const Decoded defaults = decode(frames);
  ASSERT_TRUE(defaults.result) << defaults.result.error().to_string();
  EXPECT_EQ(defaults.result->groups[0].id, 5U);
  EXPECT_TRUE(defaults.result->groups[0].layers.empty());
}

TEST(KvCacheTest, TakesTheFieldsOfATensorInAnyOrder) {
  Bytes body;
  MsgpackWriter writer{body};
  writer.map(5);
  write_view(writer, {});
  writer.text("version"), writer.integer(1);
  writer.text("nbytes"), writer.integer(8192);
  writer.text("shm_name"), writer.text("/x");
  writer.text("type"), writer.text("cpu_shm");
  EXPECT_EQ(error_of_body(body), "no error");
}

/// A tensor of a device, with one field of another name if wanted.
Bytes cuda_body(std::string_view kind, std::string_view renamed = "") {
  Bytes body;
  MsgpackWriter writer{body};
  const auto name = [&](std::string_view field) {
    writer.text(field == renamed ? "other" : field);
  };
  const auto field = [&](std::string_view field_name, std::uint64_t value) {
    name(field_name), writer.integer(value);
  };
  writer.map(kind == "cuda" ? 4 : kind == "cuda_raw" ? 6 : 9);
  writer.text("type"), writer.text(kind);
  if (kind == "cuda") {
    name("handle"), writer.array(8);
    writer.integer(1), writer.binary(Bytes(66, std::byte{1})), writer.integer(9000);
    writer.integer(512), writer.binary(Bytes(20, std::byte{2})), writer.integer(3), writer.nil();
    writer.boolean(true);
  } else if (kind == "cuda_raw") {
    name("ipc_handle"), writer.binary(Bytes(64, std::byte{3}));
    field("alloc_offset", 256), field("nbytes", 8192);
  } else {
    name("export_id"), writer.binary(Bytes(16, std::byte{4}));
    name("kind"), writer.text("posix_fd");
    name("fabric_blob"), writer.nil();
    field("alloc_size", 8448), field("alloc_offset", 256), field("nbytes", 8192);
  }
  field("version", 1);
  write_view(writer, {});
  return body;
}

TEST(KvCacheTest, ReadsTensorsOfDevices) {
  std::vector<Bytes> frames = make_kv_cache({});
  frames[1].assign(1, std::byte{0x93});
  for (const char* const kind : {"cuda", "cuda_raw", "cuda_vmm"}) {
    append_extension(frames[1], cuda_body(kind));
  }
  const Decoded decoded = decode(std::move(frames));
  ASSERT_TRUE(decoded.result) << decoded.result.error().to_string();
  const MemoryHandle& cuda = decoded.result->tensors[0].memory;
  EXPECT_EQ(cuda.kind, MemoryKind::kCuda);
  EXPECT_EQ(cuda.device, 1);
  EXPECT_EQ(cuda.handle.size(), 66U);
  EXPECT_EQ(cuda.bytes, 9000U);
  EXPECT_EQ(cuda.offset, 512U);
  EXPECT_EQ(cuda.reference.size(), 20U);
  EXPECT_EQ(cuda.reference_offset, 3U);
  EXPECT_TRUE(cuda.event.empty());
  EXPECT_TRUE(cuda.waits_for_event);
  const MemoryHandle& raw = decoded.result->tensors[1].memory;
  EXPECT_EQ(raw.kind, MemoryKind::kCudaRaw);
  EXPECT_EQ(raw.handle.size(), 64U);
  EXPECT_EQ(raw.offset, 256U);
  const MemoryHandle& vmm = decoded.result->tensors[2].memory;
  EXPECT_EQ(vmm.kind, MemoryKind::kCudaVmm);
  EXPECT_EQ(vmm.allocation_bytes, 8448U);
  EXPECT_TRUE(vmm.fabric.empty());
}

TEST(KvCacheTest, RefusesTensorsOfDevicesThatDoNotFit) {
  EXPECT_NE(error_of_body(cuda_body("cuda", "handle")).find("kv_cache[0].other is unknown"),
            std::string::npos);
  EXPECT_NE(error_of_body(cuda_body("cuda_raw", "nbytes")).find("other is unknown"),
            std::string::npos);
  Bytes body = cuda_body("cuda_vmm");
  const auto edit = [&](std::string_view from, std::string_view to) {
    std::string text = hex(body);
    const auto at = text.find(std::string{from});
    ASSERT_NE(at, std::string::npos);
    body = from_hex(text.replace(at, from.size(), to));
  };
  edit("cd2100", "cd20ff");  // alloc_size
  EXPECT_EQ(
      error_of_body(body),
      "kv_cache[0].alloc_offset is 256, with nbytes 8192; it must be within alloc_size, 8447");
  body = cuda_body("cuda_vmm");
  edit("a8706f7369785f6664", "a6666162726963");  // "fabric", without a blob.
  EXPECT_NE(error_of_body(body).find("fabric_blob is nil"), std::string::npos);
  body = cuda_body("cuda");
  edit("cd2328", "cd1fff");  // The storage is too small for the view.
  EXPECT_EQ(error_of_body(body),
            "kv_cache[0].metadata is a view that ends at byte 8192; it must be within its memory, "
            "which has 8191 bytes");
}

TEST(KvCacheTest, NeverReadsPickles) {
  EXPECT_EQ(error_of_body(from_hex("80049503")),
            "kv_cache[0] is a Python pickle, which is never read; it must be a map, as LMCache "
            "0.5.6 and 0.5.7 send");
  EXPECT_NE(error_of_body(from_hex("80")).find("kv_cache[0].type is missing"), std::string::npos);
  EXPECT_NE(error_of_body({}).find("kv_cache[0]"), std::string::npos);
}

TEST(KvCacheTest, RefusesWhatIsNoTensor) {
  std::vector<Bytes> frames = make_kv_cache({});
  const auto error = [&](std::string_view tensors) {
    frames[1] = from_hex(tensors);
    const Decoded decoded = decode(frames);
    return decoded.result ? "no error" : decoded.result.error().to_string();
  };
  EXPECT_NE(error("90").find("an array of one tensor at least"), std::string::npos);
  EXPECT_NE(error("9180").find("an extension of type 1"), std::string::npos);
  EXPECT_NE(error("91c7000290").find("an extension of type 1"), std::string::npos);  // Type 2.
  EXPECT_NE(error("91d40180").find("kv_cache[0].type is missing"), std::string::npos);
  EXPECT_NE(error("dc1001").find("at most 4096"), std::string::npos);
  EXPECT_NE(error_of_body(from_hex("81a474797065a3666f6f")).find("type is text \"foo\""),
            std::string::npos);
  Bytes extra;
  MsgpackWriter writer{extra};
  writer.map(2);
  writer.text("type"), writer.text("cpu_shm");
  writer.text("extra"), writer.integer(1);
  EXPECT_EQ(error_of_body(extra),
            "kv_cache[0].extra is unknown; it must be left out: LMCache 0.5.6 and 0.5.7 have no "
            "such field");
}

TEST(KvCacheTest, ChecksEveryView) {
  const auto error = [](const TensorSample& tensor) { return error_of({.tensors = {tensor}}); };
  EXPECT_EQ(error({.bytes = 8191}),
            "kv_cache[0].metadata is a view that ends at byte 8192; it must be within its memory, "
            "which has 8191 bytes");
  EXPECT_EQ(error({.bytes = 8192, .offset = 1}).find("kv_cache[0].metadata is a view"), 0U);
  EXPECT_EQ(error({.bytes = 8194, .offset = 1}), "no error");
  EXPECT_NE(error({.dtype = "float61"}).find("such as \"float16\""), std::string::npos);
  EXPECT_NE(error({.shape = {1, 2}, .stride = {1}}).find("stride is an array of 1"),
            std::string::npos);
  EXPECT_NE(error({.shape = {}, .stride = {}}).find("one size at least"), std::string::npos);
  EXPECT_NE(
      error({.shape = std::vector<std::uint64_t>(9, 1), .stride = std::vector<std::uint64_t>(9, 1)})
          .find("at most 8"),
      std::string::npos);
  // Their product is beyond 64 bits.
  const std::uint64_t huge = limits::kTensorBytes;
  EXPECT_NE(error({.bytes = huge, .shape = {huge, huge}, .stride = {huge, huge}})
                .find("ends beyond any memory"),
            std::string::npos);
  EXPECT_NE(error({.bytes = huge, .shape = {huge + 1}, .stride = {1}}).find("shape is"),
            std::string::npos);
  // No element, no byte.
  const Decoded none = decode(make_kv_cache(
      {.tensors = {{.name = "", .bytes = 0, .shape = {0, 5}, .stride = {5, 1}, .offset = 3}}}));
  ASSERT_TRUE(none.result) << none.result.error().to_string();
  EXPECT_EQ(view_of(none).span_bytes, 0U);
}

TEST(KvCacheTest, NamesWhatItKnows) {
  KvCacheSample sample;
  sample.engine = "vlm";
  EXPECT_EQ(error_of(sample),
            "engine_type is text \"vlm\"; it must be \"vllm\", \"atom\", \"sglang\" or \"trtllm\"");
  sample = {};
  sample.engine = "mock";
  EXPECT_NE(error_of(sample).find("engine_type is text \"mock\""), std::string::npos);
  sample = {};
  sample.kv_layout = "BLHN";
  EXPECT_EQ(error_of(sample),
            "layout_hints.kv_layout is text \"BLHN\"; it must be \"BLHNC\", \"NHD\", \"HND\" or "
            "\"BLNHC\"");
  sample = {};
  sample.kv_list = "kv";
  EXPECT_NE(error_of(sample).find("kv_list_layout"), std::string::npos);
  sample = {};
  sample.hints = {{"tokens_per_block", 0}};
  EXPECT_NE(error_of(sample).find("layout_hints.tokens_per_block is 0"), std::string::npos);
  sample = {};
  sample.world_size = 256;
  EXPECT_NE(error_of(sample).find("world_size is 256"), std::string::npos);
  sample = {};
  sample.groups = {{.id = 64}};
  EXPECT_NE(error_of(sample).find("engine_group_infos[0].engine_group_id is 64"),
            std::string::npos);
  for (const std::int64_t window : {std::int64_t{0}, std::int64_t{-2}}) {
    sample.groups = {{.window = window}};
    EXPECT_NE(error_of(sample).find("or -1 for full attention"), std::string::npos) << window;
  }
  sample.groups = {{.layers = {4096}}};
  EXPECT_NE(error_of(sample).find("layer_indices is 4096"), std::string::npos);
}

}  // namespace
}  // namespace larder::wire
