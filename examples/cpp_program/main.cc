// A program of your own that uses larder's connectors: opens a store, stores a value, loads it.

#include <cstdio>
#include <cstring>
#include <span>
#include <string>

#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"

int main(int argc, char** argv) {
  const std::string spec = argc > 1 ? argv[1] : "memory:?capacity=64MiB";
  auto opened = larder::builtin_registry().open(spec);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().text.c_str());
    return 1;
  }
  larder::BlockingClient client{**opened};
  const std::string value = "the KV cache of a chunk";
  const auto stored = client.set("chunk-1", std::as_bytes(std::span{value}));
  if (!stored) {
    std::fprintf(stderr, "%s\n", stored.error().to_string().c_str());
    return 1;
  }
  const auto loaded = client.get("chunk-1");
  const bool is_same = loaded && *loaded && (*loaded)->size() == value.size() &&
                       std::memcmp((*loaded)->data(), value.data(), value.size()) == 0;
  std::printf("%s: %s\n", (*opened)->report().type.c_str(), is_same ? "loaded" : "not loaded");
  const auto stopped = (*opened)->stop(larder::kNever);
  return is_same && stopped ? 0 : 1;
}
