#include "larder/server/quotas.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <latch>
#include <vector>

#include "larder/base/thread.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

/// Quotas with an engine that records its changes, or refuses them.
class QuotasTest : public ::testing::Test {
 protected:
  QuotasTest() {
    options_.l1_bytes = std::uint64_t{8} << 30;
    options_.quota_file = directory_.path() + "/quotas.json";
  }

  std::unique_ptr<Quotas> open() {
    auto quotas = Quotas::open(options_);
    EXPECT_TRUE(quotas) << quotas.error().text;
    return quotas ? *std::move(quotas) : nullptr;
  }
  std::string open_error(const std::string& content) {
    std::ofstream{options_.quota_file} << content;
    const auto quotas = Quotas::open(options_);
    return quotas ? "" : quotas.error().text;
  }
  Quotas::Apply taking() {
    return [this](const QuotaCommand& command) -> AdminAnswer {
      applied_.push_back(command);
      return AdminResult{};
    };
  }
  static Quotas::Apply refusing(Kind kind) {
    return [=](const QuotaCommand&) -> AdminAnswer {
      return AdminError{.kind = kind, .text = "busy"};
    };
  }
  std::string content() const {
    std::ifstream file{options_.quota_file};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  larder::testing::TemporaryDirectory directory_;
  ServerOptions options_;
  std::vector<QuotaCommand> applied_;
};

TEST_F(QuotasTest, WhatWasSetIsThereAfterARestart) {
  const std::string odd = "a/b\"\\\n\xE6\x97\xA5";
  {
    const auto quotas = open();
    EXPECT_TRUE(quotas->is_kept());
    ASSERT_TRUE(quotas->set("tenant", {.limit_gb = 1.1, .guarantee_gb = 1}, taking()));
    ASSERT_TRUE(quotas->set("", {.l2_limit_gb = 100}, taking()));
    ASSERT_TRUE(quotas->set(odd, {.limit_gb = 0}, taking()));
    ASSERT_TRUE(quotas->set("gone", {.limit_gb = 3}, taking()));
    EXPECT_EQ(quotas->remove("gone", taking()).value(), true);
    EXPECT_EQ(quotas->remove("gone", taking()).value(), false);
  }
  ASSERT_EQ(applied_.size(), 5U);
  EXPECT_EQ(applied_[0].quota.guarantee_bytes, std::uint64_t{1} << 30);
  EXPECT_EQ(applied_[4].quota.limit_bytes, kNever);
  const QuotaSettings expected{{"", {.l2_limit_gb = 100}},
                               {odd, {.limit_gb = 0}},
                               {"tenant", {.limit_gb = 1.1, .guarantee_gb = 1}}};
  EXPECT_EQ(open()->all(), expected);
  EXPECT_NE(content().find("\"_default\""), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(options_.quota_file + ".tmp"));
}

TEST_F(QuotasTest, WithoutAFileTheyEndWithTheServer) {
  options_.quota_file.clear();
  const auto quotas = open();
  EXPECT_FALSE(quotas->is_kept());
  ASSERT_TRUE(quotas->set("a", {.limit_gb = 1}, taking()));
  EXPECT_EQ(quotas->find("a"), (QuotaSetting{.limit_gb = 1}));
  EXPECT_TRUE(open()->all().empty());
}

TEST_F(QuotasTest, WhereTheFileCannotBeWrittenNothingChanges) {
  const auto quotas = open();
  ASSERT_TRUE(quotas->set("a", {.limit_gb = 1}, taking()));
  // The temporary file cannot be made, root or not.
  std::filesystem::create_directory(options_.quota_file + ".tmp");
  const auto failed = quotas->set("a", {.limit_gb = 2}, taking());
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, Kind::kFailed);
  EXPECT_NE(failed.error().text.find(options_.quota_file), std::string::npos);
  EXPECT_NE(failed.error().text.find("nothing was changed"), std::string::npos);
  EXPECT_FALSE(quotas->remove("a", taking()));
  EXPECT_EQ(applied_.size(), 1U);
  EXPECT_EQ(quotas->find("a"), (QuotaSetting{.limit_gb = 1}));
  EXPECT_EQ(open()->find("a"), (QuotaSetting{.limit_gb = 1}));
  std::filesystem::remove(options_.quota_file + ".tmp");
  EXPECT_TRUE(quotas->set("a", {.limit_gb = 2}, taking()));
}

TEST_F(QuotasTest, WhatTheEngineDoesNotTakeIsNotInTheFileEither) {
  const auto quotas = open();
  ASSERT_TRUE(quotas->set("a", {.limit_gb = 1}, taking()));
  EXPECT_FALSE(quotas->set("a", {.limit_gb = 2}, refusing(Kind::kBusy)));
  EXPECT_EQ(quotas->find("a"), (QuotaSetting{.limit_gb = 1}));
  EXPECT_EQ(open()->find("a"), (QuotaSetting{.limit_gb = 1}));
  // It completes a begun change, although its answer came too late.
  EXPECT_FALSE(quotas->set("a", {.limit_gb = 2}, refusing(Kind::kUnfinished)));
  EXPECT_EQ(quotas->find("a"), (QuotaSetting{.limit_gb = 2}));
  EXPECT_EQ(open()->find("a"), (QuotaSetting{.limit_gb = 2}));
}

TEST_F(QuotasTest, GuaranteesFitIntoL1Together) {
  const auto quotas = open();
  ASSERT_TRUE(quotas->set("a", {.guarantee_gb = 5}, taking()));
  ASSERT_TRUE(quotas->set("b", {.guarantee_gb = 3}, taking()));
  const auto refused = quotas->set("c", {.guarantee_gb = 0.5}, taking());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::kInvalid);
  EXPECT_NE(refused.error().text.find("8.50 GiB, and L1 has 8 GiB"), std::string::npos)
      << refused.error().text;
  EXPECT_TRUE(quotas->set("a", {.guarantee_gb = 4}, taking()));
  EXPECT_TRUE(quotas->set("c", {.guarantee_gb = 0.5}, taking()));
  // The next start has less.
  options_.l1_bytes = std::uint64_t{4} << 30;
  const auto smaller = Quotas::open(options_);
  ASSERT_FALSE(smaller);
  EXPECT_NE(smaller.error().text.find("--quota-file"), std::string::npos);
  EXPECT_NE(smaller.error().text.find("--l1-size-gb"), std::string::npos);
}

TEST_F(QuotasTest, ThereAreAtMostSoMany) {
  options_.quota_file.clear();
  const auto quotas = open();
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(quotas->set(std::to_string(i), {.limit_gb = 1}, taking()));
  }
  std::string content = R"({"version": 1, "quotas": {)";
  for (std::size_t i = 0; i < Quotas::kQuotasMax; ++i) {
    content += (i == 0 ? "\"" : ", \"") + std::to_string(i) + R"(": {"limit_gb": 1})";
  }
  options_.quota_file = directory_.path() + "/many.json";
  std::ofstream{options_.quota_file} << content + "}}";
  const auto full = open();
  const auto refused = full->set("one more", {.limit_gb = 1}, taking());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::kInvalid);
  EXPECT_NE(refused.error().text.find("10000 salts have a quota"), std::string::npos);
  EXPECT_TRUE(full->set("17", {.limit_gb = 2}, taking()));
  EXPECT_TRUE(full->remove("18", taking()).value());
  EXPECT_TRUE(full->set("one more", {.limit_gb = 1}, taking()));
}

TEST_F(QuotasTest, ABrokenFileStopsTheStartWithItsPlace) {
  const std::vector<std::pair<std::string, std::string>> broken{
      {"", "line 1, column 1"},
      {"{\n  \"version\": 1,\n  \"quotas\": {\"a\" 1}}", "line 3, column"},
      {"[]", "must be an object"},
      {R"({"version": 1})", "must be an object"},
      {R"({"version": 2, "quotas": {}})", "version is 2"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": -1}}})",
       "quotas[\"a\"]: limit_gb must be non-negative"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1, "guarantee_gb": 2}}})",
       "a: guarantee_gb is 2.0"},
      {R"({"version": 1, "quotas": {"a": 7}})", "quotas[\"a\"]"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1}, "a": {"limit_gb": 2}}})",
       "\"a\" stands there twice"},
      {R"({"version": 1, "quotas": {"": {"limit_gb": 1}, "_default": {"limit_gb": 2}}})",
       "\"_default\""},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1e999}}})", "too large"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1, "limit_gb": 2}}})",
       "\"limit_gb\" stands there twice"},
      {R"({"version": 1, "quotas": {}, "quotas": {}})", "\"quotas\" stands there twice"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1, "l2_limit": 3}}})", "no field 'l2_limit'"},
      {R"({"version": 1, "quotas": {"a": {"limit_gb": 1, "owner": "b"}}})", "no field 'owner'"},
      {"{\"version\": " + std::string(300'000, '[') + std::string(300'000, ']') + "}",
       "nested too deep"}};
  for (const auto& [content, place] : broken) {
    const std::string error = open_error(content);
    EXPECT_NE(error.find("--quota-file " + options_.quota_file), std::string::npos)
        << content.substr(0, 100);
    EXPECT_NE(error.find(place), std::string::npos)
        << content.substr(0, 100) << ": " << error.substr(0, 500);
  }
  options_.quota_file = directory_.path() + "/nowhere/quotas.json";
  EXPECT_NE(open_error("").find("there is no directory"), std::string::npos);
  options_.quota_file = directory_.path();
  EXPECT_NE(open_error("").find("name a regular file"), std::string::npos);
}

TEST_F(QuotasTest, ALinkIsFollowedAndAModeIsKept) {
  const std::string target = directory_.path() + "/target.json";
  std::ofstream{target} << R"({"version": 1, "quotas": {}})";
  ASSERT_EQ(::chmod(target.c_str(), 0640), 0);
  ASSERT_EQ(::symlink(target.c_str(), options_.quota_file.c_str()), 0);
  ASSERT_TRUE(open()->set("a", {.limit_gb = 1}, taking()));
  EXPECT_TRUE(std::filesystem::is_symlink(options_.quota_file));
  struct ::stat found{};
  ASSERT_EQ(::stat(target.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0640U);
  EXPECT_TRUE(open()->find("a"));
}

/// File and engine have the same order, whichever caller comes first.
TEST_F(QuotasTest, ChangesAtTheSameTimeComeOneAfterAnother) {
  const auto quotas = open();
  std::latch both{2};
  std::atomic<int> inside = 0;
  const Quotas::Apply apply = [&](const QuotaCommand& command) -> AdminAnswer {
    EXPECT_EQ(inside.fetch_add(1), 0);
    applied_.push_back(command);
    EXPECT_EQ(inside.fetch_sub(1), 1);
    return AdminResult{};
  };
  const auto change = [&](double gb, const std::string& own) {
    both.arrive_and_wait();
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(quotas->set("both", {.limit_gb = gb}, apply));
      EXPECT_TRUE(quotas->set(own + std::to_string(i), {.limit_gb = gb}, apply));
    }
  };
  {
    auto first = Thread::start("test-first", [&] { change(1, "a"); });
    auto second = Thread::start("test-second", [&] { change(2, "b"); });
    ASSERT_TRUE(first && second);
  }
  EXPECT_EQ(applied_.size(), 80U);
  EXPECT_EQ(quotas->all().size(), 41U);
  EXPECT_EQ(open()->all(), quotas->all());
  std::uint64_t last = 0;
  for (const QuotaCommand& command : applied_) {
    if (command.salt == "both") last = command.quota.limit_bytes;
  }
  EXPECT_EQ(quotas->quota_of(*quotas->find("both")).limit_bytes, last);
}

TEST_F(QuotasTest, TooManyAtATimeAreRefusedAtOnce) {
  const auto quotas = open();
  std::latch is_let_go{1};
  const Quotas::Apply held = [&](const QuotaCommand&) -> AdminAnswer {
    is_let_go.wait();
    return AdminResult{};
  };
  std::atomic<std::size_t> refused = 0;
  std::vector<Thread> threads;
  for (std::size_t i = 0; i < Quotas::kChangersMax + 3; ++i) {
    auto thread = Thread::start("test-changer", [&, i] {
      const auto set = quotas->set(std::to_string(i), {.limit_gb = 1}, held);
      if (set) return;
      EXPECT_EQ(set.error().kind, Kind::kBusy);
      // The others are held until three of them have their refusal.
      if (refused.fetch_add(1) == 2) is_let_go.count_down();
    });
    ASSERT_TRUE(thread);
    threads.push_back(*std::move(thread));
  }
  threads.clear();
  EXPECT_EQ(refused, 3U);
  EXPECT_EQ(quotas->all().size(), Quotas::kChangersMax);
}

}  // namespace
}  // namespace larder::server
