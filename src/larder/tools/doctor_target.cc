// The doctor's target: a directory, or the one that a spec names.
#include <algorithm>
#include <string>

#include "larder/base/clock.h"
#include "larder/base/size_text.h"
#include "larder/base/system_files.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "larder/connectors/fs/fs_connector.h"
#include "larder/connectors/log/log_connector.h"
#include "larder/tools/doctor.h"
#include "larder/tools/open_rehearsal.h"
#include "larder/tools/target.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kServerPatienceNs = 5'000'000'000;

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : "; ") + text;
  return all;
}

/// redis-cli's words for an address of a report: "host:6379", "[::1]:6379", "/run/redis.sock".
std::string ping_of(const std::string& where) {
  if (where.starts_with('/')) return "redis-cli -s " + shell_word(where) + " ping";
  const std::size_t colon = where.rfind(':');
  if (colon == std::string::npos) return {};
  std::string host = where.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return "redis-cli -h " + shell_word(host) + " -p " + shell_word(where.substr(colon + 1)) +
         " ping";
}

/// Connects and asks for a key. Stores nothing.
SetupResult<std::vector<Finding>> examine_server(const std::string& spec) {
  LARDER_ASSIGN(const std::unique_ptr<Connector> connector, builtin_registry().open(spec));
  BlockingClient client{*connector, kServerPatienceNs};
  const auto asked = client.exists("larder-doctor");
  const Report report = connector->report();
  connector->stop(RealClock::instance().now_ns() + kServerPatienceNs)
      .ignore("nothing was stored, and the process ends");
  Finding finding{.name = "server",
                  .what = report.where + " answers",
                  .why = "a server that does not answer costs hits, and nothing else"};
  for (const auto& [name, value] : report.properties) finding.what += ", " + name + " " + value;
  if (!asked) {
    finding.level = FindingLevel::kProblem;
    finding.what = report.where + ": " + asked.error().to_string();
  } else if (report.health == Health::kDown) {  // Then a lookup is a miss.
    finding.level = FindingLevel::kProblem;
    finding.what = report.where + ": no answer";
  } else if (report.health != Health::kHealthy) {
    finding.level = FindingLevel::kWarning;
  }
  if (!report.reasons.empty()) finding.what += ": " + joined(report.reasons);
  if (finding.level != FindingLevel::kGood) {
    finding.mend = ping_of(report.where);
    finding.note = "docs/resp.md says what each answer of a server means, and what to do";
  }
  return std::vector<Finding>{std::move(finding)};
}

Finding examine_memory(const Parameters& parameters) {
  const std::uint64_t capacity = parameters.bytes("capacity");
  const std::string info = read_small_file("/proc/meminfo");
  const std::size_t at = info.find("MemAvailable:");
  const std::uint64_t available = at == std::string::npos
                                      ? ~std::uint64_t{0}
                                      : std::strtoull(info.c_str() + at + 13, nullptr, 10) << 10;
  Finding finding{.name = "memory",
                  .what = "capacity=" + format_bytes_exact(capacity) + " of " +
                          format_bytes(available) + " that are free",
                  .why =
                      "values are kept in this machine's memory, and a process that takes more is "
                      "killed"};
  if (capacity > available) {
    finding.level = FindingLevel::kProblem;
    finding.mend = "free -h";
    finding.note = "choose a smaller capacity";
  }
  return finding;
}

SetupResult<DirectoryRequest> request_of(const ReadSpec& read) {
  const Parameters& parameters = read.parameters;
  DirectoryRequest request;
  request.is_made = parameters.flag("create");
  if (read.type == &log_store::connector_type()) {
    request.directory = parameters.text("path");
    if (parameters.has("capacity")) request.capacity_bytes = parameters.bytes("capacity");
    request.min_free_bytes = parameters.bytes("min_free");
    return request;
  }
  request.directory = parameters.text("base_path");
  request.kind = StoreKind::kFiles;
  LARDER_ASSIGN(const fs::FsOptions options, fs::read_options(parameters));
  request.capacity_bytes = options.capacity_bytes;
  request.min_free_bytes = request.capacity_bytes > 0 ? parameters.bytes("min_free") : 0;
  return request;
}

/// The errors of an open of the spec about its sizes.
Finding examine_opening(const ReadSpec& read) {
  Finding finding{.name = "spec",
                  .what = "an open would take it",
                  .why = "asked of the code that opens a store; nothing was made"};
  const auto limits = rehearse_open(read);
  if (!limits) {
    finding.what = limits.error().text;
    const bool is_in_use = limits.error().code == ErrorCode::kUnavailable;
    finding.level = is_in_use ? FindingLevel::kWarning : FindingLevel::kProblem;
    finding.why = "an open of this spec says so, too";
  } else if (*limits) {
    finding.what += ", with values of up to " + format_bytes_exact((*limits)->value_bytes_max);
    if ((*limits)->segments > 0) {
      finding.what += " in " + format_count((*limits)->segments, "segment") + " of " +
                      format_bytes_exact((*limits)->segment_bytes);
    }
  }
  return finding;
}

}  // namespace

SetupResult<std::vector<Finding>> examine(const std::string& target) {
  if (target.empty()) return diagnose(gather_facts(std::nullopt));
  if (!is_spec(target)) {
    LARDER_ASSIGN(const std::string directory, expand_home(target));
    return diagnose(gather_facts(DirectoryRequest{.directory = directory}));
  }
  LARDER_ASSIGN(const ReadSpec read, read_spec(target));
  const std::string_view type = read.type->name;
  if (type == "log" || type == "fs" || type == "fs_native") {
    LARDER_ASSIGN(const DirectoryRequest request, request_of(read));
    const MachineFacts facts = gather_facts(request);
    std::vector<Finding> findings = diagnose(facts);
    // If the directory cannot hold a store at all, that is reported already.
    const bool can_hold_store = is_healthy(diagnose_directory(facts, *facts.directory));
    if (can_hold_store) findings.push_back(examine_opening(read));
    return findings;
  }
  if (type == "memory") {
    std::vector<Finding> findings = diagnose(gather_facts(std::nullopt));
    findings.push_back(examine_memory(read.parameters));
    return findings;
  }
  // All names of a server's type have one table.
  const ConnectorType* const resp = builtin_registry().find("resp");
  if (read.type->parameters.data() == resp->parameters.data()) {
    return examine_server(target);
  }
  return SetupError{
      ErrorCode::kInvalidArgument,
      "doctor: '" + std::string{type} +
          "' has no directory and no server of its own to look at; name the connector "
          "that keeps the values (log:, fs:, redis:, memory:)"};
}

}  // namespace larder::tools
