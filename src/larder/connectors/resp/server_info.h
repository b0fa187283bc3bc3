#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/connector/report.h"

namespace larder::resp {

/// A server's statements about itself in its INFO reply.
struct ServerInfo {
  std::string kind;     ///< "redis", "valkey", or what else it calls itself.
  std::string version;  ///< "7.0.15"
  std::string role;     ///< "master", "slave"
  std::string maxmemory_policy;
  std::uint64_t used_memory_bytes = 0;
  std::uint64_t maxmemory_bytes = 0;  ///< 0: none set.
  std::uint64_t evicted_keys = 0;     ///< Since the server started.
  std::uint64_t expired_keys = 0;     ///< The same.
  std::string run_id;                 ///< Another id: another start, or another server.
  bool has_keyspace = false;          ///< It reported the number of keys in its databases.
  std::uint64_t database_keys = 0;    ///< Keys in the database that was asked for.
  bool is_known = false;

  /// Takes over the fields in `text`; sections may come one by one. Lines that it does not know, or
  /// cannot read, are left out. Keys are counted in database number `database`.
  void read(std::string_view text, std::uint32_t database = 0);
  /// Whether keys may have been lost since `before`, of the same server or another one.
  bool may_have_lost(const ServerInfo& before) const noexcept;

  /// Warnings for the operator: it refuses writes, it evicts.
  void append_health(Report& report) const;
  /// Properties and counters.
  void append_report(Report& report) const;
};

}  // namespace larder::resp
