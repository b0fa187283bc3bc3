#include <memory>
#include <optional>
#include <string>

#include "larder/connectors/builtin.h"
#include "tests/conformance/subjects.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::conformance {
namespace {

/// The servers of all subjects, each started at its first use so that listing the tests starts
/// none.
struct Servers {
  std::unique_ptr<testing::TemporaryDirectory> certificates;
  std::unique_ptr<testing::RedisServer> server;
};

constexpr const char* kPassword = "a pass:word/with@everything";

SetupResult<std::shared_ptr<Servers>> start_servers(const std::string& program) {
  auto servers = std::make_shared<Servers>();
  servers->certificates = std::make_unique<testing::TemporaryDirectory>();
  LARDER_TRY(testing::make_certificates(servers->certificates->path()));
  testing::RedisServerOptions options;
  options.program = program;
  options.password = kPassword;
  options.has_tls = true;
  options.certificates = servers->certificates->path();
  LARDER_ASSIGN(servers->server, testing::RedisServer::create(options));
  return servers;
}

using ServersMaker = std::function<SetupResult<std::shared_ptr<Servers>>()>;
/// The spec's beginning up to '?' and what must follow it.
using SpecMaker = std::function<std::string(const Servers&)>;

ServersMaker once(std::string program) {
  auto made = std::make_shared<std::optional<SetupResult<std::shared_ptr<Servers>>>>();
  return [made, program = std::move(program)] {
    if (!*made) *made = start_servers(program);
    return **made;
  };
}

Subject resp_subject(std::string name, const ServersMaker& servers, const SpecMaker& spec) {
  const auto open_with = [servers, spec](std::string parameters) -> Open {
    return [servers, spec,
            parameters = std::move(parameters)]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Servers> at, servers());
      if (at->server->command({"FLUSHALL"}) != "OK") {
        return SetupError{ErrorCode::kInternal, "the server does not answer FLUSHALL"};
      }
      return builtin_registry().open(spec(*at) + parameters);
    };
  };
  const std::string password = "&username=default&password=a%20pass:word/with@everything";
  Subject subject;
  subject.name = std::move(name);
  subject.open = open_with("connections=4" + password);
  subject.open_small = open_with("max_capacity_gb=0.001" + password);
  subject.open_limited = open_with("batches_max=" + std::to_string(kLimitedBatches) +
                                   "&in_flight=" + std::to_string(kLimitedBytes) + password);
  return subject;
}

}  // namespace

std::vector<Subject> resp_subjects() {
  const ServersMaker redis = once("redis-server");
  const auto tcp = [](const Servers& at) {
    return "redis://127.0.0.1:" + std::to_string(at.server->port()) + "?";
  };
  std::vector<Subject> subjects;
  subjects.push_back(resp_subject("resp_tcp", redis, tcp));
  subjects.push_back(resp_subject("resp_unix", redis, [](const Servers& at) {
    return "unix:" + at.server->socket_path() + "?prefix=larder/&database=3&ttl=1h&pipeline=1MiB&";
  }));
  subjects.push_back(resp_subject("resp_tls", redis, [](const Servers& at) {
    return "rediss://localhost:" + std::to_string(at.server->tls_port()) +
           "?tls_ca=" + at.certificates->path() +
           "/ca.pem&tls_certificate=" + at.certificates->path() +
           "/client.pem&tls_key=" + at.certificates->path() + "/client.key&";
  }));
  if (std::system("command -v valkey-server >/dev/null 2>&1") == 0) {
    subjects.push_back(resp_subject("resp_valkey", once("valkey-server"), tcp));
  }
  return subjects;
}

}  // namespace larder::conformance
