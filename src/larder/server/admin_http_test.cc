#include "larder/server/admin_http.h"

#include <gtest/gtest.h>
#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "larder/base/event_fd.h"
#include "larder/base/logging.h"
#include "larder/base/thread.h"
#include "larder/server/endpoint.h"
#include "larder/server/router_test_support.h"

namespace larder::server {
namespace {

using nlohmann::json;
using testing::RawPeer;

/// The HTTP side of a loop that answers, or does not.
class AdminHttpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto board = StatusBoard::create();
    auto stop = EventFd::create();
    ASSERT_TRUE(board && stop);
    auto mailbox = AdminMailbox::create();
    ASSERT_TRUE(mailbox);
    board_ = *std::move(board);
    mailbox_ = *std::move(mailbox);
    stop_ = std::make_unique<EventFd>(*std::move(stop));
    auto scans = TierScans::start({});
    ASSERT_TRUE(scans);
    scans_ = *std::move(scans);
    auto quotas = Quotas::open(options_);
    ASSERT_TRUE(quotas);
    quotas_ = *std::move(quotas);
    options_.http_port = 0;
    options_.chunk_tokens = 16;
    options_.instance_id = "an-id";
    open_http();
  }
  AdminHttp::Parts parts() const {
    return {.board = *board_, .mailbox = *mailbox_, .scans = *scans_, .quotas = *quotas_};
  }
  /// Again, with the present options.
  void open_http() {
    auto http = AdminHttp::open(options_, "lmcache_l1_pool_test", parts());
    ASSERT_TRUE(http) << http.error().text;
    http_ = *std::move(http);
  }
  void TearDown() override {
    board_->close();
    mailbox_->close();
    http_.reset();
    stop_->signal();
  }
  void run_loop() {
    auto thread = Thread::start("test-loop", [this] {
      while (!stop_->drain()) {
        wait_readable(board_->event_fd(), stop_->get(), kNever);
        auto status = std::make_shared<ServerStatus>();
        status->chunk_tokens = 16;
        status->is_draining = is_draining_.load();
        for (const char* name : {"log", "fs", "fs#2"}) status->tiers.emplace_back().name = name;
        if (board_->is_asked()) board_->publish(std::move(status));
      }
    });
    ASSERT_TRUE(thread);
    loop_ = *std::move(thread);
  }

  httplib::Result get(const std::string& path, const httplib::Headers& headers = {}) {
    httplib::Client client{"127.0.0.1", http_->port()};
    return client.Get(path, headers);
  }

  httplib::Result post(const std::string& path, const std::string& body,
                       const httplib::Headers& headers = {}) {
    httplib::Client client{"127.0.0.1", http_->port()};
    return client.Post(path, headers, body, "application/json");
  }
  std::string socket_path() const { return "/tmp/larder-admin-" + std::to_string(::getpid()); }
  httplib::Client unix_client() const {
    httplib::Client client{socket_path()};
    client.set_address_family(AF_UNIX);
    return client;
  }
  /// A loop that answers every command with `answer`.
  void run_mailbox(AdminAnswer answer) {
    auto thread = Thread::start("test-mailbox", [this, answer = std::move(answer)] {
      while (!stop_->drain()) {
        wait_readable(mailbox_->event_fd(), stop_->get(), kNever);
        for (AdminMailbox::Mail& mail : mailbox_->take()) {
          mailbox_->answer(mail.ticket, answer);
          commands_.push_back(std::move(mail.command));
        }
      }
    });
    ASSERT_TRUE(thread);
    loop_ = *std::move(thread);
  }
  /// Ends that loop: returns its commands.
  const std::vector<AdminCommand>& commands() {
    stop_->signal();
    loop_.join();
    return commands_;
  }

  ServerOptions options_;
  std::atomic<bool> is_draining_ = false;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<AdminMailbox> mailbox_;
  std::unique_ptr<TierScans> scans_;
  std::unique_ptr<Quotas> quotas_;
  std::unique_ptr<EventFd> stop_;
  std::vector<AdminCommand> commands_;
  Thread loop_;
  std::unique_ptr<AdminHttp> http_;
};

TEST_F(AdminHttpTest, AnswersWhatLmcachesCommandsAsk) {
  run_loop();
  EXPECT_EQ(get("/")->status, 200);
  EXPECT_EQ(json::parse(get("/")->body)["status"], "ok");
  const auto health = get("/healthcheck");
  EXPECT_EQ(health->status, 200);
  EXPECT_EQ(health->get_header_value("Content-Type"), "application/json");
  EXPECT_EQ(health->body, R"({"status":"healthy"})");
  const auto status = get("/status");
  EXPECT_EQ(status->status, 200);
  EXPECT_EQ(json::parse(status->body)["chunk_size"], 16);
  EXPECT_EQ(json::parse(status->body)["is_healthy"], true);
  const json config = json::parse(get("/config")->body);
  EXPECT_EQ(config["mp"]["chunk_size"], 16);
  EXPECT_EQ(config["mp"]["separate_object_groups"], false);
  for (const char* path : {"/version", "/lmc_version"}) {
    EXPECT_TRUE(json::parse(get(path)->body).get<std::string>().starts_with("larder-")) << path;
  }
  EXPECT_EQ(get("/live")->status, 200);
}

TEST_F(AdminHttpTest, AnswersHead) {
  run_loop();
  httplib::Client client{"127.0.0.1", http_->port()};
  for (const char* path : {"/healthcheck", "/live", "/ready"}) {
    const auto head = client.Head(path);
    ASSERT_TRUE(head) << path;
    EXPECT_EQ(head->status, 200) << path;
    EXPECT_EQ(head->body, "") << path;
  }
}

TEST_F(AdminHttpTest, IsReadyOnceTheLoopRunsAndUntilItDrains) {
  EXPECT_EQ(get("/ready")->status, 503);
  EXPECT_NE(get("/ready")->body.find("starting"), std::string::npos);
  run_loop();
  EXPECT_EQ(get("/ready")->status, 200);
  EXPECT_EQ(get("/ready")->body, R"({"status":"ready"})");
  is_draining_ = true;
  EXPECT_EQ(get("/ready")->status, 503);
  EXPECT_NE(get("/ready")->body.find("ending"), std::string::npos);
  EXPECT_EQ(get("/healthcheck")->status, 200);
}

TEST_F(AdminHttpTest, ListsItsAdaptersAsLmcacheDoes) {
  run_loop();
  const json adapters = json::parse(get("/config/adapters")->body)["adapters"];
  ASSERT_EQ(adapters.size(), 3U);
  EXPECT_EQ(adapters[0].dump(),
            R"({"index":0,"primary":true,"reconfigurable":false,"tier":"l2","type_name":"log"})");
  EXPECT_EQ(adapters[2]["type_name"], "fs#2");
  EXPECT_EQ(adapters[2]["primary"], false);
}

TEST_F(AdminHttpTest, TheLogLevelIsReadByGetAndSetByPut) {
  options_.is_admin_open = true;
  open_http();
  const LogLevel before = log_level_now();
  httplib::Client client{"127.0.0.1", http_->port()};
  EXPECT_EQ(client.Put("/loglevel?level=error", "", "text/plain")->body, "larder: error\n");
  EXPECT_EQ(get("/loglevel")->body, "larder: error\n");
  EXPECT_EQ(get("/loglevel?level=debug")->status, 400);  // GET changes nothing.
  EXPECT_EQ(client.Put("/loglevel?level=loud", "", "text/plain")->status, 400);
  EXPECT_EQ(log_level_now(), LogLevel::kError);
  set_log_level(before);
  options_.is_admin_open = false;
  open_http();
  httplib::Client other{"127.0.0.1", http_->port()};
  EXPECT_EQ(other.Put("/loglevel?level=error", "", "text/plain")->status, 401);
}

TEST_F(AdminHttpTest, ShowsBrowsersThePage) {
  const httplib::Headers browser{{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8"}};
  httplib::Client client{"127.0.0.1", http_->port()};
  const auto json_reply = get("/", {{"Accept", "*/*"}});
  EXPECT_EQ(json::parse(json_reply->body)["service"], "larder HTTP API");
  EXPECT_EQ(json_reply->get_header_value("Vary"), "Accept");
  const auto page = get("/page");
  EXPECT_EQ(get("/", browser)->body, page->body);
  EXPECT_EQ(get("/", browser)->get_header_value("Vary"), "Accept");
  for (const httplib::Result& reply :
       {get("/", browser), get("/page"), get("/page", {{"Accept", "application/json"}}),
        client.Head("/page"), client.Head("/", browser)}) {
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, 200);
    EXPECT_EQ(reply->get_header_value("Content-Type"), "text/html; charset=utf-8");
    EXPECT_EQ(reply->get_header_value("X-Content-Type-Options"), "nosniff");
    EXPECT_EQ(reply->get_header_value("Cache-Control"), "no-store");
    EXPECT_TRUE(
        reply->get_header_value("Content-Security-Policy").starts_with("default-src 'none'"));
  }
  EXPECT_EQ(client.Head("/page")->body, "");
  EXPECT_EQ(get("/page", {{"Host", "evil.example"}})->status, 403);
  EXPECT_EQ(post("/page", "")->status, 405);
}

TEST_F(AdminHttpTest, IsUnhealthyWhileTheLoopDoesNotRun) {
  EXPECT_EQ(get("/status")->status, 503);  // It never ran.
  const auto health = get("/healthcheck");
  EXPECT_EQ(health->status, 503);
  EXPECT_EQ(json::parse(health->body)["status"], "unhealthy");
  EXPECT_EQ(get("/live")->status, 200);
  board_->publish(std::make_shared<ServerStatus>());
  const auto status = get("/status");  // The last one that there was.
  EXPECT_EQ(status->status, 200);
  EXPECT_EQ(json::parse(status->body)["is_healthy"], false);
  run_loop();
  EXPECT_EQ(get("/healthcheck")->status, 200);
}

TEST_F(AdminHttpTest, ServesMetricsOfTheLastSnapshotWhileTheLoopDoesNotRun) {
  EXPECT_EQ(get("/metrics")->status, 503);  // It never ran.
  board_->publish(std::make_shared<ServerStatus>());
  const auto stalled = get("/metrics");
  EXPECT_EQ(stalled->status, 200);
  EXPECT_EQ(stalled->body.find("larder_engine_stall_seconds 0\n"), std::string::npos);
  run_loop();
  const auto metrics = get("/metrics");
  EXPECT_EQ(metrics->status, 200);
  EXPECT_EQ(metrics->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(metrics->body.find("\nlarder_engine_stall_seconds 0\n"), std::string::npos);
  EXPECT_NE(metrics->body.find("\nlmcache_mp_l1_usage_ratio{service_instance_id=\"an-id\","),
            std::string::npos);
  EXPECT_EQ(get("/metrics", {{"Host", "evil.example"}})->status, 403);
}

TEST_F(AdminHttpTest, APortForMetricsHasNothingElse) {
  run_loop();
  ServerOptions options = options_;
  options.metrics_port = 0;
  options.has_lmcache_metrics = false;
  const auto opened = AdminHttp::open_metrics(options, *board_);
  ASSERT_TRUE(opened) << opened.error().text;
  httplib::Client client{"127.0.0.1", (*opened)->port()};
  const auto metrics = client.Get("/metrics");
  EXPECT_EQ(metrics->status, 200);
  EXPECT_NE(metrics->body.find("\nlarder_engine_lookups_total 0\n"), std::string::npos);
  EXPECT_EQ(metrics->body.find("lmcache_mp_"), std::string::npos);
  EXPECT_EQ(client.Post("/cache/clear", "{}", "application/json")->status, 404);
  for (const char* path : {"/", "/page", "/status", "/config", "/healthcheck"}) {
    const auto reply = client.Get(path);
    EXPECT_EQ(reply->status, 404) << path;
    EXPECT_NE(reply->body.find("it has GET /metrics\""), std::string::npos) << reply->body;
  }
  EXPECT_EQ(client.Get("/metrics", {{"Host", "node-7.cluster:9400"}})->status, 200);

  options.metrics_port = (*opened)->port();
  const auto second = AdminHttp::open_metrics(options, *board_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find("--metrics-port"), std::string::npos) << second.error().text;
}

TEST_F(AdminHttpTest, SaysThatAPathIsNotThere) {
  for (const char* path : {"/run_script", "/env", "/threads", "/nope", "/status/"}) {
    const auto reply = get(path);
    EXPECT_EQ(reply->status, 404) << path;
    EXPECT_NE(json::parse(reply->body)["detail"].get<std::string>().find(path), std::string::npos);
  }
  httplib::Client client{"127.0.0.1", http_->port()};
  EXPECT_EQ(client.Post("/run_script", std::string(1 << 20, 'x'), "text/plain")->status, 404);
}

TEST_F(AdminHttpTest, SaysWhichMethodsAPathHas) {
  httplib::Client client{"127.0.0.1", http_->port()};
  const auto no_post = client.Post("/status", "{}", "application/json");
  EXPECT_EQ(no_post->status, 405);
  EXPECT_EQ(no_post->get_header_value("Allow"), "GET");
  EXPECT_EQ(json::parse(no_post->body)["detail"], "/status has no POST; it has GET");
  EXPECT_EQ(client.Patch("/quota/a", "{}", "application/json")->get_header_value("Allow"),
            "GET, PUT, DELETE");
}

TEST_F(AdminHttpTest, ABodyThatIsPostedAsAFormIsAsLongAsAnyOther) {
  options_.is_admin_open = true;
  open_http();
  httplib::Client client{"127.0.0.1", http_->port()};
  const std::string body = R"({"tier": "l1", "force": false})" + std::string(20'000, ' ');
  const char* const form = "application/x-www-form-urlencoded";
  run_mailbox(AdminResult{});
  EXPECT_EQ(client.Post("/cache/clear", body, form)->status, 200);
  EXPECT_EQ(client.Post("/cache/clear", body + std::string(64 << 10, ' '), form)->status, 413);
  const httplib::Headers chunked{};
  const auto in_chunks = client.Post(
      "/cache/clear", chunked,
      [](std::size_t at, httplib::DataSink& sink) {
        if (at > 100'000) {
          sink.done();
        } else {
          const std::string blanks(10'000, ' ');
          sink.write(blanks.data(), blanks.size());
        }
        return true;
      },
      form);
  ASSERT_TRUE(in_chunks);
  EXPECT_EQ(in_chunks->status, 413);
  const auto parts = client.Post("/cache/clear", {{"a", "b", "", ""}});
  EXPECT_EQ(parts->status, 415);
}

TEST_F(AdminHttpTest, GivesARequestWithRangesTheWholeBodyOnce) {
  run_loop();
  const std::string whole = get("/config")->body;
  std::string ranges = "bytes=0-";
  for (int i = 0; i < 1000; ++i) ranges += ",0-";
  for (const std::string& range : {ranges, std::string{"bytes=0-3"}}) {
    const auto reply = get("/config", {{"Range", range}});
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->body, whole) << range.substr(0, 16);
  }
}

TEST_F(AdminHttpTest, ABodyThatIsNestedWithoutEndIsRefused) {
  options_.is_admin_open = true;
  open_http();
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  httplib::Client client{"127.0.0.1", http_->port()};
  for (const std::string& body : {deep, "{\"keys\": " + deep + "}"}) {
    EXPECT_EQ(client.Delete("/cache/objects", body, "application/json")->status, 422);
    EXPECT_EQ(client.Post("/cache/prefetches", body, "application/json")->status, 422);
  }
  const std::string shorter = std::string(30'000, '[') + std::string(30'000, ']');
  EXPECT_EQ(client.Put("/quota/a", shorter, "application/json")->status, 400);
  EXPECT_EQ(client.Post("/cache/checksums", shorter, "application/json")->status, 422);
}

TEST_F(AdminHttpTest, AClearWithAMisspelledFieldClearsNothing) {
  options_.is_admin_open = true;
  open_http();
  for (const auto& [body, said] :
       {std::pair{R"({"tier": "all", "model": "x"})", "no field 'model'"},
        std::pair{R"({"tiers": "all"})", "did you mean 'tier'"}}) {
    const auto refused = post("/cache/clear", body);
    EXPECT_EQ(refused->status, 422) << body;
    EXPECT_NE(refused->body.find(said), std::string::npos) << refused->body;
  }
}

TEST_F(AdminHttpTest, RefusesABodyBeyondWhatThePathTakes) {
  options_.is_admin_open = true;
  open_http();
  httplib::Client client{"127.0.0.1", http_->port()};
  const auto refused =
      client.Post("/cache/clear", std::string(std::size_t{8} << 20, ' '), "application/json");
  ASSERT_TRUE(refused);  // The reply is not lost with the body that was not read.
  EXPECT_EQ(refused->status, 413);
  RawPeer chunked{http_->port()};
  ASSERT_TRUE(chunked.write(
      "POST /cache/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
  const std::string piece = "4000\r\n" + std::string(0x4000, ' ') + "\r\n";
  bool is_ended = false;  // Without an end.
  for (int i = 0; i < 10'000 && !is_ended; ++i) is_ended = !chunked.write(piece);
  EXPECT_TRUE(is_ended);
  EXPECT_EQ(client
                .Post("/cache/clear", httplib::Headers{{"Content-Encoding", "gzip"}}, "{}",
                      "application/json")
                ->status,
            415);
  EXPECT_TRUE(commands_.empty());
}

TEST_F(AdminHttpTest, ALineWithoutAnEndIsNotRemembered) {
  RawPeer peer{http_->port()};
  bool is_ended = false;
  for (int i = 0; i < 10'000 && !is_ended; ++i) is_ended = !peer.write(std::string(16384, 'G'));
  EXPECT_TRUE(is_ended);
  EXPECT_EQ(get("/live")->status, 200);
}

TEST_F(AdminHttpTest, RefusesForeignHostsAndOrigins) {
  for (const httplib::Headers& headers : {httplib::Headers{{"Host", "evil.example"}},
                                          httplib::Headers{{"Origin", "http://evil.example"}},
                                          httplib::Headers{{"Origin", "null"}}}) {
    const auto reply = get("/config", headers);
    EXPECT_EQ(reply->status, 403);
    EXPECT_EQ(reply->body.find("chunk_size"), std::string::npos);
  }
  EXPECT_EQ(get("/config", {{"Host", "localhost"}, {"Origin", "http://localhost:1"}})->status, 200);
}

TEST_F(AdminHttpTest, OutlivesGarbageAndWhoSaysNothing) {
  run_loop();
  RawPeer silent{http_->port()};
  for (const std::string& text :
       {std::string{"\0\xFF\0\0", 4}, std::string{"GET\r\n\r\n"}, std::string(100'000, 'G'),
        "GET /" + std::string(20'000, 'p') + " HTTP/1.1\r\n\r\n"}) {
    RawPeer peer{http_->port()};
    peer.write(text);
  }
  EXPECT_EQ(get("/healthcheck")->status, 200);
}

TEST_F(AdminHttpTest, NamesAPortInUse) {
  ServerOptions options = options_;
  options.http_port = http_->port();
  const auto second = AdminHttp::open(options, "", parts());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find("is in use"), std::string::npos) << second.error().text;
  EXPECT_NE(second.error().text.find("--http-port"), std::string::npos);
}

TEST_F(AdminHttpTest, AnswersMoreThanItHasThreads) {
  run_loop();
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (int i = 0; i < 100; ++i) {
    peers.push_back(std::make_unique<RawPeer>(http_->port()));
    ASSERT_TRUE(peers.back()->write("GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  }
  for (const auto& peer : peers) EXPECT_EQ(peer->read(15), "HTTP/1.1 200 OK");
}

TEST_F(AdminHttpTest, AClientThatSendsByteByByteDoesNotHoldUpTheEnd) {
  RawPeer peer{http_->port()};
  ASSERT_TRUE(peer.write("GET /live HTTP/1.1\r\nX: "));
  ASSERT_EQ(get("/live")->status, 200);  // So the other one was accepted, too.
  bool was_ended = false;
  auto client = Thread::start("test-client", [&] {
    for (int i = 0; i < 400 && !was_ended; ++i) {
      ::pollfd of_peer{.fd = peer.fd(), .events = POLLIN, .revents = 0};
      was_ended = !peer.write("x") || ::poll(&of_peer, 1, 25) != 0;
    }
  });
  ASSERT_TRUE(client);
  http_.reset();
  client->join();
  EXPECT_TRUE(was_ended);
}

// ---- Commands.

TEST_F(AdminHttpTest, AClearNeedsATokenOrAnOpenServer) {
  run_mailbox(AdminResult{});
  for (const httplib::Headers& headers :
       {httplib::Headers{}, httplib::Headers{{"Authorization", "Bearer 0123456789abcdef"}}}) {
    const auto refused = post("/cache/clear", R"({"tier": "l1"})", headers);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 401);
    EXPECT_EQ(refused->get_header_value("WWW-Authenticate"), "Bearer");
    const json body = json::parse(refused->body);
    for (const char* key : {"detail", "message"}) {
      const auto text = body[key].get<std::string>();
      EXPECT_NE(text.find("--admin-token-file"), std::string::npos) << text;
      EXPECT_NE(text.find("--admin-open"), std::string::npos) << text;
    }
  }
  options_.is_admin_open = true;
  open_http();
  EXPECT_EQ(post("/cache/clear", "")->body, R"({"status":"ok","cleared":{"tier":"l1"}})");
  EXPECT_EQ(post("/cache/clear", R"({"tier": "l1", "force": true})")->status, 200);
  EXPECT_EQ(get("/cache/clear")->status, 405);  // GET changes nothing.
  EXPECT_EQ(post("/cache/clear", "{}", {{"Origin", "http://evil.example"}})->status, 403);
  EXPECT_EQ(post("/cache/clear", "{}", {{"Host", "evil.example"}})->status, 403);
  const auto l2 = post("/cache/clear", R"({"tier": "l2"})");
  EXPECT_EQ(l2->status, 400);
  EXPECT_EQ(json::parse(l2->body)["detail"], "tier 'l2' not supported; only 'l1' and 'all'");
  ASSERT_EQ(commands().size(), 2U);
  EXPECT_FALSE(std::get<ClearCommand>(commands_[0]).force);
  EXPECT_TRUE(std::get<ClearCommand>(commands_[1]).force);
}

TEST_F(AdminHttpTest, AnOpenServerListensOnLoopbackAlone) {
  ServerOptions options = options_;
  options.is_admin_open = true;
  options.http_host = "0.0.0.0";
  const auto opened = AdminHttp::open(options, "", parts());
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().text.find("--admin-open is for loopback"), std::string::npos);
}

TEST_F(AdminHttpTest, AUnixSocketNeedsNoTokenAndIsForThisUserAlone) {
  options_.admin_socket = socket_path();
  open_http();
  run_mailbox(AdminResult{});
  struct ::stat found{};
  ASSERT_EQ(::stat(socket_path().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0600U);
  EXPECT_EQ(unix_client().Get("/config")->status, 200);
  EXPECT_EQ(unix_client().Post("/cache/clear", "", "application/json")->status, 200);
  EXPECT_EQ(post("/cache/clear", "")->status, 401);  // Over TCP.
  EXPECT_EQ(unix_client().Get("/nope")->status, 404);

  ServerOptions second = options_;
  second.has_http = false;
  const auto refused = AdminHttp::open(second, "", parts());
  ASSERT_FALSE(refused);  // A live one is not taken over.
  EXPECT_TRUE(refused.error().text.starts_with("--admin-socket '")) << refused.error().text;
  EXPECT_EQ(unix_client().Get("/live")->status, 200);
  http_.reset();
  EXPECT_NE(::stat(socket_path().c_str(), &found), 0);
}

TEST_F(AdminHttpTest, AUnixSocketThatWasLeftBehindIsTakenOver) {
  {
    auto left = UnixListener::open(socket_path());
    ASSERT_TRUE(left);
    const UnixListener moved = *std::move(left);
    ASSERT_EQ(::rename(socket_path().c_str(), (socket_path() + "x").c_str()), 0);
  }
  ASSERT_EQ(::rename((socket_path() + "x").c_str(), socket_path().c_str()), 0);
  options_.admin_socket = socket_path();
  options_.has_http = false;
  open_http();
  EXPECT_EQ(http_->port(), 0);
  EXPECT_EQ(unix_client().Get("/live")->status, 200);
}

TEST_F(AdminHttpTest, APostWithoutALengthHasNoBody) {
  options_.is_admin_open = true;
  open_http();
  run_mailbox(AdminResult{});
  RawPeer peer{http_->port()};
  ASSERT_TRUE(peer.write("POST /cache/clear HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_EQ(peer.read(15), "HTTP/1.1 200 OK");
  RawPeer other{http_->port()};
  ASSERT_TRUE(other.write("POST /nope HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_EQ(other.read(12), "HTTP/1.1 404");
}

TEST_F(AdminHttpTest, ChecksumsNeedNoToken) {
  run_mailbox(AdminResult{.checksums = {Md5{}}, .layers = 1});
  const auto reply =
      post("/cache/checksums",
           R"({"block_ids": [1, 2, 3], "chunk_size": 4, "instance_id": 7, "layerwise": false})");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 200);
  EXPECT_EQ(reply->body, R"({"status":"success","chunk_size":4,"num_chunks":1,"chunk_checksums":)"
                         R"(["00000000000000000000000000000000"],"layerwise":false,)"
                         R"("block_id_ranges":[[1,3]]})");
  const auto wrong = post("/cache/checksums", R"({"block_ids": ["a"]})");
  EXPECT_EQ(wrong->status, 422);
  EXPECT_NE(json::parse(wrong->body)["detail"].get<std::string>().find("block_ids"),
            std::string::npos);
  EXPECT_EQ(get("/cache/checksums")->status, 405);
  ASSERT_EQ(commands().size(), 1U);
  EXPECT_EQ(std::get<ChecksumCommand>(commands_[0]).instance.bits, 7U);
}

TEST_F(AdminHttpTest, WhyACommandFailedIsAStatusAndASentence) {
  using Kind = AdminError::Kind;
  for (const auto& [kind, code] :
       {std::pair{Kind::kInvalid, 400}, std::pair{Kind::kNotFound, 404},
        std::pair{Kind::kBusy, 503}, std::pair{Kind::kFailed, 500},
        std::pair{Kind::kMalformed, 422}, std::pair{Kind::kUnfinished, 503}}) {
    run_mailbox(AdminError{.kind = kind, .text = "a sentence"});
    const auto reply = post("/cache/checksums", "{}");
    EXPECT_EQ(reply->status, code);
    EXPECT_EQ(json::parse(reply->body)["detail"], "a sentence");
    ASSERT_EQ(commands().size(), 1U);
    commands_.clear();
  }
  mailbox_->close();
  EXPECT_EQ(post("/cache/checksums", "{}")->status, 503);
}

}  // namespace
}  // namespace larder::server
