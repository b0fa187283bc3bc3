#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/key_text.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/tokens.h"

/// The common parts of this folder's tests.
namespace larder::wire {

inline std::string hex(std::span<const std::byte> bytes) {
  return hex_text(bytes);
}

/// Of lower-case digits only.
inline Bytes from_hex(std::string_view text) {
  const auto digit = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  Bytes bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
  }
  return bytes;
}

/// Four bytes a token, big-endian.
inline Bytes pack(std::span<const std::uint32_t> tokens) {
  Bytes packed;
  for (const std::uint32_t token : tokens) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
      packed.push_back(static_cast<std::byte>(token >> shift));
    }
  }
  return packed;
}

/// A key as LMCache's clients write it: 0.5.6 with kIds, 0.5.7 with kBytes.
struct KeySample {
  std::string model = "golden/model-1";
  std::uint64_t world_size = 1;
  std::int64_t worker = 0;  ///< Below zero: nil.
  TokenForm form = TokenForm::kIds;
  std::vector<std::uint32_t> tokens;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::string request_id = "request-1";
  std::string salt;
  Bytes configs{std::byte{0xC0}};  ///< MessagePack; nil.
  std::uint64_t kv_readers = 1;
};

inline Bytes make_key(const KeySample& key) {
  Bytes bytes;
  MsgpackWriter writer{bytes};
  writer.map(10);
  writer.text("model_name"), writer.text(key.model);
  writer.text("world_size"), writer.integer(key.world_size);
  writer.text("worker_id");
  if (key.worker < 0) {
    writer.nil();
  } else {
    writer.integer(static_cast<std::uint64_t>(key.worker));
  }
  if (key.form == TokenForm::kBytes) {
    writer.text("token_bytes"), writer.binary(pack(key.tokens));
  } else {
    writer.text("token_ids"), writer.array(key.tokens.size());
    for (const std::uint32_t token : key.tokens) writer.integer(token);
  }
  writer.text("start"), writer.integer(key.start);
  writer.text("end"), writer.integer(key.end);
  writer.text("request_id"), writer.text(key.request_id);
  writer.text("cache_salt"), writer.text(key.salt);
  writer.text("request_configs");
  bytes.insert(bytes.end(), key.configs.begin(), key.configs.end());
  writer.text("num_kv_readers"), writer.integer(key.kv_readers);
  return bytes;
}

/// Bytes as an extension of type 1.
inline void append_extension(Bytes& out, const Bytes& body) {
  out.push_back(std::byte{0xC8});
  out.push_back(static_cast<std::byte>(body.size() >> 8U));
  out.push_back(static_cast<std::byte>(body.size()));
  out.push_back(std::byte{1});
  out.insert(out.end(), body.begin(), body.end());
}

/// A tensor in shared memory as LMCache's clients write it.
struct TensorSample {
  std::string name = "/lmcache_kv_77_0";
  std::uint64_t bytes = 8192;
  std::string dtype = "float16";
  std::vector<std::uint64_t> shape{2, 64, 4, 2, 4};
  std::vector<std::uint64_t> stride{2048, 32, 8, 4, 1};
  std::uint64_t offset = 0;
};

inline void write_sizes(MsgpackWriter& writer, std::string_view field,
                        const std::vector<std::uint64_t>& sizes) {
  writer.text(field), writer.array(sizes.size());
  for (const std::uint64_t size : sizes) writer.integer(size);
}

inline void write_view(MsgpackWriter& writer, const TensorSample& tensor) {
  writer.text("metadata"), writer.map(5);
  writer.text("dtype"), writer.text(tensor.dtype);
  write_sizes(writer, "shape", tensor.shape);
  write_sizes(writer, "stride", tensor.stride);
  writer.text("storage_offset"), writer.integer(tensor.offset);
  writer.text("device_uuid"), writer.text("cpu");
}

inline Bytes make_tensor(const TensorSample& tensor) {
  Bytes body;
  MsgpackWriter writer{body};
  writer.map(5);
  writer.text("type"), writer.text("cpu_shm");
  writer.text("shm_name"), writer.text(tensor.name);
  writer.text("nbytes"), writer.integer(tensor.bytes);
  writer.text("version"), writer.integer(1);
  write_view(writer, tensor);
  Bytes out;
  append_extension(out, body);
  return out;
}

struct GroupSample {
  std::uint64_t id = 0;
  std::vector<std::uint64_t> layers{};
  std::uint64_t tokens_per_block = 0;
  std::int64_t window = -1;
  std::uint64_t tag = 0;
  bool is_recurrent = false;
};

/// The arguments of register_kv_cache.
struct KvCacheSample {
  std::uint64_t instance = 7;
  std::vector<TensorSample> tensors{TensorSample{}, TensorSample{.name = "/lmcache_kv_77_1"}};
  std::string model = "m";
  std::uint64_t world_size = 1;
  std::string engine = "vllm";
  std::string kv_layout = "NHD";  ///< Empty: no hint.
  std::string kv_list{};          ///< Empty: no hint.
  std::vector<std::pair<std::string, std::uint64_t>> hints{};
  std::vector<GroupSample> groups{};
};

inline Bytes make_hints(const KvCacheSample& sample) {
  Bytes out;
  MsgpackWriter writer{out};
  writer.map(sample.hints.size() + (sample.kv_layout.empty() ? 0U : 1U) +
             (sample.kv_list.empty() ? 0U : 1U));
  if (!sample.kv_layout.empty()) writer.text("kv_layout"), writer.text(sample.kv_layout);
  if (!sample.kv_list.empty()) writer.text("kv_list_layout"), writer.text(sample.kv_list);
  for (const auto& [name, value] : sample.hints) writer.text(name), writer.integer(value);
  return out;
}

inline Bytes make_groups(const std::vector<GroupSample>& groups) {
  Bytes out;
  MsgpackWriter writer{out};
  writer.array(groups.size());
  for (const GroupSample& group : groups) {
    writer.map(6);
    writer.text("engine_group_id"), writer.integer(group.id);
    write_sizes(writer, "layer_indices", group.layers);
    writer.text("tokens_per_block"), writer.integer(group.tokens_per_block);
    writer.text("sw_size_tokens");
    if (group.window < 0) {
      writer.negative(group.window);
    } else {
      writer.integer(static_cast<std::uint64_t>(group.window));
    }
    writer.text("extra_object_group_tag"), writer.integer(group.tag);
    writer.text("recurrent_state"), writer.boolean(group.is_recurrent);
  }
  return out;
}

inline std::vector<Bytes> make_kv_cache(const KvCacheSample& sample) {
  std::vector<Bytes> frames(5);
  MsgpackWriter{frames[0]}.integer(sample.instance);
  MsgpackWriter{frames[1]}.array(sample.tensors.size());
  for (const TensorSample& tensor : sample.tensors) {
    const Bytes written = make_tensor(tensor);
    frames[1].insert(frames[1].end(), written.begin(), written.end());
  }
  MsgpackWriter{frames[2]}.text(sample.model);
  MsgpackWriter{frames[3]}.integer(sample.world_size);
  MsgpackWriter{frames[4]}.text(sample.engine);
  frames.push_back(make_hints(sample));
  frames.push_back(make_groups(sample.groups));
  return frames;
}

}  // namespace larder::wire
