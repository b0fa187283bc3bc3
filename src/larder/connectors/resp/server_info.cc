#include "larder/connectors/resp/server_info.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "larder/base/size_text.h"

namespace larder::resp {
namespace {

constexpr std::size_t kTextBytesMax = 64;
/// From this share of maxmemory on a server without eviction will soon refuse writes.
constexpr double kNearlyFull = 0.95;

/// Keeps only what is printable and short of a server's text.
std::string tame(std::string_view text) {
  std::string tamed;
  for (const char c : text.substr(0, kTextBytesMax)) {
    tamed += std::isprint(static_cast<unsigned char>(c)) != 0 ? c : '?';
  }
  return tamed;
}

void read_number(std::string_view text, std::uint64_t& number) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) number = value;
}

}  // namespace

void ServerInfo::read(std::string_view text, std::uint32_t database) {
  const std::string database_name = "db" + std::to_string(database);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    has_keyspace = has_keyspace || line == "# Keyspace";
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = line.substr(colon + 1);
    // Valkey tells redis_version too, for its age's sake, before its own.
    if (name == "redis_version" && version.empty()) {
      kind = "redis";
      version = tame(value);
    } else if (name == "server_name") {
      kind = tame(value);
    } else if (name == "valkey_version") {
      kind = "valkey";
      version = tame(value);
    } else if (name == "role") {
      role = tame(value);
    } else if (name == "maxmemory_policy") {
      maxmemory_policy = tame(value);
    } else if (name == "used_memory") {
      read_number(value, used_memory_bytes);
    } else if (name == "maxmemory") {
      read_number(value, maxmemory_bytes);
    } else if (name == "evicted_keys") {
      read_number(value, evicted_keys);
    } else if (name == "expired_keys") {
      read_number(value, expired_keys);
    } else if (name == "run_id") {
      run_id = tame(value);
    } else if (name == database_name && value.starts_with("keys=")) {
      read_number(value.substr(5, value.find(',') - 5), database_keys);
    } else {
      continue;
    }
    is_known = true;
  }
}

bool ServerInfo::may_have_lost(const ServerInfo& before) const noexcept {
  if (!before.is_known) return false;
  return run_id != before.run_id || evicted_keys != before.evicted_keys ||
         expired_keys != before.expired_keys || database_keys < before.database_keys;
}

void ServerInfo::append_report(Report& report) const {
  if (!is_known) return;
  report.properties.push_back({"server", kind});
  report.properties.push_back({"server_version", version});
  if (!role.empty()) report.properties.push_back({"server_role", role});
  report.properties.push_back({"maxmemory_policy", maxmemory_policy});
  report.counters.push_back({"server_used_memory_bytes", used_memory_bytes});
  report.counters.push_back({"server_maxmemory_bytes", maxmemory_bytes});
  report.counters.push_back({"server_evicted_keys", evicted_keys});
  report.counters.push_back({"server_expired_keys", expired_keys});
  if (has_keyspace) report.counters.push_back({"server_keys", database_keys});
}

void ServerInfo::append_health(Report& report) const {
  if (!is_known || maxmemory_bytes == 0) return;
  const std::string limit = format_bytes(maxmemory_bytes);
  if (maxmemory_policy != "noeviction") {
    report.reasons.push_back("the server evicts keys by itself (maxmemory-policy " +
                             maxmemory_policy + ") when it has reached its maxmemory of " + limit);
  } else if (static_cast<double>(used_memory_bytes) >=
             kNearlyFull * static_cast<double>(maxmemory_bytes)) {
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.push_back("the server uses " + format_bytes(used_memory_bytes) +
                             " of its maxmemory of " + limit +
                             " and evicts nothing (maxmemory-policy noeviction): it refuses "
                             "stores; raise maxmemory or set maxmemory-policy allkeys-lru");
  }
}

}  // namespace larder::resp
