// Between libFuzzer and a target. `TARGET --write-seeds=DIRECTORY` writes the seed corpus and ends.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz_target.h"

namespace {

int write_seeds(const std::string& directory) {
  int number = 0;
  for (const larder::fuzz::Bytes& seed : larder::fuzz::seeds()) {
    std::ofstream out{directory + "/seed-" + std::to_string(number++), std::ios::binary};
    out.write(reinterpret_cast<const char*>(seed.data()),
              static_cast<std::streamsize>(seed.size()));
    out.close();
    if (!out) {
      std::fprintf(stderr, "cannot write seeds to %s\n", directory.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are libFuzzer's.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  constexpr std::string_view kWriteSeeds = "--write-seeds=";
  for (int i = 1; i < *count; ++i) {
    const std::string_view argument = (*arguments)[i];
    if (argument.starts_with(kWriteSeeds)) {
      std::exit(write_seeds(std::string{argument.substr(kWriteSeeds.size())}));
    }
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  larder::fuzz::run(std::as_bytes(std::span{data, bytes}));
  return 0;
}
// NOLINTEND(readability-identifier-naming)
