#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/wire/msgpack_writer.h"
#include "larder/wire/tokens.h"

/// What the tests of this folder share.
namespace larder::wire {

inline std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[static_cast<unsigned>(byte) >> 4U];
    text += kDigits[static_cast<unsigned>(byte) & 15U];
  }
  return text;
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

}  // namespace larder::wire
