#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "larder/base/logging.h"
#include "larder/connectors/builtin.h"
#include "tests/faults/fault_client.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/loop_mount.h"

/// Skips the test where what it needs cannot be had; fails it where it can and did not come.
#define LARDER_SKIP_IF_IMPOSSIBLE(result)                                          \
  do {                                                                             \
    if (!(result) && (result).error().code == ::larder::ErrorCode::kUnimplemented) \
      GTEST_SKIP() << "SKIPPED (" << (result).error().text << ")";                 \
    ASSERT_TRUE((result).has_value()) << (result).error().text;                    \
  } while (false)

namespace larder::faults {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

/// Opens stores in a directory that a fixture has made.
inline std::unique_ptr<FaultClient> open_store(const std::string& spec, std::size_t value_bytes) {
  auto connector = builtin_registry().open(spec);
  if (!connector) {
    ADD_FAILURE() << connector.error().text;
    return nullptr;
  }
  return std::make_unique<FaultClient>(std::move(*connector), value_bytes);
}

}  // namespace larder::faults
