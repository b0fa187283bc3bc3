#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/connector/report.h"

namespace larder::resp {

/// What a server tells of itself in its INFO reply.
struct ServerInfo {
  std::string kind;     ///< "redis", "valkey", or what else it calls itself.
  std::string version;  ///< "7.0.15"
  std::string role;     ///< "master", "slave"
  std::string maxmemory_policy;
  std::uint64_t used_memory_bytes = 0;
  std::uint64_t maxmemory_bytes = 0;  ///< 0: none set.
  std::uint64_t evicted_keys = 0;     ///< Since the server started.
  bool is_known = false;

  /// Takes over what `text` has; sections may come one by one. Lines that it does not know, or
  /// cannot read, are left out.
  void read(std::string_view text);

  /// Properties, counters, and what a person should know: that it refuses writes, that it evicts.
  void append_report(Report& report) const;
};

}  // namespace larder::resp
