#include "larder/wire/dtype.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "larder/base/nearest_name.h"

namespace larder::wire {
namespace {

struct Dtype {
  std::string_view name;
  std::size_t bytes;
};

constexpr Dtype kDtypes[] = {
    {"bool", 1},
    {"uint8", 1},
    {"int8", 1},
    {"uint16", 2},
    {"int16", 2},
    {"uint32", 4},
    {"int32", 4},
    {"uint64", 8},
    {"int64", 8},
    {"float16", 2},
    {"bfloat16", 2},
    {"float32", 4},
    {"float64", 8},
    {"float8_e4m3fn", 1},
    {"float8_e5m2", 1},
    {"float8_e4m3fnuz", 1},
    {"float8_e5m2fnuz", 1},
    {"float8_e8m0fnu", 1},
};

}  // namespace

std::optional<std::size_t> dtype_bytes(std::string_view name) noexcept {
  const auto* found = std::ranges::find(kDtypes, name, &Dtype::name);
  if (found == std::end(kDtypes)) return std::nullopt;
  return found->bytes;
}

std::string_view nearest_dtype(std::string_view name) {
  constexpr std::string_view kTorch = "torch.";
  if (name.starts_with(kTorch)) name.remove_prefix(kTorch.size());
  std::vector<std::string_view> names;
  for (const Dtype& each : kDtypes) names.push_back(each.name);
  return nearest_name(name, names);
}

}  // namespace larder::wire
