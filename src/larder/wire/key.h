#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "larder/wire/chunk_hash.h"
#include "larder/wire/decode_error.h"
#include "larder/wire/fields.h"
#include "larder/wire/hash_memo.h"
#include "larder/wire/msgpack_reader.h"
#include "larder/wire/tokens.h"

namespace larder::wire {

/// The range that a client asks about: the first argument of most operations (LMCache:
/// IPCCacheEngineKey). Texts are views into the frame.
struct Key {
  std::string_view model;
  std::uint32_t world_size = 0;         ///< 1 to limits::kWorldSize.
  std::optional<std::uint32_t> worker;  ///< Below world_size; empty means all of them.
  TokenForm form = TokenForm::kIds;
  std::uint32_t tokens = 0;  ///< Of the whole prompt. Full chunks up to `end` are hashed.
  std::uint64_t start = 0;   ///< In tokens; may be beyond the prompt.
  std::uint64_t end = 0;     ///< Exclusive; may lie beyond the prompt, and below start.
  std::string_view request_id;
  std::string_view salt;
  std::uint32_t kv_readers = 0;              ///< 0: not sent. At most limits::kKvReaders.
  bool skip_load = false;                    ///< request_configs["lmcache.skip_load"] is true.
  std::uint64_t engine_computed_tokens = 0;  ///< From request_configs' hint; for reports only.
};

/// For transfers: start and end are multiples of the chunk, ordered and within the tokens, and a
/// worker is named. Pure.
DecodeStatus check_transfer_key(const Key& key, std::uint32_t chunk_tokens);

/// Reads one key frame and the hashes of its chunks, in pieces, so that a prompt of a million
/// tokens does not keep the caller from its other clients. A prefix that the memo knows is neither
/// decoded nor hashed; the rest is decoded, hashed and remembered chunk by chunk.
///
/// Use: start(), then advance() until it says something else than kMore; then key() and hashes(),
/// or error(). The frame outlives that, and the memo and the hasher outlive the reader; several
/// readers may share both and take turns. Keeps its buffers for the next start(). One thread at a
/// time.
class KeyReader {
 public:
  enum class State : std::uint8_t { kMore, kDone, kFailed };

  /// Both have the same chunk_tokens().
  KeyReader(HashMemo& memo, ChunkHasher& hasher) noexcept;

  void start(std::span<const std::byte> frame);

  /// Works for about as long as it takes to hash `tokens` tokens (6 ns each), at least one chunk.
  State advance(std::size_t tokens);

  State state() const noexcept { return state_; }
  const Key& key() const noexcept { return key_; }  ///< When kDone.
  /// When kDone: of every full chunk of tokens[0, min(tokens, end)), from the first.
  std::span<const ChunkHash> hashes() const noexcept { return hashes_; }
  const DecodeError& error() const noexcept { return error_; }  ///< When kFailed.
  /// How many of hashes() were known.
  std::size_t known_chunks() const noexcept { return known_chunks_; }

 private:
  enum class Stage : std::uint8_t { kFields, kChunks, kRest };

  DecodeStatus step(std::size_t& budget);
  DecodeStatus read_fields();
  DecodeStatus read_field(std::string_view name);
  DecodeStatus read_salt();
  DecodeStatus read_worker();
  DecodeStatus read_configs();
  DecodeStatus begin_ids();
  DecodeStatus read_packed();
  void begin_chunks(TokenForm form, std::span<const std::byte> encoded, std::uint32_t tokens);
  DecodeStatus end_fields();
  DecodeStatus next_chunk(std::size_t& budget);
  DecodeStatus end_ids(std::size_t& budget);
  DecodeStatus unpack(std::size_t tokens);
  void finish();

  HashMemo& memo_;
  ChunkHasher& hasher_;
  State state_ = State::kDone;
  Stage stage_ = Stage::kFields;
  MsgpackReader reader_;
  std::uint32_t fields_left_ = 0;
  SeenFields seen_;
  std::size_t ignored_values_ = 0;
  Key key_;

  // The chunks: the rest of the encoded tokens, and how far the chain has come.
  std::span<const std::byte> encoded_;
  std::size_t chunks_wanted_ = 0;
  bool may_know_ = false;  ///< The memo has known every chunk so far.
  HashMemo::Position position_;
  ChunkHash last_hash_{};
  std::vector<ChunkHash> hashes_;
  std::size_t known_chunks_ = 0;
  DecodeError error_;
};

}  // namespace larder::wire
