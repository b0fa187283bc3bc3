// What the server's wire work costs: the hash chain over the tokens of a long prompt, and reading
// its key with and without a memo that knows it.
//
//   larder_wire_benchmark --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "larder/base/check.h"
#include "larder/base/random.h"
#include "larder/wire/blake3.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/key.h"
#include "larder/wire/wire_test_support.h"

namespace {

namespace wire = larder::wire;

constexpr std::size_t kTokens = std::size_t{128} << 10;
constexpr std::uint32_t kChunkTokens = 256;

/// The chain over 128 k packed tokens, by one implementation.
void chain(benchmark::State& state, const wire::Blake3Implementation& implementation) {
  std::vector<std::byte> tokens(kTokens * wire::kTokenBytes);
  larder::Random{1}.fill(tokens);
  constexpr std::size_t kChunkBytes = kChunkTokens * wire::kTokenBytes;
  std::array<std::byte, sizeof(wire::ChunkHash) + kChunkBytes> input;
  while (state.KeepRunning()) {
    wire::ChunkHash hash = wire::no_chunk_hash();
    for (std::size_t at = 0; at < tokens.size(); at += kChunkBytes) {
      std::memcpy(input.data(), hash.data(), hash.size());
      std::memcpy(input.data() + hash.size(), tokens.data() + at, kChunkBytes);
      hash = implementation.hash(input);
    }
    benchmark::DoNotOptimize(hash);
  }
}

wire::KeySample prompt(wire::TokenForm form) {
  larder::Random random{2};
  wire::KeySample key;
  key.form = form;
  key.tokens.resize(kTokens);
  for (auto& token : key.tokens) token = static_cast<std::uint32_t>(random.below(128'000));
  key.end = kTokens;
  return key;
}

/// A key of 128 k tokens: never seen before (no memo), or known to a memo.
void key(benchmark::State& state, wire::TokenForm form, bool is_known) {
  const wire::Bytes frame = wire::make_key(prompt(form));
  wire::HashMemo memo{
      {.bytes_max = is_known ? std::size_t{64} << 20 : 0, .chunk_tokens = kChunkTokens, .seed = 1}};
  wire::ChunkHasher hasher{kChunkTokens};
  wire::KeyReader reader{memo, hasher};
  const auto read = [&] {
    reader.start(frame);
    while (reader.advance(kTokens) == wire::KeyReader::State::kMore) {
    }
    LARDER_CHECK(reader.state() == wire::KeyReader::State::kDone);
  };
  read();
  while (state.KeepRunning()) read();
  LARDER_CHECK((reader.known_chunks() == kTokens / kChunkTokens) == is_known);
}

/// The decoding of the tokens alone.
void unpack(benchmark::State& state) {
  const wire::KeySample sample = prompt(wire::TokenForm::kIds);
  wire::Bytes encoded;
  wire::MsgpackWriter writer{encoded};
  for (const std::uint32_t token : sample.tokens) writer.integer(token);
  wire::Bytes packed(kTokens * wire::kTokenBytes);
  while (state.KeepRunning()) benchmark::DoNotOptimize(wire::unpack_ids(encoded, packed));
}

}  // namespace

int main(int count, char** arguments) {
  for (const auto& implementation : wire::blake3_implementations()) {
    const std::string name = "chain_128k/" + std::string{implementation.name};
    benchmark::RegisterBenchmark(name.c_str(), chain, implementation)
        ->Unit(benchmark::kMicrosecond);
  }
  for (const auto form : {wire::TokenForm::kIds, wire::TokenForm::kBytes}) {
    for (const bool is_known : {false, true}) {
      const std::string name = std::string{"key_128k/"} +
                               (form == wire::TokenForm::kIds ? "ids/" : "bytes/") +
                               (is_known ? "known" : "new");
      benchmark::RegisterBenchmark(name.c_str(), key, form, is_known)
          ->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RegisterBenchmark("unpack_128k", unpack)->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
