#include "larder/server/tier_scans.h"

#include <gtest/gtest.h>

#include <latch>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "larder/base/clock.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t soon() {
  return RealClock::instance().now_ns() + 60 * kSecond;
}

/// A tier that lists keys one after another, and may hang.
class ListedTier final : public Connector {
 public:
  Status submit(Batch& /*batch*/) noexcept override {
    return Error{ErrorCode::kUnimplemented, "test", "it only lists"};
  }
  std::size_t reap(std::span<Batch*> /*done*/) noexcept override { return 0; }
  int event_fd() const noexcept override { return -1; }
  void cancel(Batch& /*batch*/) noexcept override {}
  bool probe(std::span<Item> /*items*/) const noexcept override { return false; }
  Report report() const override { return {}; }
  Status stop(std::uint64_t /*deadline_ns*/) noexcept override { return {}; }
  Capabilities capabilities() const noexcept override {
    Capabilities capabilities;
    capabilities.has_scan = has_scan;
    return capabilities;
  }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    if (hangs) {
      entered.count_down();
      go_on.wait();
    }
    if (fails) return Error{ErrorCode::kUnavailable, "test", "the disk is gone"};
    if (is_forgetful && from.words[0] != 0) {
      is_forgetful = false;
      return Error{ErrorCode::kInvalidArgument, "test", "the scan was given up"};
    }
    ScanPage page;
    std::size_t at = from.words[0];
    for (; at < keys.size() && page.entries.size() < keys_max; ++at) {
      page.entries.push_back({.key = keys[at], .value_bytes = at});
    }
    page.next.words[0] = at;
    page.done = at == keys.size();
    return page;
  }

  std::vector<std::string> keys;
  bool has_scan = true;
  bool fails = false;
  bool is_forgetful = false;  ///< Another scan pushes the next cursor out.
  bool hangs = false;
  std::latch entered{1};
  std::latch go_on{1};
};

class TierScansTest : public ::testing::Test {
 protected:
  void start() {
    auto started = TierScans::start({&tier_});
    ASSERT_TRUE(started);
    scans_ = *std::move(started);
  }
  static std::string name(char hash, const std::string& model = "m") {
    return ObjectKey{std::string(64, hash), model, 0x01000100, 0, ""}.name();
  }
  TierScans::Answer answer() {
    std::vector<TierScans::Answer> answers;
    while (answers.empty()) {
      wait_readable(scans_->event_fd(), scans_->event_fd(), soon());
      answers = scans_->take();
    }
    return answers.front();
  }

  ListedTier tier_;
  std::unique_ptr<TierScans> scans_;
};

TEST_F(TierScansTest, APageHasObjectsAndNoStrangersKeys) {
  tier_.keys = {name('a'), "a stranger", name('b'), name('c')};
  start();
  EXPECT_TRUE(scans_->has_scan(0));
  EXPECT_FALSE(scans_->has_scan(1));
  const auto first = scans_->page(0, {}, 3, soon());
  ASSERT_TRUE(first);
  ASSERT_EQ(first->entries.size(), 2U);
  EXPECT_EQ(first->entries[1].key.name(), name('b'));
  EXPECT_EQ(first->entries[1].value_bytes, 2U);
  EXPECT_FALSE(first->done);
  const auto second = scans_->page(0, first->next, 3, soon());
  ASSERT_EQ(second->entries.size(), 1U);
  EXPECT_TRUE(second->done);
  tier_.fails = true;
  EXPECT_EQ(scans_->page(0, {}, 3, soon()).error().code(), ErrorCode::kUnavailable);
}

TEST_F(TierScansTest, APurgesQuestionIsAnsweredWithWhatItsFilterTakes) {
  tier_.keys = {name('a'), name('b', "other"), "a stranger"};
  start();
  scans_->ask({.purge = cache::Ticket{3}, .tier = 0, .from = {}, .number = 9}, {.model = "other"});
  const auto found = answer();
  EXPECT_EQ(found.question.number, 9U);
  EXPECT_EQ(found.keys, std::vector<std::string>{name('b', "other")});
  EXPECT_TRUE(found.is_last);
  EXPECT_EQ(found.error.code(), ErrorCode::kNone);
  tier_.fails = true;
  scans_->ask({.purge = cache::Ticket{3}, .tier = 0, .from = {}, .number = 10}, {});
  EXPECT_EQ(answer().error.code(), ErrorCode::kUnavailable);
}

TEST_F(TierScansTest, APurgeWhoseScanWasPushedOutBeginsAgain) {
  tier_.keys = {name('a'), name('b')};
  tier_.is_forgetful = true;
  start();
  scans_->ask({.purge = cache::Ticket{3}, .tier = 0, .from = {{1, 0}}, .number = 2}, {});
  const auto found = answer();
  EXPECT_EQ(found.keys.size(), 2U);
  EXPECT_EQ(found.error.code(), ErrorCode::kNone);
  tier_.is_forgetful = true;
  EXPECT_EQ(scans_->page(0, {{1, 0}}, 3, soon()).error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(TierScansTest, ACallerDoesNotWaitForATierThatHangs) {
  tier_.hangs = true;
  start();
  scans_->ask({.purge = cache::Ticket{1}, .tier = 0, .from = {}, .number = 1}, {});
  tier_.entered.wait();
  const auto late = scans_->page(0, {}, 1, RealClock::instance().now_ns());
  EXPECT_EQ(late.error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_FALSE(scans_->stop(RealClock::instance().now_ns()));
  EXPECT_EQ(scans_->page(0, {}, 1, soon()).error().code(), ErrorCode::kCancelled);
  tier_.go_on.count_down();
  EXPECT_TRUE(scans_->stop(soon()));
}

}  // namespace
}  // namespace larder::server
