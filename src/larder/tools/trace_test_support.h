#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/tools/trace.h"

namespace larder::tools {

/// Requests that share prefixes: so many conversations that grow turn by turn, and begin again.
inline std::vector<TraceRequest> make_conversations(std::size_t count, std::size_t requests,
                                                    std::uint64_t seed) {
  Random random{seed};
  std::vector<std::vector<std::uint64_t>> conversations(count, {0});
  std::uint64_t next_block = 1;
  std::vector<TraceRequest> trace;
  for (std::size_t i = 0; i < requests; ++i) {
    auto& chain = conversations[random.below(conversations.size())];
    if (chain.size() > 30) chain = {0};
    for (std::uint64_t more = 1 + random.below(4); more > 0; --more) chain.push_back(next_block++);
    TraceRequest request;
    request.timestamp_ns = i * 1'000'000;
    request.input_tokens = chain.size() * kDefaultBlockTokens - random.below(kDefaultBlockTokens);
    request.blocks = chain;
    trace.push_back(std::move(request));
  }
  return trace;
}

/// The traces, *.zst, in the directory LARDER_TRACES, by default shared/data/traces of the sources.
/// Without any the test prints SKIPPED.
inline std::set<std::filesystem::path> traces_that_are_there() {
  const char* const named = std::getenv("LARDER_TRACES");
  const std::filesystem::path directory =
      named != nullptr ? named : LARDER_SOURCE_DIR "/shared/data/traces";
  std::set<std::filesystem::path> paths;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{directory, none}) {
    if (entry.path().extension() == ".zst") paths.insert(entry.path());
  }
  return paths;
}

}  // namespace larder::tools
