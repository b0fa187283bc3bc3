#pragma once

#include <atomic>
#include <string>

#include "larder/base/result.h"

namespace larder::tools {

struct FormatOptions {
  std::string target;         ///< A `log:` spec, or a directory, which needs a capacity.
  std::string capacity;       ///< As in a spec; only with a directory.
  bool is_forced = false;     ///< Replaces an existing store, and tolerates foreign files.
  bool is_prefilled = false;  ///< Every segment is made and written once.
  bool is_json = false;
  bool is_quiet = false;  ///< No progress.
};

/// Makes a log store ahead of its first use. Returns a description of the new store, as text or
/// JSON.
SetupResult<std::string> format_store(const FormatOptions& options,
                                      const std::atomic<bool>& is_stop_requested);

}  // namespace larder::tools
