#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder::tools {

/// The request of `larder inspect`, for a log store that no process has open.
enum class InspectMode : std::uint8_t {
  kSummary = 1,  ///< Geometry, space, histograms, the map of generations.
  kList,         ///< Keys, oldest place first.
  kCount,        ///< How many keys there are.
  kDump,         ///< One value.
};

struct InspectOptions {
  std::string directory;
  InspectMode mode = InspectMode::kSummary;
  std::string prefix;                       ///< List and count: of the keys, as bytes.
  std::uint64_t limit = ~std::uint64_t{0};  ///< List: at most so many.
  std::string key;                          ///< Dump: as bytes.
  bool is_verified = false;                 ///< Summary: every live record is read and proven.
  bool is_json = false;
  bool is_quiet = false;  ///< No progress.
};

/// Output of text, piece by piece, because a list may be longer than memory; false: stop.
using TextSink = std::function<bool(std::string_view)>;

/// Looks at the store without changing it. The result goes to `out`; damage is part of a summary,
/// and otherwise goes to `errors` as lines.
///
/// True: all is well. False: something is damaged, or the next open would not be healthy.
SetupResult<bool> inspect(const InspectOptions& options, const TextSink& out,
                          const TextSink& errors, const std::atomic<bool>& is_stop_requested);

}  // namespace larder::tools
