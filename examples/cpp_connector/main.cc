// Opens one of the two example connectors by its spec, stores a value and loads it again:
//   larder_example_connectors map:
//   larder_example_connectors shelf:/data/shelf
#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include "examples/cpp_connector/map_connector.h"
#include "examples/cpp_connector/shelf_connector.h"
#include "larder/base/key_text.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/registry.h"

namespace {

int fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace larder;
  Registry registry;
  registry.add(example::map_connector_type());
  registry.add(example::shelf_connector_type());

  const auto connector = registry.open(argc > 1 ? argv[1] : "map:");
  if (!connector) return fail(connector.error().text);

  BlockingClient client{**connector};
  const std::string value = "the KV cache of a chunk";
  const auto stored = client.set("chunk-1", std::as_bytes(std::span{value}));
  if (!stored) return fail(stored.error().to_string());
  const auto loaded = client.get("chunk-1");
  if (!loaded) return fail(loaded.error().to_string());
  if (!loaded->has_value() || as_text(**loaded) != value) return fail("the value is not there");

  const Report report = (*connector)->report();
  std::printf("%s: %s, %llu keys, %llu bytes\n", report.type.c_str(),
              name_of(report.health).c_str(), static_cast<unsigned long long>(report.keys),
              static_cast<unsigned long long>(report.bytes_used));
  return 0;
}
