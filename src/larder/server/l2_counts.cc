#include "larder/server/l2_counts.h"

#include <algorithm>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kLoopAnswersNs = 5'000'000'000;
/// A page of a disk that has nearly failed.
constexpr std::uint64_t kPageNs = 60'000'000'000;
/// Until another caller of the scans has finished.
constexpr std::uint64_t kTryAgainNs = 100'000'000;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

std::string name_of(cache::TierId tier) {
  return "--l2-adapter " + std::to_string(tier + 1);
}

}  // namespace

SetupResult<std::unique_ptr<L2Counts>> L2Counts::start(TierScans& scans, std::size_t tiers,
                                                       const Quotas& quotas,
                                                       AdminMailbox& mailbox) {
  std::unique_ptr<L2Counts> counts{new L2Counts{scans, tiers, quotas, mailbox}};
  auto thread = Thread::start("larder-count", [self = counts.get()] { self->run(); });
  if (!thread) return SetupError{thread.error().code(), thread.error().to_string()};
  counts->thread_ = *std::move(thread);
  return counts;
}

L2Counts::~L2Counts() {
  const MutexLock lock{mutex_};
  is_ending_ = true;
  changed_.notify_all();
  // The lock is released before thread_ is joined: a member's destructor runs later.
}

void L2Counts::wake() {
  const MutexLock lock{mutex_};
  is_woken_ = true;
  changed_.notify_all();
}

bool L2Counts::is_ending() const {
  const MutexLock lock{mutex_};
  return is_ending_;
}

void L2Counts::wait(std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  while (!is_woken_ && !is_ending_) {
    if (until_ns == kNever) {
      changed_.wait(mutex_);
      continue;
    }
    const std::uint64_t now = now_ns();
    if (now >= until_ns) break;
    changed_.wait_for(mutex_, until_ns - now);
  }
  is_woken_ = false;
}

void L2Counts::wait_briefly() {
  const std::uint64_t until_ns = now_ns() + kTryAgainNs;
  const MutexLock lock{mutex_};
  while (!is_ending_) {
    const std::uint64_t now = now_ns();
    if (now >= until_ns) return;
    changed_.wait_for(mutex_, until_ns - now);
  }
}

void L2Counts::run() {
  std::uint64_t next_ns = 0;
  bool has_told = false;
  for (;;) {
    wait(next_ns);
    if (is_ending()) return;
    const std::uint64_t begin_ns = now_ns();
    const BytesBySalt wanted = salts();
    next_ns = kNever;
    if (wanted.empty()) continue;
    if (!std::exchange(has_told, true)) tell_of_tiers_without_scan();
    for (cache::TierId tier = 0; tier < tiers_; ++tier) {
      if (scans_.has_scan(tier)) count(tier, wanted);
      if (is_ending()) return;
    }
    const std::uint64_t end_ns = now_ns();
    next_ns = end_ns + std::max(kPauseNs, kPauseTimes * (end_ns - begin_ns));
  }
}

L2Counts::BytesBySalt L2Counts::salts() const {
  BytesBySalt found;
  bool has_limit = false;
  for (const auto& [salt, setting] : quotas_.all()) {
    found.emplace(salt, 0);
    has_limit = has_limit || setting.l2_limit_gb.has_value();
  }
  if (!has_limit) found.clear();
  return found;
}

void L2Counts::tell_of_tiers_without_scan() const {
  for (cache::TierId tier = 0; tier < tiers_; ++tier) {
    if (scans_.has_scan(tier)) continue;
    log(LogLevel::kInfo, "server",
        name_of(tier) +
            " has no list of its keys: its l2_limit_gb is of what this server stores from its "
            "start on");
  }
}

bool L2Counts::tell(const AdminCommand& command) {
  const std::uint64_t until_ns = now_ns() + kLoopAnswersNs;
  for (;;) {
    const AdminAnswer answer = mailbox_.ask(command, until_ns);
    if (answer || is_ending()) return answer.has_value();
    // HTTP may have all the places that there are.
    if (answer.error().kind == AdminError::Kind::kBusy && now_ns() < until_ns) {
      wait_briefly();
      continue;
    }
    log(LogLevel::kWarning, "server",
        "a count of L2 by salt was not taken: " + answer.error().text + "; it is tried again");
    return false;
  }
}

Result<TierScans::Page> L2Counts::read_page(cache::TierId tier, ScanCursor from) {
  const std::uint64_t until_ns = now_ns() + kPageNs;
  for (;;) {
    auto page = scans_.page(tier, from, kKeysAtATime, until_ns);
    const bool is_busy = !page && page.error().code() == ErrorCode::kResourceExhausted;
    if (!is_busy || now_ns() >= until_ns || is_ending()) return page;
    wait_briefly();
  }
}

void L2Counts::count(cache::TierId tier, BytesBySalt bytes) {
  if (!tell(BeginCountCommand{.tier = tier})) return;
  ScanCursor at;
  for (bool is_done = false; !is_done;) {
    const auto page = read_page(tier, at);
    if (is_ending()) return;
    if (!page) {
      if (page.error().code() == ErrorCode::kCancelled) return;  // The server is ending.
      return log(LogLevel::kWarning, "server",
                 name_of(tier) + " could not be counted by salt (" + page.error().to_string() +
                     "); it is tried again");
    }
    for (const TierScans::Page::Entry& entry : page->entries) {
      const auto found = bytes.find(entry.key.salt);
      if (found != bytes.end()) found->second += entry.value_bytes;
    }
    at = page->next;
    is_done = page->done;
  }
  tell(EndCountCommand{.tier = tier, .bytes = std::move(bytes)});
}

}  // namespace larder::server
