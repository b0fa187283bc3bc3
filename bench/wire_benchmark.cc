// What the server's wire work costs: the hash chain over the tokens of a long prompt.
//
//   larder_wire_benchmark --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/blake3.h"
#include "larder/wire/chunk_hash.h"

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

}  // namespace

int main(int count, char** arguments) {
  for (const auto& implementation : wire::blake3_implementations()) {
    const std::string name = "chain_128k/" + std::string{implementation.name};
    benchmark::RegisterBenchmark(name.c_str(), chain, implementation)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
