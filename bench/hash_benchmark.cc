// What a checksum costs: the library's XXH3-128 alone, and ours as the stores use it (streaming,
// piece by piece), over the same bytes: once in the cache, once from memory.
//
//   larder_hash_benchmark --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true

#include <benchmark/benchmark.h>
#include <xxh_x86dispatch.h>
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/base/check.h"
#include "larder/base/hash.h"

namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;  // A transfer of the log store.

std::span<std::byte> memory(std::size_t bytes) {
  static larder::AlignedBuffer buffer;
  if (buffer.size() != bytes) {
    auto made = larder::AlignedBuffer::create(bytes, 4096);
    LARDER_CHECK(made);
    buffer = std::move(*made);
    for (std::size_t i = 0; i < bytes; ++i) buffer.data()[i] = static_cast<std::byte>(i * 31);
  }
  return buffer.span();
}

void report_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void library_alone(benchmark::State& state) {
  const auto bytes = memory(static_cast<std::size_t>(state.range(0)));
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(XXH3_128bits_dispatch(bytes.data(), bytes.size()));
  }
  report_bytes(state);
}

void ours_streaming(benchmark::State& state) {
  const auto bytes = memory(static_cast<std::size_t>(state.range(0)));
  larder::StreamingHash128 hash;
  while (state.KeepRunning()) {
    hash.reset();
    for (auto rest = bytes; !rest.empty();) {
      const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
      hash.update(piece);
      rest = rest.subspan(piece.size());
    }
    benchmark::DoNotOptimize(hash.digest());
  }
  report_bytes(state);
}

BENCHMARK(library_alone)->Arg(64 << 10)->Arg(1 << 20)->Arg(4 << 20)->Arg(256 << 20);
BENCHMARK(ours_streaming)->Arg(64 << 10)->Arg(1 << 20)->Arg(4 << 20)->Arg(256 << 20);

}  // namespace

BENCHMARK_MAIN();
