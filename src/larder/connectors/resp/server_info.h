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
  std::uint64_t expired_keys = 0;     ///< The same.
  std::string run_id;                 ///< Another one: another start, or another server.
  bool has_keyspace = false;          ///< It told how many keys its databases have.
  std::uint64_t database_keys = 0;    ///< In the database that was asked for.
  bool is_known = false;

  /// Takes over what `text` has; sections may come one by one. Lines that it does not know, or
  /// cannot read, are left out. Keys are counted in database number `database`.
  void read(std::string_view text, std::uint32_t database = 0);
  /// Whether keys may have gone since `before`, the same server's or another one's.
  bool may_have_lost(const ServerInfo& before) const noexcept;

  /// What a person should know: that it refuses writes, that it evicts.
  void append_health(Report& report) const;
  /// Properties and counters.
  void append_report(Report& report) const;
};

}  // namespace larder::resp
