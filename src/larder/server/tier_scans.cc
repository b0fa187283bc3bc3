#include "larder/server/tier_scans.h"

#include <optional>
#include <utility>

#include "larder/base/clock.h"

namespace larder::server {
namespace {

constexpr std::size_t kPurgedKeysOfAPage = 2048;

Error stopping() noexcept {
  return Error{ErrorCode::kCancelled, "server", "the server is ending"};
}

}  // namespace

TierScans::TierScans(std::vector<Connector*> tiers, EventFd answered)
    : tiers_(std::move(tiers)), answered_(std::move(answered)) {
  for (const Connector* const tier : tiers_) has_scan_.push_back(tier->capabilities().has_scan);
}

SetupResult<std::unique_ptr<TierScans>> TierScans::start(std::vector<Connector*> tiers) {
  auto answered = EventFd::create();
  if (!answered) return SetupError{answered.error().code(), answered.error().to_string()};
  std::unique_ptr<TierScans> scans{new TierScans{std::move(tiers), *std::move(answered)}};
  auto thread = Thread::start("larder-scan", [self = scans.get()] { self->run(); });
  if (!thread) return SetupError{thread.error().code(), thread.error().to_string()};
  scans->thread_ = *std::move(thread);
  return scans;
}

TierScans::~TierScans() {
  const MutexLock lock{mutex_};
  is_stopping_ = true;
  changed_.notify_all();
  // The lock is released before thread_ is joined: a member's destructor runs later.
}

// --- Callers ------------------------------------------------------------------------------------

Result<TierScans::Page> TierScans::page(std::size_t tier, ScanCursor from, std::size_t keys_max,
                                        std::uint64_t until_ns) {
  const auto call = std::make_shared<Call>();
  const MutexLock lock{mutex_};
  if (is_stopping_) return stopping();
  if (callers_ == kCallersMax) {
    return Error{ErrorCode::kResourceExhausted, "server", "another listing is being made"};
  }
  ++callers_;
  jobs_.push_back({.tier = tier, .from = from, .keys_max = keys_max, .call = call});
  changed_.notify_all();
  while (!call->is_done && !is_stopping_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) break;
    changed_.wait_for(mutex_, until_ns - now_ns);
  }
  --callers_;
  if (call->is_done) return std::move(call->result);
  std::erase_if(jobs_, [&](const Job& job) { return job.call == call; });
  if (is_stopping_) return stopping();
  return Error{ErrorCode::kDeadlineExceeded, "server", "the keys were not read in time"};
}

bool TierScans::stop(std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  is_stopping_ = true;
  jobs_.clear();
  changed_.notify_all();
  while (!has_ended_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) return false;
    changed_.wait_for(mutex_, until_ns - now_ns);
  }
  return true;
}

// --- The loop -----------------------------------------------------------------------------------

void TierScans::ask(const cache::PageWanted& question, const ObjectFilter& filter) {
  const MutexLock lock{mutex_};
  if (is_stopping_) return;  // The engine is being drained, and ends its purges itself.
  jobs_.push_back({.tier = question.tier,
                   .from = question.from,
                   .keys_max = kPurgedKeysOfAPage,
                   .filter = filter,
                   .question = question});
  changed_.notify_all();
}

std::vector<TierScans::Answer> TierScans::take() {
  answered_.drain();
  const MutexLock lock{mutex_};
  return std::exchange(answers_, {});
}

// --- The thread ---------------------------------------------------------------------------------

void TierScans::run() {
  for (;;) {
    std::optional<Job> job;
    {
      const MutexLock lock{mutex_};
      while (jobs_.empty() && !is_stopping_) changed_.wait(mutex_);
      if (is_stopping_) {
        has_ended_ = true;
        changed_.notify_all();
        return;
      }
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Result<Page> page = scan(*job);
    const MutexLock lock{mutex_};
    finish(*job, std::move(page));
  }
}

Result<TierScans::Page> TierScans::scan(const Job& job) const {
  Result<ScanPage> read = tiers_[job.tier]->scan(job.from, job.keys_max);
  // Other scans may have pushed its cursor out. A deleted key does not come back, so a purge may
  // begin again.
  const bool is_lost = !read && read.error().code() == ErrorCode::kInvalidArgument;
  if (is_lost && job.call == nullptr) read = tiers_[job.tier]->scan({}, job.keys_max);
  LARDER_ASSIGN(ScanPage scanned, std::move(read));
  Page page{.entries = {}, .next = scanned.next, .done = scanned.done};
  for (const ScanPage::Entry& entry : scanned.entries) {
    auto key = parse_object_name(entry.key);
    if (key && job.filter.takes(*key)) {
      page.entries.push_back({.key = *std::move(key), .value_bytes = entry.value_bytes});
    }
  }
  return page;
}

void TierScans::finish(const Job& job, Result<Page> page) {
  if (job.call != nullptr) {
    job.call->result = std::move(page);
    job.call->is_done = true;
    changed_.notify_all();
    return;
  }
  Answer answer{.question = job.question, .keys = {}, .next = {}, .is_last = true};
  if (!page) {
    answer.error = page.error();
  } else {
    answer.next = page->next;
    answer.is_last = page->done;
    for (const Page::Entry& entry : page->entries) answer.keys.push_back(entry.key.name());
  }
  answers_.push_back(std::move(answer));
  answered_.signal();
}

}  // namespace larder::server
