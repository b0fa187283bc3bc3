#include "larder/wire/key.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/wire/limits.h"

namespace larder::wire {
namespace {

// Cost of a step, in tokens hashed: comparing a chunk, and decoding one, by measurement.
constexpr std::size_t kComparedPerHashed = 16;

enum Field : unsigned {
  kModel,
  kWorldSize,
  kWorker,
  kTokenIds,
  kStart,
  kEnd,
  kRequestId,
  kSalt,
  kConfigs,
  kReaders,
  kPackedTokens,
};

struct FieldName {
  std::string_view name;
  std::string_view shown;
};

// In the order of Field.
constexpr FieldName kFields[] = {
    {"model_name", "key.model_name"},
    {"world_size", "key.world_size"},
    {"worker_id", "key.worker_id"},
    {"token_ids", "key.token_ids"},
    {"start", "key.start"},
    {"end", "key.end"},
    {"request_id", "key.request_id"},
    {"cache_salt", "key.cache_salt"},
    {"request_configs", "key.request_configs"},
    {"num_kv_readers", "key.num_kv_readers"},
    {"token_bytes", "key.token_bytes"},
};

constexpr Field kRequired[] = {kModel, kWorldSize, kWorker, kStart, kEnd, kRequestId};

constexpr std::string_view kTokenRemedy = "an integer from 0 to 4294967295";
constexpr std::uint64_t kAnyNumber = ~std::uint64_t{0};

}  // namespace

DecodeStatus check_transfer_key(const Key& key, std::uint32_t chunk_tokens) {
  const auto wrong = [](std::string_view field, std::uint64_t value, std::string remedy) {
    return DecodeError{
        .field = std::string{field}, .value = std::to_string(value), .remedy = std::move(remedy)};
  };
  if (!key.worker) {
    return DecodeError{.field = "key.worker_id", .value = "nil", .remedy = "a worker's number"};
  }
  const std::string multiple = "a multiple of the chunk of " + std::to_string(chunk_tokens);
  if (key.start % chunk_tokens != 0) return wrong("key.start", key.start, multiple);
  if (key.end % chunk_tokens != 0) return wrong("key.end", key.end, multiple);
  if (key.end > key.tokens) {
    return wrong("key.end", key.end, "at most the " + std::to_string(key.tokens) + " tokens sent");
  }
  if (key.start > key.end) return wrong("key.start", key.start, "at most key.end");
  return {};
}

KeyReader::KeyReader(HashMemo& memo, ChunkHasher& hasher) noexcept : memo_(memo), hasher_(hasher) {
  LARDER_CHECK(memo.chunk_tokens() == hasher.chunk_tokens());
}

void KeyReader::start(std::span<const std::byte> frame) {
  reader_ = MsgpackReader{frame};
  state_ = State::kMore;
  stage_ = Stage::kFields;
  seen_ = {};
  ignored_values_ = limits::kIgnoredValues;
  key_ = {};
  encoded_ = {};
  chunks_wanted_ = 0;
  position_ = {};
  hashes_.clear();
  known_chunks_ = 0;
  error_ = {};
  if (const auto count = read_map(reader_, "the key")) {
    fields_left_ = *count;
  } else {
    error_ = count.error();
    state_ = State::kFailed;
  }
}

KeyReader::State KeyReader::advance(std::size_t tokens) {
  std::size_t budget = std::max<std::size_t>(tokens, 1);
  while (state_ == State::kMore && budget > 0) {
    if (auto done = step(budget); !done) {
      error_ = std::move(done).error();
      state_ = State::kFailed;
    }
  }
  return state_;
}

DecodeStatus KeyReader::step(std::size_t& budget) {
  switch (stage_) {
    case Stage::kFields:
      return read_fields();
    case Stage::kChunks:
      if (hashes_.size() < chunks_wanted_) return next_chunk(budget);
      if (key_.form == TokenForm::kIds) {
        stage_ = Stage::kRest;
      } else {
        finish();
      }
      return {};
    case Stage::kRest:
      return end_ids(budget);
  }
  return {};
}

/// Until the fields end, or until `token_ids`, whose end only decoding finds.
DecodeStatus KeyReader::read_fields() {
  while (fields_left_ > 0) {
    --fields_left_;
    const auto before = reader_.rest();
    const auto name = reader_.next();
    if (!name) return wrong_value("the key", before, "a whole map");
    if (name->type != Type::kText) return wrong_value("a field's name in the key", before, "text");
    LARDER_TRY(read_field(as_text(name->bytes)));
    if (stage_ != Stage::kFields) return {};
  }
  return end_fields();
}

DecodeStatus KeyReader::read_field(std::string_view name) {
  const auto* found = std::ranges::find(kFields, name, &FieldName::name);
  if (found == std::end(kFields)) return pass_value(reader_, "a field of the key", ignored_values_);
  const auto field = static_cast<Field>(found - std::begin(kFields));
  const std::string_view shown = found->shown;
  LARDER_TRY(seen_.add(field, shown));
  switch (field) {
    case kModel: {
      LARDER_ASSIGN(key_.model, read_text(reader_, shown, limits::kModelBytes));
      return {};
    }
    case kWorldSize: {
      LARDER_ASSIGN(const auto size, read_number(reader_, shown, 1, limits::kWorldSize));
      key_.world_size = static_cast<std::uint32_t>(size);
      return {};
    }
    case kWorker:
      return read_worker();
    case kTokenIds:
      return begin_ids();
    case kStart: {
      LARDER_ASSIGN(key_.start, read_number(reader_, shown, 0, kAnyNumber));
      return {};
    }
    case kEnd: {
      LARDER_ASSIGN(key_.end, read_number(reader_, shown, 0, kAnyNumber));
      return {};
    }
    case kRequestId: {
      LARDER_ASSIGN(key_.request_id, read_text(reader_, shown, limits::kRequestIdBytes));
      return {};
    }
    case kSalt:
      return read_salt();
    case kConfigs:
      return read_configs();
    case kReaders: {
      LARDER_ASSIGN(const auto readers, read_number(reader_, shown, 0, kAnyNumber));
      key_.kv_readers =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(readers, limits::kKvReaders));
      return {};
    }
    case kPackedTokens:
      return read_packed();
  }
  return {};
}

DecodeStatus KeyReader::read_worker() {
  if (take_nil(reader_)) return {};
  LARDER_ASSIGN(const auto worker,
                read_number(reader_, kFields[kWorker].shown, 0, limits::kWorldSize - 1));
  key_.worker = static_cast<std::uint32_t>(worker);
  return {};
}

DecodeStatus KeyReader::read_salt() {
  const auto before = reader_.rest();
  constexpr std::size_t kBytesMax = 4 * limits::kSaltCharacters;
  LARDER_ASSIGN(key_.salt, read_text(reader_, kFields[kSalt].shown, kBytesMax));
  constexpr std::string_view kRefused{"@/\\\0", 4};  // They separate the parts of an object's name.
  if (key_.salt.find_first_of(kRefused) != std::string_view::npos ||
      utf8_characters(key_.salt) > limits::kSaltCharacters) {
    return wrong_value(kFields[kSalt].shown, before,
                       "at most 128 characters without @, /, \\ and NUL");
  }
  return {};
}

DecodeStatus KeyReader::read_configs() {
  constexpr std::string_view kSkipLoad = "lmcache.skip_load";
  constexpr std::string_view kHint = "lmcache.hint.engine_computed_tokens";
  if (take_nil(reader_)) return {};
  LARDER_ASSIGN(const auto count, read_map(reader_, kFields[kConfigs].shown));
  for (std::uint32_t i = 0; i < count; ++i) {
    if (ignored_values_ == 0) {
      return DecodeError{.field = std::string{kFields[kConfigs].shown},
                         .value = "a map of " + std::to_string(count),
                         .remedy = "smaller"};
    }
    --ignored_values_;
    const auto before = reader_.rest();
    const auto name = reader_.next();
    if (!name || name->type != Type::kText) {
      return wrong_value("a name in key.request_configs", before, "text");
    }
    if (as_text(name->bytes) == kHint) {
      LARDER_ASSIGN(const Integer hint,
                    read_integer(reader_, "key.request_configs[\"" + std::string{kHint} + "\"]"));
      key_.engine_computed_tokens = hint.is_negative ? 0 : hint.bits;
      continue;
    }
    const auto value_before = reader_.rest();
    LARDER_TRY(pass_value(reader_, kFields[kConfigs].shown, ignored_values_));
    constexpr std::byte kTrue{0xC3};
    if (as_text(name->bytes) == kSkipLoad) key_.skip_load = value_before.front() == kTrue;
  }
  return {};
}

DecodeStatus KeyReader::begin_ids() {
  LARDER_ASSIGN(const auto count, read_array(reader_, kFields[kTokenIds].shown, limits::kTokens));
  if (seen_.has(kPackedTokens)) {
    // The packed form wins. The integers are passed without a look at them.
    for (std::uint32_t i = 0; i < count; ++i) {
      LARDER_TRY(pass_value(reader_, kFields[kTokenIds].shown, ignored_values_));
    }
    return {};
  }
  begin_chunks(TokenForm::kIds, reader_.rest(), count);
  chunks_wanted_ = count / hasher_.chunk_tokens();
  stage_ = Stage::kChunks;
  return {};
}

DecodeStatus KeyReader::read_packed() {
  const auto before = reader_.rest();
  LARDER_ASSIGN(const auto packed, read_binary(reader_, kFields[kPackedTokens].shown));
  if (packed.size() % kTokenBytes != 0 || packed.size() / kTokenBytes > limits::kTokens) {
    return wrong_value(
        kFields[kPackedTokens].shown, before,
        "4 bytes for each of at most " + std::to_string(limits::kTokens) + " tokens");
  }
  begin_chunks(TokenForm::kBytes, packed, static_cast<std::uint32_t>(packed.size() / kTokenBytes));
  return {};
}

void KeyReader::begin_chunks(TokenForm form, std::span<const std::byte> encoded,
                             std::uint32_t tokens) {
  key_.form = form;
  key_.tokens = tokens;
  encoded_ = encoded;
  hashes_.clear();
  known_chunks_ = 0;
  may_know_ = true;
  position_ = memo_.root(form);
  last_hash_ = no_chunk_hash();
}

DecodeStatus KeyReader::end_fields() {
  LARDER_TRY(expect_end(reader_, "the key"));
  for (const Field field : kRequired) {
    if (!seen_.has(field)) return missing_field(kFields[field].shown);
  }
  if (!seen_.has(kTokenIds) && !seen_.has(kPackedTokens)) {
    return missing_field("key.token_bytes (or key.token_ids)");
  }
  if (key_.worker && *key_.worker >= key_.world_size) {
    return DecodeError{.field = "key.worker_id",
                       .value = std::to_string(*key_.worker),
                       .remedy = "below key.world_size, " + std::to_string(key_.world_size)};
  }
  chunks_wanted_ = std::min<std::uint64_t>(key_.tokens, key_.end) / hasher_.chunk_tokens();
  if (key_.form == TokenForm::kBytes) {
    stage_ = Stage::kChunks;
  } else {
    finish();
  }
  return {};
}

DecodeStatus KeyReader::next_chunk(std::size_t& budget) {
  const std::size_t chunk_tokens = hasher_.chunk_tokens();
  if (may_know_) {
    budget -= std::min(budget, chunk_tokens / kComparedPerHashed + 1);
    if (const auto step = memo_.find(position_, encoded_)) {
      encoded_ = encoded_.subspan(step->bytes);
      position_ = step->position;
      last_hash_ = step->hash;
      hashes_.push_back(step->hash);
      ++known_chunks_;
      return {};
    }
    may_know_ = false;
  }
  budget -= std::min(budget, chunk_tokens);
  auto chunk = encoded_;
  if (key_.form == TokenForm::kIds) {
    LARDER_TRY(unpack(chunk_tokens));
    chunk = chunk.first(chunk.size() - encoded_.size());
    last_hash_ = hasher_.hash(last_hash_, hasher_.tokens());
  } else {
    chunk = chunk.first(chunk_tokens * kTokenBytes);
    encoded_ = encoded_.subspan(chunk.size());
    last_hash_ = hasher_.hash(last_hash_, chunk);
  }
  hashes_.push_back(last_hash_);
  position_ = memo_.remember(position_, chunk, last_hash_);
  return {};
}

/// Takes `tokens`, at most a chunk, from encoded_ into the hasher's buffer.
DecodeStatus KeyReader::unpack(std::size_t tokens) {
  const Unpacked unpacked = unpack_ids(encoded_, hasher_.tokens().first(tokens * kTokenBytes));
  encoded_ = encoded_.subspan(unpacked.bytes);
  if (unpacked.tokens == tokens) return {};
  const std::size_t index = hashes_.size() * hasher_.chunk_tokens() + unpacked.tokens;
  return wrong_value("key.token_ids[" + std::to_string(index) + "]", encoded_, kTokenRemedy);
}

/// The tokens behind the last full chunk, and on with the fields.
DecodeStatus KeyReader::end_ids(std::size_t& budget) {
  const std::size_t tokens = key_.tokens % hasher_.chunk_tokens();
  budget -= std::min(budget, tokens + 1);
  LARDER_TRY(unpack(tokens));
  reader_.advance(reader_.rest().size() - encoded_.size());
  stage_ = Stage::kFields;
  return {};
}

void KeyReader::finish() {
  if (hashes_.size() > chunks_wanted_) hashes_.resize(chunks_wanted_);
  known_chunks_ = std::min(known_chunks_, hashes_.size());
  memo_.touch(position_);
  state_ = State::kDone;
}

}  // namespace larder::wire
