// Specs as URL and JSON, and the parameter tables of all connectors behind them. Nothing is opened.
#include "larder/connector/spec.h"
#include "larder/connectors/builtin.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {

void run(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  auto spec = Spec::parse(text);
  if (!spec) {
    LARDER_CHECK(!spec.error().text.empty() && spec.error().code != ErrorCode::kNone);
    return;
  }
  LARDER_CHECK(!spec->type().empty());
  const auto from_url = Spec::parse(spec->to_url());
  LARDER_CHECK(from_url.has_value() && *from_url == *spec);
  const auto from_json = Spec::parse(spec->to_json());
  LARDER_CHECK(from_json.has_value() && *from_json == *spec);

  const ConnectorType* const type = builtin_registry().find(spec->type());
  if (type == nullptr || !spec->rename_location(type->location_parameter)) return;
  const auto parameters = Parameters::parse(*spec, type->parameters);
  LARDER_CHECK(parameters.has_value() || !parameters.error().text.empty());
  if (!parameters) return;
  for (const Parameter& row : type->parameters) {
    LARDER_CHECK(parameters->has(row.name) || !row.is_required);
  }
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const ConnectorType* const type : builtin_registry().types()) {
    all.push_back(to_bytes(type->example));
    const auto spec = Spec::parse(type->example);
    if (spec) all.push_back(to_bytes(spec->to_json()));
  }
  for (const std::string_view text :
       {"log:/data/k%20v?capacity=200GiB&sync=batch&direct=no", "memory:?capacity=1.5GiB",
        R"({"type":"log","path":"/kv","capacity":1073741824,"delete_sync":true,"depth":64})",
        R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"error_rate":0.1,"seed":7})",
        R"({"type":"fault","inner":"fault:?inner=fault%3A%3Finner%3Dmemory%253A"})",
        "fault:?inner=memory:%3Fcapacity=1GiB&error_rate=10%25",
        "{\"type\":\"log\",\"path\":\"\\u00e9\"}"}) {
    all.push_back(to_bytes(text));
  }
  return all;
}

}  // namespace larder::fuzz
