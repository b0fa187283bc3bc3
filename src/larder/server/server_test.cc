#include "larder/server/server.h"

#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "larder/connectors/builtin.h"
#include "larder/server/pool.h"
#include "larder/server/router_test_support.h"
#include "larder/server/server_test_support.h"
#include "tests/support/eventually.h"
#include "tests/support/notify_socket.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

using larder::testing::eventually;
using larder::testing::NotifySocket;
using larder::testing::TemporaryDirectory;
using nlohmann::json;
using testing::Dealer;
using testing::Frames;

std::atomic<bool> stop_asked = false;
int wake_fd = -1;

extern "C" void ask_to_stop(int /*number*/) {
  stop_asked.store(true);
  const std::uint64_t one = 1;
  if (::write(wake_fd, &one, sizeof one) < 0) return;
}

L2Adapter adapter_of(const std::string& url) {
  return {.text = url, .shown = url, .spec = Spec::parse(url).value(), .options = {}};
}

/// A server in its own process, on free ports.
class ServerProcess {
 public:
  explicit ServerProcess(const ServerOptions& options, bool has_wake_fd = true) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) ADD_FAILURE();
    words_.reset(ends[0]);
    UniqueFd said{ends[1]};
    pid_ = ::fork();
    if (pid_ == 0) ::_exit(run(options, has_wake_fd, said.get()));
    said.reset();
    std::istringstream first{read_line()};
    first >> port >> http_port >> metrics_port >> pool;
    if (port == 0) error = first.str();
  }
  ~ServerProcess() {
    if (pid_ > 0) kill();
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  ::pid_t pid() const noexcept { return pid_; }
  bool has_pool() const {
    struct ::stat found{};
    return ::lstat(("/dev/shm/" + pool).c_str(), &found) == 0;
  }
  /// By SIGTERM: "<exit code> <cells lost> <bytes lost>".
  std::string terminate() {
    ::kill(pid_, SIGTERM);
    const std::string last = read_line();
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1) + " " + last;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

  std::uint16_t port = 0;
  std::uint16_t http_port = 0;
  std::uint16_t metrics_port = 0;
  std::string pool;
  std::string error;

 private:
  static int run(const ServerOptions& options, bool has_wake_fd, int said) {
    const auto say = [said](const std::string& line) {
      if (::write(said, (line + "\n").c_str(), line.size() + 1) < 0) ::_exit(3);
    };
    wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ::signal(SIGTERM, ask_to_stop);
    const auto report =
        run_server(options, builtin_registry(), stop_asked, has_wake_fd ? wake_fd : -1,
                   [&](const ServerAddress& address) {
                     say(std::to_string(address.port) + " " + std::to_string(address.http_port) +
                         " " + std::to_string(address.metrics_port) + " " + address.pool);
                   });
    if (!report) {
      say("error " + report.error().text);
      return 2;
    }
    say(std::to_string(report->cells_lost) + " " + std::to_string(report->bytes_lost));
    return 0;
  }
  std::string read_line() {
    std::string line;
    for (char c = 0; ::read(words_.get(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }

  UniqueFd words_;
  ::pid_t pid_ = -1;
};

/// A client that waits for its replies.
class Client {
 public:
  explicit Client(std::uint16_t port) : dealer_(port) {}

  /// The payload in hex, "none", or "timeout".
  std::string ask(wire::Operation operation, std::vector<wire::Bytes> arguments) {
    Frames frames{text_of(number(next_uid_++)),
                  text_of(number(static_cast<std::uint64_t>(operation)))};
    for (const wire::Bytes& argument : arguments) frames.push_back(text_of(argument));
    dealer_.send(frames);
    std::optional<Frames> reply;
    if (!eventually([&] { return (reply = dealer_.receive()).has_value(); })) return "timeout";
    return reply->size() < 3 ? "none" : wire::hex(bytes_of(reply->back()));
  }
  std::string ping() { return ask(wire::Operation::kPing, {nil()}); }
  /// LOOKUP, and QUERY until it is known.
  std::string lookup(wire::KeySample sample) {
    sample.worker = -1;
    ask(wire::Operation::kLookup, {make_key(sample), number(1)});
    std::string hit;
    const bool is_known = eventually([&] {
      hit = ask(wire::Operation::kQueryPrefetchStatus, {text(sample.request_id)});
      return hit != "none";
    });
    return is_known ? hit : "timeout";
  }
  void register_worker() { ask(wire::Operation::kRegisterEngineDriven, {make_registration({})}); }
  std::string store(const wire::KeySample& sample) {
    register_worker();
    ask(wire::Operation::kPrepareStore, {make_key(sample), number(7)});
    return ask(wire::Operation::kCommitStore, {make_key(sample), number(7), binary("")});
  }

 private:
  static std::string text_of(const wire::Bytes& bytes) { return std::string{as_text(bytes)}; }
  static wire::Bytes bytes_of(const std::string& text) {
    const auto bytes = std::as_bytes(std::span{text});
    return {bytes.begin(), bytes.end()};
  }

  Dealer dealer_;
  std::uint64_t next_uid_ = 0;
};

wire::KeySample key_of(std::uint32_t prompt, std::uint32_t tokens) {
  wire::KeySample sample;
  sample.request_id = "request-" + std::to_string(prompt);
  sample.tokens = tokens_of(prompt, tokens);
  sample.start = 0;
  sample.end = tokens;
  sample.worker = 0;
  return sample;
}

ServerOptions small_options() {
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  options.http_port = 0;
  options.chunk_tokens = 16;
  options.l1_bytes = std::uint64_t{8} << 20;
  options.hash_memory_bytes = 1 << 20;
  return options;
}

constexpr const char* kTrue = "c3";

/// Orphaned helpers become children of the test, so that their end can be waited for.
class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0); }
  void TearDown() override {
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
};

TEST_F(ServerTest, AnswersByZmqAndByHttp) {
  ServerProcess server{small_options()};
  ASSERT_EQ(server.error, "");
  Client client{server.port};
  EXPECT_EQ(client.ping(), kTrue);
  EXPECT_EQ(client.ask(wire::Operation::kGetChunkSize, {}), "10");
  httplib::Client http{"127.0.0.1", server.http_port};
  EXPECT_EQ(http.Get("/healthcheck")->status, 200);
  EXPECT_EQ(json::parse(http.Get("/config")->body)["mp"]["port"], server.port);
  const json status = json::parse(http.Get("/status")->body);
  EXPECT_EQ(status["is_healthy"], true);
  EXPECT_EQ(status["chunk_size"], 16);
  EXPECT_EQ(status["larder"]["connections"], 1);
  EXPECT_EQ(status["storage_manager"]["l1_manager"]["memory_total_bytes"], 8 << 20);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, CarriesOutWhatHttpAsks) {
  ServerOptions options = small_options();
  options.is_admin_open = true;
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  Client client{server.port};
  ASSERT_EQ(client.store(key_of(1, 64)), kTrue);
  httplib::Client http{"127.0.0.1", server.http_port};
  const auto objects = [&] {
    const json status = json::parse(http.Get("/status")->body);
    EXPECT_EQ(status["larder"]["admin_access"], "open");
    return status["storage_manager"]["l1_manager"]["total_object_count"].get<int>();
  };
  EXPECT_EQ(objects(), 4);
  const auto unknown = http.Post("/cache/checksums", R"({"instance_id": 77})", "application/json");
  EXPECT_EQ(unknown->status, 404);
  EXPECT_EQ(json::parse(unknown->body)["detail"], "instance_id 77 not registered");
  EXPECT_EQ(http.Post("/cache/clear", "{}", "application/json")->status, 200);
  EXPECT_EQ(objects(), 0);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, ListsDeletesClearsAndPrefetchesOverHttp) {
  ServerOptions options = small_options();
  options.is_admin_open = true;
  options.l2_adapters = {adapter_of("memory:?capacity=1MiB")};
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  Client client{server.port};
  ASSERT_EQ(client.store(key_of(1, 64)), kTrue);
  httplib::Client http{"127.0.0.1", server.http_port};
  const auto list = [&](const std::string& query = "") {
    return json::parse(http.Get("/cache/objects" + query)->body);
  };
  ASSERT_TRUE(eventually([&] { return list()["entries"].size() == 4; }));
  EXPECT_EQ(list()["adapter"], "memory");
  EXPECT_EQ(list("?model_name=other")["entries"].size(), 0U);

  // Page by page.
  json entries = json::array();
  for (std::string token = "start"; !token.empty();) {
    const json page = list("?page_size=3" + (token == "start" ? "" : "&page_token=" + token));
    for (const json& entry : page["entries"]) entries.push_back(entry);
    token = page["next_page_token"].is_null() ? "" : page["next_page_token"].get<std::string>();
  }
  ASSERT_EQ(entries.size(), 4U);
  EXPECT_EQ(entries[0]["size_bytes"], 1024);
  EXPECT_EQ(entries[0]["key"]["model_name"], "golden/model-1");

  const auto post = [&](const char* path, const json& body) {
    return http.Post(path, body.dump(), "application/json");
  };
  const json keys = {{"keys", {entries[0]["key"]}}, {"tier", "all"}};
  EXPECT_EQ(http.Delete("/cache/objects", keys.dump(), "application/json")->body,
            R"({"deleted":2,"skipped":0,"ok":true})");
  EXPECT_EQ(list()["entries"].size(), 3U);
  EXPECT_EQ(http.Get("/cache/objects?adapter=nope")->status, 404);
  EXPECT_EQ(http.Get("/cache/objects?tier=l1")->status, 400);
  EXPECT_EQ(http.Get("/cache/objects?page_size=9000")->status, 422);
  EXPECT_EQ(http.Get("/cache/objects?page_token=x")->status, 400);

  ASSERT_EQ(client.store(key_of(2, 48)), kTrue);
  ASSERT_TRUE(eventually([&] { return list()["entries"].size() == 6; }));
  EXPECT_EQ(post("/cache/clear", json::object())->status, 200);
  const auto begun =
      post("/cache/prefetches",
           {{"model_name", "golden/model-1"}, {"world_size", 1}, {"token_ids", tokens_of(2, 48)}});
  EXPECT_EQ(begun->status, 202);
  EXPECT_EQ(json::parse(begun->body)["chunks"], 3);
  const std::string path =
      "/cache/prefetches/" + json::parse(begun->body)["request_id"].get<std::string>();
  json told;
  ASSERT_TRUE(eventually([&] {
    told = json::parse(http.Get(path)->body);
    return told["status"] != "pending";
  }));
  EXPECT_EQ(told["status"], "completed");
  EXPECT_EQ(told["found_keys"], 3);
  EXPECT_EQ(told["total_keys"], 3);
  EXPECT_EQ(http.Get(path)->status, 404);
  EXPECT_EQ(post("/cache/prefetches",
                 {{"model_name", "golden/model-1"}, {"world_size", 1}, {"token_ids", {1, 2}}})
                ->body,
            R"({"chunks":0,"status":"noop"})");

  EXPECT_EQ(post("/cache/clear", {{"tier", "all"}})->body,
            R"({"status":"ok","cleared":{"tier":"all"},"deleted":9})");
  EXPECT_EQ(list()["entries"].size(), 0U);
  EXPECT_EQ(client.lookup(key_of(2, 48)), "00");
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, OffersAPoolThatGoesWithIt) {
  for (const bool is_killed : {false, true}) {
    ServerProcess server{small_options()};
    ASSERT_EQ(server.error, "");
    EXPECT_TRUE(server.pool.starts_with("lmcache_l1_pool_larder_")) << server.pool;
    EXPECT_TRUE(server.has_pool());
    if (is_killed) {
      server.kill();
    } else {
      EXPECT_EQ(server.terminate(), "0 0 0");
    }
    while (::waitpid(-1, nullptr, 0) > 0) {  // The helper.
    }
    EXPECT_FALSE(server.has_pool());
  }
}

TEST_F(ServerTest, DoesWithoutAPoolAndWithoutHttp) {
  ServerOptions options = small_options();
  options.has_pool = false;
  options.has_http = false;
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(server.pool, "");
  EXPECT_EQ(server.http_port, 0);
  EXPECT_EQ(Client{server.port}.ping(), kTrue);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, ServesMetricsAloneWhereItServesNoHttp) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.has_http = false;
  options.metrics_port = 0;
  options.l2_adapters.push_back(adapter_of("fs:" + directory.path() + "/a"));
  options.l2_adapters.push_back(adapter_of("fs:" + directory.path() + "/b"));
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(server.http_port, 0);
  const wire::KeySample sample = key_of(1, 64);
  Client client{server.port};
  ASSERT_EQ(client.store(sample), kTrue);
  EXPECT_EQ(client.lookup(sample), "04");
  httplib::Client http{"127.0.0.1", server.metrics_port};
  std::string text;
  const bool has_stored = eventually([&] {
    text = http.Get("/metrics")->body;
    return text.find("\nlarder_engine_tier_objects_stored_total{tier=\"fs#2\"} 4\n") !=
           std::string::npos;
  });
  EXPECT_TRUE(has_stored) << text;
  const std::string labels = R"(cache_salt="",model_name=")" + sample.model + '"';
  for (const std::string& line :
       {"larder_engine_lookup_tokens_total{" + labels + "} 64",
        "larder_engine_hit_tokens_total{" + labels + R"(,source="l1"} 64)",
        std::string{R"(larder_engine_hit_rate{window="1m",source="l1"} 1)"},
        std::string{R"(larder_server_requests_total{operation="lookup"} 1)"},
        std::string{R"(larder_server_tier_health{tier="fs"} 0)"},
        std::string{"larder_engine_stall_seconds 0"}, std::string{"larder_server_connections 1"}}) {
    EXPECT_NE(text.find("\n" + line + "\n"), std::string::npos) << line;
  }
  EXPECT_NE(text.find("\nlarder_bytes_stored_total{type=\"fs\",where="), std::string::npos);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, StopsWithoutAWakeFd) {
  ServerProcess server{small_options(), false};
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(Client{server.port}.ping(), kTrue);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, StoresWhatIsWantedBeforeItEnds) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.l2_adapters.push_back(adapter_of("fs:" + directory.path()));
  const wire::KeySample sample = key_of(1, 64);
  {
    ServerProcess server{options};
    ASSERT_EQ(server.error, "");
    Client client{server.port};
    ASSERT_EQ(client.store(sample), kTrue);
    EXPECT_EQ(client.lookup(sample), "04");
    EXPECT_EQ(server.terminate(), "0 0 0");
  }
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  Client client{server.port};
  client.register_worker();
  EXPECT_EQ(client.lookup(sample), "04");
  httplib::Client http{"127.0.0.1", server.http_port};
  const json status = json::parse(http.Get("/status")->body);
  EXPECT_EQ(status["storage_manager"]["l2_adapters"][0]["type"], "fs");
  EXPECT_EQ(status["larder"]["chunks"]["hit_l2"], 4);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, SaysWhatItCouldNotStore) {
  ServerOptions options = small_options();
  options.l2_adapters.push_back(
      adapter_of("fault:?inner=memory%3A%3Fcapacity%3D1MiB&stall_rate=1"));
  options.drain_ns = 100'000'000;
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  ASSERT_EQ(Client{server.port}.store(key_of(1, 64)), kTrue);
  EXPECT_EQ(server.terminate(), "0 4 16384");
}

TEST_F(ServerTest, TellsTheServiceManagerWhenItServesAndHowLongItsEndMayTake) {
  const TemporaryDirectory directory;
  const NotifySocket manager{directory.path() + "/notify"};
  ServerOptions options = small_options();
  options.drain_ns = 120'000'000'000;
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(Client{server.port}.ping(), kTrue);
  EXPECT_EQ(manager.heard(), "READY=1\nSTATUS=listening on port " + std::to_string(server.port));
  EXPECT_EQ(manager.heard(), "nothing");
  EXPECT_EQ(server.terminate(), "0 0 0");
  EXPECT_EQ(manager.heard(),
            "STOPPING=1\nSTATUS=storing what L2 does not have yet\nEXTEND_TIMEOUT_USEC=150000000");
}

TEST_F(ServerTest, ServesWithoutTheServiceManagerItCannotTell) {
  ::setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  ServerProcess server{small_options()};
  ::unsetenv("NOTIFY_SOCKET");
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(Client{server.port}.ping(), kTrue);
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, NamesAPortInUse) {
  const ServerProcess first{small_options()};
  ServerOptions options = small_options();
  options.port = first.port;
  const ServerProcess second{options};
  EXPECT_NE(second.error.find("port " + std::to_string(first.port) + " is in use"),
            std::string::npos)
      << second.error;
}

TEST_F(ServerTest, NamesTheConnectorThatCannotBeOpened) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.l2_adapters.push_back(adapter_of("fs:" + directory.path()));
  options.l2_adapters.push_back(adapter_of("lgo:/data"));
  const ServerProcess server{options};
  EXPECT_NE(server.error.find("--l2-adapter lgo:"), std::string::npos) << server.error;
  EXPECT_NE(server.error.find("log"), std::string::npos) << server.error;
}

TEST_F(ServerTest, NamesSharedMemoryThatIsTooSmall) {
  struct ::statvfs system{};
  ASSERT_EQ(::statvfs(kPoolDirectory, &system), 0);
  ServerOptions options = small_options();
  options.l1_bytes = std::uint64_t{system.f_blocks} * system.f_frsize;
  const ServerProcess server{options};
  EXPECT_NE(server.error.find("--shm-size"), std::string::npos) << server.error;
}

TEST_F(ServerTest, RefusesThePoolOfALiveServerAndReplacesThatOfADeadOne) {
  ServerOptions options = small_options();
  options.shm_name = "larder_server_test_" + std::to_string(::getpid());
  const ServerProcess first{options};
  ASSERT_EQ(first.error, "");
  EXPECT_EQ(first.pool, "lmcache_l1_pool_" + options.shm_name);
  const ServerProcess second{options};
  EXPECT_NE(second.error.find("in use by process " + std::to_string(first.pid())),
            std::string::npos)
      << second.error;
  EXPECT_NE(second.error.find("--shm-name"), std::string::npos) << second.error;
  EXPECT_TRUE(first.has_pool());
}

TEST_F(ServerTest, TakesMoreConnectionsThanTheSoftLimit) {
  ServerOptions options = small_options();
  ::rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const ::rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  ServerProcess server{options};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_EQ(server.error, "");
  std::vector<std::unique_ptr<testing::RawPeer>> peers;
  for (int i = 0; i < 200; ++i) {
    peers.push_back(std::make_unique<testing::RawPeer>(server.port));
    ASSERT_TRUE(peers.back()->shake_hands());
  }
  EXPECT_EQ(Client{server.port}.ping(), kTrue);
}

// ---- Quotas.

/// Of a salt, as GET has it.
json quota_of(std::uint16_t port, const std::string& salt) {
  httplib::Client http{"127.0.0.1", port};
  return json::parse(http.Get("/quota/" + salt)->body);
}

TEST_F(ServerTest, QuotasAreThereAfterAKillAndHoldBeforeTheirSaltsCome) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.is_admin_open = true;
  options.quota_file = directory.path() + "/quotas.json";
  constexpr double kGiB = 1 << 30;
  {
    ServerProcess server{options};
    ASSERT_EQ(server.error, "");
    httplib::Client http{"127.0.0.1", server.http_port};
    const std::string body = "{\"limit_gb\": " + json(2 * 4096 / kGiB).dump() + "}";
    ASSERT_EQ(http.Put("/quota/tenant", body, "application/json")->status, 200);
    server.kill();
  }
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  EXPECT_EQ(quota_of(server.http_port, "tenant")["exists"], true);
  Client client{server.port};
  wire::KeySample sample = key_of(1, 64);
  sample.salt = "tenant";
  ASSERT_EQ(client.store(sample), kTrue);  // Two of its four chunks.
  EXPECT_EQ(client.lookup(sample), "02");
  httplib::Client http{"127.0.0.1", server.http_port};
  const json salts = json::parse(http.Get("/status")->body)["larder"]["salts"];
  const auto tenant =
      std::ranges::find_if(salts, [](const json& salt) { return salt["salt"] == "tenant"; });
  ASSERT_NE(tenant, salts.end());
  EXPECT_EQ((*tenant)["l1_bytes"], 2 * 4096);
  EXPECT_EQ((*tenant)["limit_bytes"], 2 * 4096);
  EXPECT_EQ((*tenant)["over_limit"], 1);
  // Lowered while it runs: the surplus leaves, once no request has it locked.
  client.ask(wire::Operation::kEndSession, {text(sample.request_id)});
  ASSERT_EQ(http.Put("/quota/tenant", R"({"limit_gb": 0})", "application/json")->status, 200);
  EXPECT_TRUE(
      eventually([&] { return quota_of(server.http_port, "tenant")["current_usage_gb"] == 0.0; }));
  EXPECT_EQ(http.Delete("/quota/tenant")->status, 200);
  sample = key_of(2, 64);
  sample.salt = "tenant";
  ASSERT_EQ(client.store(sample), kTrue);
  EXPECT_EQ(client.lookup(sample), "04");
  EXPECT_EQ(server.terminate(), "0 0 0");
}

TEST_F(ServerTest, ABrokenQuotaFileStopsTheStart) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.quota_file = directory.path() + "/quotas.json";
  std::ofstream{options.quota_file} << "{\"version\": 1,\n \"quotas\": nope}";
  ServerProcess server{options};
  EXPECT_NE(server.error.find("--quota-file " + options.quota_file), std::string::npos);
  EXPECT_NE(server.error.find("line 2"), std::string::npos) << server.error;
}

/// A limit of L2 counts the store's content from before the server began, and its evictions.
TEST_F(ServerTest, ALimitOfL2CountsWhatIsThereFromBefore) {
  const TemporaryDirectory directory;
  ServerOptions options = small_options();
  options.is_admin_open = true;
  options.l2_adapters.push_back(adapter_of("fs:" + directory.path()));
  wire::KeySample sample = key_of(1, 64);
  sample.salt = "tenant";
  {
    ServerProcess server{options};
    ASSERT_EQ(server.error, "");
    Client client{server.port};
    ASSERT_EQ(client.store(sample), kTrue);
    EXPECT_EQ(server.terminate(), "0 0 0");
  }
  ServerProcess server{options};
  ASSERT_EQ(server.error, "");
  httplib::Client http{"127.0.0.1", server.http_port};
  EXPECT_EQ(quota_of(server.http_port, "tenant")["l2_usage_gb"], json::array({0.0}));
  constexpr double kGiB = 1 << 30;
  const std::string body = "{\"l2_limit_gb\": " + json(5 * 1024 / kGiB).dump() + "}";
  ASSERT_EQ(http.Put("/quota/tenant", body, "application/json")->status, 200);
  const auto used = [&] { return quota_of(server.http_port, "tenant")["l2_usage_gb"]; };
  EXPECT_TRUE(eventually([&] { return used() == json::array({4 * 1024 / kGiB}); })) << used();
  Client client{server.port};
  sample = key_of(2, 64);
  sample.salt = "tenant";
  ASSERT_EQ(client.store(sample), kTrue);  // There is room for one of its four.
  EXPECT_TRUE(eventually([&] { return used() == json::array({5 * 1024 / kGiB}); })) << used();
  EXPECT_TRUE(eventually([&] {
    return http.Get("/metrics")
               ->body.find("\nlarder_engine_salt_l2_over_limit_total{cache_salt=\"tenant\"} 3\n") !=
           std::string::npos;
  }));
  EXPECT_EQ(server.terminate(), "0 0 0");
}

}  // namespace
}  // namespace larder::server
