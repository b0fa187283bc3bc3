// Every format: the bytes of cells are those that a plain loop over the tensors' own dimensions
// finds, and those that LMCache 0.5.6 made of the same registration and memory (its CPU transfer,
// run once; its hashes are below). Retrieving writes the same bytes back, and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "larder/server/copy/copy_test_support.h"

namespace larder::server {
namespace {

constexpr std::uint32_t kChunkTokens = 16;
constexpr std::uint32_t kChunks = 2;

/// Layers with the same copy, by the meaning of each of the tensors' dimensions, in the order of
/// registration: b blocks, k planes, l layers, t tokens, h heads, e elements, f blocks times
/// tokens, 1 nothing.
struct Part {
  std::vector<std::size_t> tensors;  ///< By layer.
  std::string axes{};
  std::size_t list = 0;
  std::uint32_t kept_tokens = kChunkTokens;
  std::uint32_t tokens_per_slot = 1;
  std::size_t values_after = 0;  ///< Not 0: the values are so many tensors after the keys.
};

struct LayoutCase {
  std::string name;
  KvCacheSample sample;
  std::vector<std::vector<Part>> objects;
  std::vector<std::uint64_t> lmcache;  ///< FNV-1a of each object's two cells; empty: not known.
  std::vector<std::vector<std::uint32_t>> lists{{9, 4, 7, 30, 1, 2, 3, 40}};
  bool has_separate_groups = false;
  std::uint64_t element_bytes = 2;
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest looks for this name.
void PrintTo(const LayoutCase& layout, std::ostream* out) {
  *out << layout.name;
}

constexpr std::uint32_t kBlockTokens = 4;

/// The size of an axis, by its letter; 1 where there is none.
std::uint64_t size_of(const TensorSample& tensor, const std::string& axes, char axis) {
  const std::size_t at = axes.find(axis);
  return at == std::string::npos ? 1 : tensor.shape[at];
}

/// Calls `visit(cell byte, memory's name, memory byte)` for each byte of a part's cell.
template <class Visit>
void walk(const LayoutCase& layout, const Part& part, std::uint32_t chunk, Visit visit) {
  const auto& tensors = layout.sample.tensors;
  const TensorSample& first = tensors[part.tensors.front()];
  const std::uint64_t planes = part.values_after != 0 ? 2 : size_of(first, part.axes, 'k');
  const std::uint64_t inner_layers = size_of(first, part.axes, 'l');
  const std::uint64_t heads = size_of(first, part.axes, 'h');
  const std::uint64_t elements = size_of(first, part.axes, 'e');
  const std::uint32_t slots_per_block = kBlockTokens / part.tokens_per_slot;
  const std::uint32_t slots = part.kept_tokens / part.tokens_per_slot;
  const std::uint32_t first_slot = kChunkTokens / part.tokens_per_slot - slots;
  std::uint64_t at = 0;
  for (std::uint64_t plane = 0; plane < planes; ++plane) {
    for (const std::size_t number : part.tensors) {
      const TensorSample& tensor =
          tensors[number + (part.values_after != 0 ? plane * part.values_after : 0)];
      for (std::uint64_t layer = 0; layer < inner_layers; ++layer) {
        for (std::uint32_t slot = 0; slot < slots; ++slot) {
          const std::uint32_t in_chunk = first_slot + slot;
          const std::uint64_t block = layout.lists[part.list][chunk * kChunkTokens / kBlockTokens +
                                                              in_chunk / slots_per_block];
          const std::uint64_t token = in_chunk % slots_per_block;
          for (std::uint64_t head = 0; head < heads; ++head) {
            for (std::uint64_t element = 0; element < elements; ++element) {
              const std::map<char, std::uint64_t> indices{
                  {'b', block}, {'k', plane},
                  {'l', layer}, {'t', token},
                  {'h', head},  {'e', element},
                  {'1', 0},     {'f', block * slots_per_block + token}};
              std::uint64_t place = tensor.offset;
              for (std::size_t i = 0; i < part.axes.size(); ++i) {
                place += indices.at(part.axes[i]) * tensor.stride[i];
              }
              for (std::uint64_t byte = 0; byte < layout.element_bytes; ++byte) {
                visit(at++, tensor.name, place * layout.element_bytes + byte);
              }
            }
          }
        }
      }
    }
  }
}

/// Of one slot in one plane of one layer.
std::uint64_t bytes_of_slot(const LayoutCase& layout, const Part& part) {
  const TensorSample& first = layout.sample.tensors[part.tensors.front()];
  return size_of(first, part.axes, 'h') * size_of(first, part.axes, 'e') * layout.element_bytes;
}

/// The size of a part in a cell: that of a whole chunk.
std::uint64_t cell_bytes(const LayoutCase& layout, const Part& part) {
  const TensorSample& first = layout.sample.tensors[part.tensors.front()];
  const std::uint64_t planes = part.values_after != 0 ? 2 : size_of(first, part.axes, 'k');
  return planes * part.tensors.size() * size_of(first, part.axes, 'l') * kChunkTokens /
         part.tokens_per_slot * bytes_of_slot(layout, part);
}

using Bytes = std::vector<std::byte>;

Bytes expected_cell(const LayoutCase& layout, Worker& worker, std::size_t object,
                    std::uint32_t chunk) {
  Bytes cell;
  for (const Part& part : layout.objects[object]) {
    const std::size_t begin = cell.size();
    cell.resize(begin + cell_bytes(layout, part));
    walk(layout, part, chunk, [&](std::uint64_t at, const std::string& name, std::uint64_t place) {
      cell[begin + at] = worker.memory(name).at(place);
    });
  }
  return cell;
}

std::uint64_t fnv(const Bytes& bytes) {
  std::uint64_t hash = 0xCBF2'9CE4'8422'2325U;
  for (const std::byte byte : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100'0000'01B3U;
  }
  return hash;
}

/// The sample's, with memory in which no byte is meaningful yet.
Worker make_blank(const KvCacheSample& sample) {
  Worker worker{sample};
  for (auto& [name, memory] : worker.memories()) std::ranges::fill(memory, std::byte{0xEE});
  return worker;
}

class PagedLayoutTest : public ::testing::TestWithParam<LayoutCase> {
 protected:
  void SetUp() override {
    auto made = worker_.plan(
        {.chunk_tokens = kChunkTokens, .has_separate_groups = GetParam().has_separate_groups});
    ASSERT_TRUE(made) << made.error().to_string();
    plan_ = std::move(*made);
    ASSERT_EQ(plan_.groups.size(), GetParam().objects.size());
    const auto checked = check_blocks(plan_, blocks_, kChunks);
    ASSERT_TRUE(checked) << checked.error().to_string();
  }

  void copy(Worker& worker, std::size_t object, std::uint32_t chunk, std::byte* cell,
            CopyDirection direction, std::uint64_t skip_tokens = 0) {
    const std::vector<std::byte*> memories = worker.memories_of(plan_);
    copy_cell({.group = &plan_.groups[object],
               .memories = memories,
               .blocks = &blocks_,
               .chunk = chunk,
               .skip_tokens = skip_tokens,
               .cell = cell},
              direction);
  }

  Worker worker_{GetParam().sample};
  const wire::BlockIds blocks_ = make_blocks(GetParam().lists);
  CopyPlan plan_;
};

TEST_P(PagedLayoutTest, StoresTheBytesOfAPlainLoopAndOfLmcache) {
  const LayoutCase& layout = GetParam();
  for (std::size_t object = 0; object < plan_.groups.size(); ++object) {
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      const Bytes expected = expected_cell(layout, worker_, object, chunk);
      ASSERT_EQ(plan_.groups[object].cell_bytes, expected.size());
      Bytes cell(expected.size(), std::byte{0xEE});
      copy(worker_, object, chunk, cell.data(), CopyDirection::kStore);
      EXPECT_EQ(cell, expected) << object << ' ' << chunk;
      if (layout.lmcache.empty()) continue;
      EXPECT_EQ(fnv(cell), layout.lmcache.at(object * kChunks + chunk)) << object << ' ' << chunk;
    }
  }
}

TEST_P(PagedLayoutTest, RetrievesTheSameBytesAndTouchesNothingElse) {
  const LayoutCase& layout = GetParam();
  Worker target = make_blank(layout.sample);
  Worker expected = make_blank(layout.sample);
  for (std::size_t object = 0; object < plan_.groups.size(); ++object) {
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      Bytes cell(plan_.groups[object].cell_bytes);
      copy(worker_, object, chunk, cell.data(), CopyDirection::kStore);
      copy(target, object, chunk, cell.data(), CopyDirection::kRetrieve);
      for (const Part& part : layout.objects[object]) {
        walk(layout, part, chunk,
             [&](std::uint64_t /*at*/, const std::string& name, std::uint64_t place) {
               expected.memory(name).at(place) = worker_.memory(name).at(place);
             });
      }
    }
  }
  EXPECT_EQ(target.memories(), expected.memories());
}

TEST_P(PagedLayoutTest, SkipsWholeBlocksFromTheStartOfTheRange) {
  const LayoutCase& layout = GetParam();
  for (const std::uint32_t skip : {3U, 4U, 13U, 16U, 21U, 32U, 1000U}) {
    Worker target = make_blank(layout.sample);
    Worker expected = make_blank(layout.sample);
    for (std::size_t object = 0; object < plan_.groups.size(); ++object) {
      for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk) {
        Bytes cell(plan_.groups[object].cell_bytes);
        copy(worker_, object, chunk, cell.data(), CopyDirection::kStore);
        copy(target, object, chunk, cell.data(), CopyDirection::kRetrieve, skip);
        for (const Part& part : layout.objects[object]) {
          const std::uint64_t slot_bytes = bytes_of_slot(layout, part);
          const std::uint32_t slots = part.kept_tokens / part.tokens_per_slot;
          walk(layout, part, chunk,
               [&](std::uint64_t at, const std::string& name, std::uint64_t place) {
                 const std::uint64_t token = chunk * kChunkTokens + kChunkTokens -
                                             part.kept_tokens +
                                             at / slot_bytes % slots * part.tokens_per_slot;
                 if (token / kBlockTokens * kBlockTokens + kBlockTokens <= skip) return;
                 expected.memory(name).at(place) = worker_.memory(name).at(place);
               });
        }
      }
    }
    EXPECT_EQ(target.memories(), expected.memories()) << skip;
  }
}

KvCacheSample vllm(std::vector<TensorSample> tensors, const std::string& kv_layout,
                   std::vector<GroupSample> groups = {}) {
  KvCacheSample sample;
  sample.tensors = std::move(tensors);
  sample.kv_layout = kv_layout;
  sample.groups = std::move(groups);
  return sample;
}

KvCacheSample other(const std::string& engine, std::vector<TensorSample> tensors,
                    const std::string& kv_list,
                    std::vector<std::pair<std::string, std::uint64_t>> hints) {
  KvCacheSample sample = vllm(std::move(tensors), "");
  sample.engine = engine;
  sample.kv_list = kv_list;
  sample.hints = std::move(hints);
  return sample;
}

/// Views that share one memory, one behind the other in each block, as vLLM's block-first layouts
/// have them.
std::vector<TensorSample> packed_layers(std::size_t count, const std::vector<std::uint64_t>& shape,
                                        std::uint64_t gap) {
  std::vector<TensorSample> tensors = make_tensors(count, shape);
  const std::uint64_t layer = tensors[0].stride[0];
  for (std::size_t i = 0; i < count; ++i) {
    tensors[i].name = "/lmcache_kv_1_0";
    tensors[i].stride[0] = layer * count + gap;
    tensors[i].offset = layer * i;
    tensors[i].bytes = tensors[i].stride[0] * shape[0] * 2;
  }
  return tensors;
}

std::vector<TensorSample> joined(std::vector<TensorSample> first,
                                 const std::vector<TensorSample>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// Two layers, copied alike.
std::vector<std::vector<Part>> two_layers(const std::string& axes) {
  return {{{.tensors = {0, 1}, .axes = axes}}};
}

const std::vector<std::vector<std::uint32_t>> kTwoLists{{9, 4, 7, 30, 1, 2, 3, 40},
                                                        {40, 41, 42, 43, 10, 11, 12, 13}};
using Shape = std::vector<std::uint64_t>;
const Shape kNhd{2, 64, 4, 2, 4};

std::vector<LayoutCase> vllm_cases() {
  std::vector<TensorSample> permuted = make_tensors(2, kNhd);
  for (TensorSample& tensor : permuted) tensor.stride = {2048, 32, 4, 16, 1};
  std::vector<TensorSample> one_head = make_tensors(2, {64, 1, 4, 8});
  for (TensorSample& tensor : one_head) tensor.stride = {32, 8, 8, 1};
  std::vector<TensorSample> shifted = make_tensors(2, kNhd);
  for (TensorSample& tensor : shifted) tensor.bytes += 16, tensor.offset = 8;
  return {
      {.name = "KvFirstNhd",
       .sample = vllm(make_tensors(2, kNhd), "NHD"),
       .objects = two_layers("kbthe"),
       .lmcache = {0x6FE0672CD15F6F6B, 0x18020CEDBE562B1E}},
      {.name = "KvFirstHnd",
       .sample = vllm(make_tensors(2, {2, 64, 2, 4, 4}), "HND"),
       .objects = two_layers("kbhte"),
       .lmcache = {0xAD6FAAFE0BF96DFB, 0xADE1F12FA8F454FE}},
      {.name = "WithoutAHintHnd",
       .sample = vllm(make_tensors(2, {2, 64, 2, 4, 4}), ""),
       .objects = two_layers("kbhte"),
       .lmcache = {0xAD6FAAFE0BF96DFB, 0xADE1F12FA8F454FE}},
      {.name = "HndSeenAsNhd",
       .sample = vllm(permuted, "HND"),
       .objects = two_layers("kbthe"),
       .lmcache = {0xAD6FAAFE0BF96DFB, 0xADE1F12FA8F454FE}},
      {.name = "KvFirstHndOne",
       .sample = vllm(make_tensors(2, {2, 64, 2, 1, 4, 4}), "NHD"),
       .objects = two_layers("kbh1te"),
       .lmcache = {0xAD6FAAFE0BF96DFB, 0xADE1F12FA8F454FE}},
      {.name = "BlockFirstNhd",
       .sample = vllm(make_tensors(2, {64, 2, 4, 2, 4}), "NHD"),
       .objects = two_layers("bkthe"),
       .lmcache = {0x94B7F95FF262D35D, 0x5030ACDE71981BB6}},
      {.name = "BlockFirstHnd",
       .sample = vllm(make_tensors(2, {64, 2, 2, 4, 4}), "HND"),
       .objects = two_layers("bkhte"),
       .lmcache = {0x8934E9086FE7D0C9, 0x9C18F3A00965F79E}},
      {.name = "FusedNhd",
       .sample = vllm(make_tensors(2, {64, 4, 2, 8}), "NHD"),
       .objects = two_layers("bthe"),
       .lmcache = {0xD741600183B4FB99, 0xF562DBEE83BC53DA}},
      {.name = "FusedHnd",
       .sample = vllm(make_tensors(2, {64, 2, 4, 8}), "HND"),
       .objects = two_layers("bhte"),
       .lmcache = {0x972369474CAAC1A5, 0x92D6F378E82A2886}},
      {.name = "Blhnc",
       .sample = vllm(make_tensors(2, {64, 2, 4, 8}), "BLHNC"),
       .objects = two_layers("bhte"),
       .lmcache = {0x972369474CAAC1A5, 0x92D6F378E82A2886}},
      {.name = "Blnhc",
       .sample = vllm(make_tensors(2, {64, 4, 2, 8}), "BLNHC"),
       .objects = two_layers("bthe"),
       .lmcache = {0xD741600183B4FB99, 0xF562DBEE83BC53DA}},
      // LMCache refuses gaps on CPUs, so its bytes for them are unknown.
      {.name = "BlhncPacked",
       .sample = vllm(packed_layers(2, {64, 2, 4, 8}, 0), "BLHNC"),
       .objects = two_layers("bhte"),
       .lmcache = {}},
      {.name = "BlnhcPackedWithAGap",
       .sample = vllm(packed_layers(2, {64, 4, 2, 8}, 24), "BLNHC"),
       .objects = two_layers("bthe"),
       .lmcache = {}},
      {.name = "BlockFirstWithAGap",
       .sample = vllm(packed_layers(2, {64, 2, 4, 2, 4}, 8), "NHD"),
       .objects = two_layers("bkthe"),
       .lmcache = {}},
      {.name = "BlnhcOfOneHead",
       .sample = vllm(one_head, "BLNHC"),
       .objects = two_layers("bhte"),
       .lmcache = {0xFC414446A459FD27, 0x1D507C98376092CA}},
      {.name = "Latent",
       .sample = vllm(make_tensors(2, {64, 4, 12}), ""),
       .objects = two_layers("bte"),
       .lmcache = {0x9B33D176B9A6BAE3, 0x264ED856592BD116}},
      {.name = "LatentFloat8",
       .sample = vllm(make_tensors(2, {64, 4, 12}, "float8_e4m3fn", 1), ""),
       .objects = two_layers("bte"),
       .lmcache = {0x21F2A706A3834604, 0x9641BF9E93D5EA24},
       .element_bytes = 1},
      {.name = "Indexer",
       .sample = vllm(make_tensors(2, {64, 4, 132}, "uint8", 1), ""),
       .objects = two_layers("bte"),
       .lmcache = {0x90884E91406002E0, 0xE92A6569CA915B44},
       .element_bytes = 1},
      {.name = "IndexerWithAHead",
       .sample = vllm(make_tensors(2, {64, 1, 4, 132}, "uint8", 1), "HND"),
       .objects = two_layers("bhte"),
       .lmcache = {0x90884E91406002E0, 0xE92A6569CA915B44},
       .element_bytes = 1},
      {.name = "Float32",
       .sample = vllm(make_tensors(2, kNhd, "float32", 4), "NHD"),
       .objects = two_layers("kbthe"),
       .lmcache = {0xBA35721970E7EDD1, 0x80439FE1FD0AD938},
       .element_bytes = 4},
      {.name = "BehindOffset",
       .sample = vllm(shifted, "NHD"),
       .objects = two_layers("kbthe"),
       .lmcache = {0x54455B195C7F414F, 0x47CE7E253B8BE879}},
  };
}

std::vector<LayoutCase> group_cases() {
  const std::vector<TensorSample> two = make_tensors(2, kNhd);
  const std::vector<TensorSample> three =
      joined(two, make_tensors(1, {2, 64, 4, 1, 4}, "float16", 2, 2));
  const GroupSample full{.layers = {0}, .tokens_per_block = 4};
  const GroupSample window{.id = 1, .layers = {1}, .tokens_per_block = 4, .window = 8};
  return {
      {.name = "TwoGroupsInOneObject",
       .sample = vllm(three, "NHD",
                      {{.layers = {0, 1}, .tokens_per_block = 4},
                       {.id = 1, .layers = {2}, .tokens_per_block = 4}}),
       .objects = {{{.tensors = {0, 1}, .axes = "kbthe"},
                    {.tensors = {2}, .axes = "kbthe", .list = 1}}},
       .lmcache = {0xAAA7EC19714A8D52, 0x0F26D2F43FE3EE3B},
       .lists = kTwoLists,
       .has_separate_groups = true},
      {.name = "TwoObjects",
       .sample = vllm(three, "NHD",
                      {{.layers = {0, 1}, .tokens_per_block = 4},
                       {.id = 1, .layers = {2}, .tokens_per_block = 4, .window = 16}}),
       .objects = {{{.tensors = {0, 1}, .axes = "kbthe"}},
                   {{.tensors = {2}, .axes = "kbthe", .list = 1}}},
       .lmcache = {0x6FE0672CD15F6F6B, 0x18020CEDBE562B1E, 0x35E9A93367DB0914, 0xE40A2ED924FE89E8},
       .lists = kTwoLists,
       .has_separate_groups = true},
      {.name = "WindowWithinAChunk",
       .sample = vllm(make_tensors(1, kNhd), "NHD",
                      {{.layers = {0}, .tokens_per_block = 4, .window = 8}}),
       .objects = {{{.tensors = {0}, .axes = "kbthe", .kept_tokens = 8}}},
       .lmcache = {0xCAC92F1AF04E19A9, 0x9A1048622A5C5694}},
      {.name = "WindowInOneObject",
       .sample = vllm(two, "NHD", {full, window}),
       .objects = {{{.tensors = {0}, .axes = "kbthe"},
                    {.tensors = {1}, .axes = "kbthe", .list = 1, .kept_tokens = 8}}},
       .lmcache = {0xCF2CB3FBE4381320, 0x9EF56253B4179CEB},
       .lists = kTwoLists},
      {.name = "WindowInAnObjectOfItsOwn",
       .sample = vllm(two, "NHD", {full, window}),
       .objects = {{{.tensors = {0}, .axes = "kbthe"}},
                   {{.tensors = {1}, .axes = "kbthe", .list = 1, .kept_tokens = 8}}},
       .lmcache = {0x2092395F1EBF6960, 0xD7DD5768D02F5550, 0x368B9C25409D57C9, 0x790FFFE72DF9548A},
       .lists = kTwoLists,
       .has_separate_groups = true},
      {.name = "TwoTokensASlot",
       .sample =
           vllm(make_tensors(2, {64, 2, 12}), "", {{.layers = {0, 1}, .tokens_per_block = 4}}),
       .objects = {{{.tensors = {0, 1}, .axes = "bte", .tokens_per_slot = 2}}},
       .lmcache = {0x21F2A706A3834604, 0x9641BF9E93D5EA24}},
  };
}

std::vector<LayoutCase> other_cases() {
  return {
      {.name = "SglangUnifiedHeads",
       .sample =
           other("sglang", make_tensors(2, {64, 4, 2, 4}), "unified", {{"tokens_per_block", 4}}),
       .objects = two_layers("bthe"),
       .lmcache = {0xFC414446A459FD27, 0x1D507C98376092CA}},
      {.name = "SglangUnifiedLatent",
       .sample = other("sglang", make_tensors(2, {64, 4, 12}), "unified", {}),
       .objects = two_layers("bte"),
       .lmcache = {0x9B33D176B9A6BAE3, 0x264ED856592BD116}},
      {.name = "SglangFoldedLatent",
       .sample = other("sglang", make_tensors(2, {256, 1, 12}), "", {{"tokens_per_block", 4}}),
       .objects = two_layers("f1e"),
       .lmcache = {0x9B33D176B9A6BAE3, 0x264ED856592BD116}},
      {.name = "SglangKeysThenValues",
       .sample = other("sglang", make_tensors(4, {256, 2, 4}), "k_v", {{"tokens_per_block", 4}}),
       .objects = {{{.tensors = {0, 1}, .axes = "fhe", .values_after = 2}}},
       .lmcache = {0xF67F034A23D830CF, 0x1CD98A4D24C31B01}},
      {.name = "Atom",
       .sample = other("atom", make_tensors(2, {64, 4, 4}), "", {}),
       .objects = two_layers("bte"),
       .lmcache = {0x9F125841DF14F4A6, 0xC4BFB96066B77B1F}},
      {.name = "TrtllmCrossLayer",
       .sample = other("trtllm", make_tensors(1, {64, 3, 2, 2, 4, 4}), "", {}),
       .objects = {{{.tensors = {0}, .axes = "blkhte"}}},
       .lmcache = {0x93934D52085A6F77, 0x12354FF241F12AAB}},
  };
}

std::string name_of(const ::testing::TestParamInfo<LayoutCase>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Vllm, PagedLayoutTest, ::testing::ValuesIn(vllm_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Groups, PagedLayoutTest, ::testing::ValuesIn(group_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Engines, PagedLayoutTest, ::testing::ValuesIn(other_cases()), name_of);

}  // namespace
}  // namespace larder::server
