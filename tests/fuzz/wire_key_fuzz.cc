// A key frame: read in pieces of any size, through a memo that is too small, twice.
#include <numeric>

#include "larder/wire/key.h"
#include "larder/wire/wire_test_support.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

constexpr std::uint32_t kChunkTokens = 16;

struct Outcome {
  bool is_good = false;
  std::vector<wire::ChunkHash> hashes;
};

Outcome read(wire::KeyReader& reader, std::span<const std::byte> frame, std::size_t piece) {
  reader.start(frame);
  while (reader.advance(piece) == wire::KeyReader::State::kMore) {
  }
  if (reader.state() == wire::KeyReader::State::kFailed) {
    LARDER_CHECK(!reader.error().field.empty() && !reader.error().remedy.empty());
    return {};
  }
  const wire::Key& key = reader.key();
  LARDER_CHECK(key.world_size >= 1 && (!key.worker || *key.worker < key.world_size));
  LARDER_CHECK(reader.hashes().size() ==
               std::min<std::uint64_t>(key.tokens, key.end) / kChunkTokens);
  if (wire::check_transfer_key(key, kChunkTokens)) LARDER_CHECK(key.end <= key.tokens);
  return {.is_good = true, .hashes = {reader.hashes().begin(), reader.hashes().end()}};
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  const std::size_t piece = input.take<std::uint8_t>();
  wire::HashMemo memo{{.bytes_max = 20'000, .chunk_tokens = kChunkTokens, .seed = 1}};
  wire::ChunkHasher hasher{kChunkTokens};
  wire::KeyReader reader{memo, hasher};
  const Outcome first = read(reader, input.rest(), piece);
  const Outcome again = read(reader, input.rest(), 1'000'000);
  LARDER_CHECK(first.is_good == again.is_good && first.hashes == again.hashes);
  memo.check_invariants();
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const auto form : {wire::TokenForm::kIds, wire::TokenForm::kBytes}) {
    wire::KeySample key;
    key.form = form;
    key.tokens.resize(70);
    std::iota(key.tokens.begin(), key.tokens.end(), 65'500U);
    key.end = 64;
    key.salt = "tenant";
    all.push_back(seed(20, wire::make_key(key)));
  }
  return all;
}

}  // namespace larder::fuzz
