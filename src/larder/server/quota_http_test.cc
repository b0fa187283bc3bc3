#include "larder/server/quota_http.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "larder/base/event_fd.h"
#include "larder/base/thread.h"
#include "larder/server/admin_http.h"
#include "larder/server/router_test_support.h"
#include "larder/server/server_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

using nlohmann::json;
using testing::RawPeer;

/// HTTP over a service whose loop only takes commands. The test itself uses the service only before
/// open().
class QuotaHttpTest : public ServiceFixture {
 protected:
  QuotaHttpTest() {
    options.http_port = 0;
    options.is_admin_open = true;
    options.l1_bytes = std::uint64_t{1} << 30;
    options.quota_file = directory_.path() + "/quotas.json";
  }
  ~QuotaHttpTest() override {
    if (mailbox_ != nullptr) mailbox_->close();
    http_.reset();
    if (stop_ != nullptr) stop_->signal();
  }

  void open() {
    service();
    auto quotas = Quotas::open(options);
    ASSERT_TRUE(quotas) << quotas.error().text;
    quotas_ = *std::move(quotas);
    board_ = *StatusBoard::create();
    mailbox_ = *AdminMailbox::create();
    stop_ = std::make_unique<EventFd>(*EventFd::create());
    scans_ = *TierScans::start({});
    auto http = AdminHttp::open(
        options, "",
        {.board = *board_, .mailbox = *mailbox_, .scans = *scans_, .quotas = *quotas_});
    ASSERT_TRUE(http) << http.error().text;
    http_ = *std::move(http);
    auto loop = Thread::start("test-loop", [this] {
      while (!stop_->drain()) {
        wait_readable(mailbox_->event_fd(), stop_->get(), kNever);
        for (AdminMailbox::Mail& mail : mailbox_->take()) {
          service().on_admin(std::move(mail.command),
                             [this, ticket = mail.ticket](AdminAnswer answer) {
                               mailbox_->answer(ticket, std::move(answer));
                             });
        }
      }
    });
    ASSERT_TRUE(loop);
    loop_ = *std::move(loop);
  }

  std::pair<int, json> get(const std::string& path) {
    const auto reply = client().Get(path);
    return {reply->status, json::parse(reply->body)};
  }
  std::pair<int, json> put(const std::string& path, const std::string& body) {
    const auto reply = client().Put(path, body, "application/json");
    return {reply->status, json::parse(reply->body)};
  }
  std::pair<int, json> remove(const std::string& path) {
    const auto reply = client().Delete(path);
    return {reply->status, json::parse(reply->body)};
  }
  /// `request` unchanged, with the rest of a head.
  std::string raw(const std::string& request) {
    RawPeer peer{http_->port()};
    EXPECT_TRUE(peer.write(request + " HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    return peer.read(12);
  }
  httplib::Client client() {
    httplib::Client made{"127.0.0.1", http_->port()};
    made.set_url_encode(false);
    return made;
  }

  larder::testing::TemporaryDirectory directory_;
  std::unique_ptr<Quotas> quotas_;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<AdminMailbox> mailbox_;
  std::unique_ptr<TierScans> scans_;
  std::unique_ptr<EventFd> stop_;
  Thread loop_;
  std::unique_ptr<AdminHttp> http_;
};

/// The samples of LMCache 0.5.6: http_samples.md.
TEST_F(QuotaHttpTest, HasLmcachesShapes) {
  open();
  EXPECT_EQ(get("/quota").second["users"].dump(), "{}");
  const auto set = client().Put("/quota/tenant-a", R"({"limit_gb": 1.5})", "application/json");
  EXPECT_EQ(set->status, 200);
  EXPECT_EQ(set->body, R"({"cache_salt":"tenant-a","limit_gb":1.5,"status":"ok"})");
  const json got = get("/quota/tenant-a").second;
  EXPECT_EQ(got["cache_salt"], "tenant-a");
  EXPECT_EQ(got["limit_gb"], 1.5);
  EXPECT_EQ(got["current_usage_gb"], 0.0);
  EXPECT_EQ(got["exists"], true);
  EXPECT_EQ(put("/quota/_default", R"({"limit_gb": 0.5})").second["cache_salt"], "_default");
  const json users = get("/quota").second["users"];
  EXPECT_EQ(users.size(), 2U);
  EXPECT_EQ(users["tenant-a"]["limit_gb"], 1.5);
  EXPECT_EQ(users["_default"]["limit_gb"], 0.5);
  for (const auto& [body, error] :
       {std::pair{R"({"limit_gb": -1})", "limit_gb must be non-negative"},
        std::pair{R"({"nope": 1})", "body must be {'limit_gb': <float>}"},
        std::pair{R"({"limit_gb": 1, "garantee_gb": 1})",
                  "there is no field 'garantee_gb'; did you mean 'guarantee_gb'?"},
        std::pair{R"({"limit_bg": 1})", "there is no field 'limit_bg'; did you mean 'limit_gb'?"},
        std::pair{"", "invalid JSON body"}}) {
    const auto [code, refused] = put("/quota/x", body);
    EXPECT_EQ(code, 400);
    EXPECT_EQ(refused, (json{{"error", error}}));
  }
  EXPECT_EQ(client().Delete("/quota/tenant-a")->body,
            R"({"cache_salt":"tenant-a","status":"removed"})");
  EXPECT_EQ(client().Delete("/quota/tenant-a")->body,
            R"({"cache_salt":"tenant-a","status":"not_found"})");
}

TEST_F(QuotaHttpTest, WithoutAQuotaThereIsNoLimit) {
  options.engine.default_quota.limit_bytes = std::uint64_t{1} << 29;
  open();
  const auto [code, none] = get("/quota/none");
  EXPECT_EQ(code, 200);
  EXPECT_EQ(none["exists"], false);
  EXPECT_EQ(none["limit_gb"], 0.5);  // --quota-default-gb.
  EXPECT_TRUE(none["l2_limit_gb"].is_null());
  const json own = get("/quota").second["larder"];
  EXPECT_EQ(own["default_limit_gb"], 0.5);
  EXPECT_EQ(own["is_kept_in_file"], true);
  put("/quota/none", R"({"limit_gb": 2})");
  EXPECT_EQ(get("/quota/none").second["limit_gb"], 2.0);
  remove("/quota/none");
  EXPECT_EQ(get("/quota/none").second["limit_gb"], 0.5);
}

TEST_F(QuotaHttpTest, ShowsWhatASaltUses) {
  add_tier();
  register_worker();
  wire::KeySample sample = key("r", 1, 0, 64);
  sample.salt = "tenant";
  store(sample);
  turn();
  open();
  ASSERT_EQ(put("/quota/tenant", R"({"limit_gb": 0.5, "guarantee_gb": 0.25, "l2_limit_gb": 3})"),
            (std::pair{200, json{{"cache_salt", "tenant"},
                                 {"limit_gb", 0.5},
                                 {"guarantee_gb", 0.25},
                                 {"l2_limit_gb", 3.0},
                                 {"status", "ok"}}}));
  const json used = get("/quota/tenant").second;
  EXPECT_EQ(used["current_usage_gb"], 4 * 4096.0 / (1 << 30));
  EXPECT_EQ(used["l2_usage_gb"], (json::array({4 * 1024.0 / (1 << 30)})));
  EXPECT_EQ(used["guarantee_gb"], 0.25);
  EXPECT_EQ(used["l2_limit_gb"], 3.0);
  const json all = get("/quota").second;
  EXPECT_EQ(all["users"]["tenant"]["current_usage_gb"], used["current_usage_gb"]);
  EXPECT_EQ(all["larder"]["l2_counted_seconds_ago"], json::array({nullptr}));
}

TEST_F(QuotaHttpTest, ASaltMayHaveAnyText) {
  open();
  const std::string long_salt(1024, 's');
  const std::vector<std::pair<std::string, std::string>> salts{{"a%2Fb", "a/b"},
                                                               {"c/d", "c/d"},
                                                               {"%E6%97%A5", "\u65e5"},
                                                               {"x%0Ay", "x\ny"},
                                                               {"%00", std::string(1, 0)},
                                                               {"100%25", "100%"},
                                                               {"..%2F..%2Fetc", "../../etc"},
                                                               {long_salt, long_salt}};
  for (const auto& [path, salt] : salts) {
    SCOPED_TRACE(path);
    const auto [code, set] = put("/quota/" + path, R"({"limit_gb": 0.25})");
    EXPECT_EQ(code, 200) << path;
    EXPECT_EQ(set["cache_salt"], salt) << path;
    EXPECT_EQ(get("/quota/" + path).second["exists"], true) << path;
  }
  EXPECT_EQ(get("/quota").second["users"].size(), salts.size());
  EXPECT_EQ(Quotas::open(options).value()->all().size(), salts.size());
  for (const auto& [path, salt] : salts) {
    EXPECT_EQ(remove("/quota/" + path).second["status"], "removed") << path;
  }
  EXPECT_EQ(put("/quota/" + long_salt + "s", R"({"limit_gb": 1})").first, 400);
  EXPECT_EQ(put("/quota/%FF%FE", R"({"limit_gb": 1})").first, 400);
  EXPECT_EQ(get("/quota/%FF").first, 400);
  EXPECT_EQ(get("/quota").second["users"].dump(), "{}");
}

TEST_F(QuotaHttpTest, ARequestWithoutABodyIsAnsweredAtOnce) {
  open();
  put("/quota/a", R"({"limit_gb": 1})");
  EXPECT_EQ(raw("DELETE /quota/a"), "HTTP/1.1 200");
  EXPECT_EQ(raw("PUT /quota/a"), "HTTP/1.1 400");
  EXPECT_EQ(get("/quota/a").second["exists"], false);
  EXPECT_EQ(get("/quota/").second["users"].dump(), "{}");
}

TEST_F(QuotaHttpTest, ReadingNeedsNoTokenAndChangingDoes) {
  options.is_admin_open = false;
  open();
  EXPECT_EQ(get("/quota").first, 200);
  EXPECT_EQ(get("/quota/a").first, 200);
  EXPECT_EQ(put("/quota/a", R"({"limit_gb": 1})").first, 401);
  EXPECT_EQ(put("/quota/a", "nonsense").first, 401);
  const auto [code, refused] = remove("/quota/a");
  EXPECT_EQ(code, 401);
  EXPECT_NE(refused["message"].get<std::string>().find("--admin-open"), std::string::npos);
  EXPECT_EQ(raw("DELETE /quota/a"), "HTTP/1.1 401");
  EXPECT_EQ(get("/quota/a").second["exists"], false);
}

TEST_F(QuotaHttpTest, WhatCannotBeHadIsRefusedWithASentence) {
  open();
  const auto refused = [&](const std::string& body, int code, const std::string& part) {
    const auto [status, answer] = put("/quota/a", body);
    EXPECT_EQ(status, code) << body;
    EXPECT_NE(answer["error"].get<std::string>().find(part), std::string::npos) << answer.dump();
  };
  refused(R"({"limit_gb": 1, "guarantee_gb": 2})", 400, "lower guarantee_gb");
  refused(R"({"guarantee_gb": 2})", 400, "L1 has 1 GiB");
  refused(R"({"limit_gb": NaN})", 400, "finite");
  refused(R"({"limit_gb": "1"})", 400, "numeric");
  refused(R"({"limit_gb": 1e300})", 400, "8 EiB");
  std::filesystem::create_directory(options.quota_file + ".tmp");
  refused(R"({"limit_gb": 1})", 500, "could not be written");
  EXPECT_EQ(get("/quota").second["users"].dump(), "{}");
}

TEST_F(QuotaHttpTest, ManyQuotasAreListedWhole) {
  std::string content = R"({"version": 1, "quotas": {)";
  for (int i = 0; i < 2500; ++i) {
    content += (i == 0 ? "\"t" : ", \"t") + std::to_string(i) + R"(": {"limit_gb": 1})";
  }
  std::ofstream{options.quota_file} << content + "}}";
  open();
  const json users = get("/quota").second["users"];
  ASSERT_EQ(users.size(), 2500U);
  EXPECT_EQ(users["t2499"]["current_usage_gb"], 0.0);
}

TEST_F(QuotaHttpTest, AServerThatEndsRefusesChanges) {
  open();
  put("/quota/a", R"({"limit_gb": 1})");
  mailbox_->close();
  const auto [code, refused] = put("/quota/a", R"({"limit_gb": 2})");
  EXPECT_EQ(code, 503);
  EXPECT_NE(refused["error"].get<std::string>().find("is ending"), std::string::npos);
  EXPECT_EQ(quotas_->find("a"), (QuotaSetting{.limit_gb = 1}));
  EXPECT_EQ(Quotas::open(options).value()->find("a"), (QuotaSetting{.limit_gb = 1}));
}

}  // namespace
}  // namespace larder::server
