#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/cache/engine.h"
#include "larder/connector/connector.h"
#include "larder/server/object_key.h"

namespace larder::server {

/// The service leaves the engine's requests for pages of keys here (E36).
class PageReader {
 public:
  virtual ~PageReader() = default;
  /// The answer, with the page's objects that match the filter, comes to Service::on_page() later.
  /// Never waits.
  virtual void ask(const cache::PageWanted& question, const ObjectFilter& filter) = 0;
};

/// Searches tiers on a thread of its own, because a scan may wait for a disk or a peer.
///
/// Only names of objects count: a tier may be shared with other programs, whose keys are neither
///   shown nor deleted.
/// Bounds: one scan at a time; kCallersMax callers of page(), which are a listing over HTTP and
///   L2Counts, and the purges' questions, of which there is one for each tier and purge.
/// Ownership: the connectors outlive it, or stop() has returned true.
class TierScans final : public PageReader {
 public:
  static constexpr std::size_t kCallersMax = 2;

  static SetupResult<std::unique_ptr<TierScans>> start(std::vector<Connector*> tiers);
  /// Waits for a scan that runs, unless stop() has given it up.
  ~TierScans() override;
  TierScans(const TierScans&) = delete;
  TierScans& operator=(const TierScans&) = delete;

  // ---- Any thread.
  /// Whether the connector can list its keys at all.
  bool has_scan(std::size_t tier) const noexcept {
    return tier < has_scan_.size() && has_scan_[tier];
  }
  /// Objects and their sizes.
  struct Page {
    struct Entry {
      ObjectKey key;
      std::uint64_t value_bytes = 0;
    };
    std::vector<Entry> entries;
    ScanCursor next;
    bool done = false;
  };
  /// A page of at most so many keys of the tier. kResourceExhausted: others are waiting;
  /// kDeadlineExceeded: it was not there at `until_ns`.
  Result<Page> page(std::size_t tier, ScanCursor from, std::size_t keys_max, std::uint64_t until_ns)
      LARDER_EXCLUDES(mutex_);
  /// Callers of page() are answered at once, and so are later ones. False: at `until_ns` a scan was
  /// still with its connector, which may then not be destroyed.
  bool stop(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);

  // ---- The loop's thread.
  void ask(const cache::PageWanted& question, const ObjectFilter& filter) override
      LARDER_EXCLUDES(mutex_);
  struct Answer {
    cache::PageWanted question;
    std::vector<std::string> keys;
    ScanCursor next;
    bool is_last = false;
    Error error{};
  };
  /// Readable when take() would return something.
  int event_fd() const noexcept { return answered_.get(); }
  std::vector<Answer> take() LARDER_EXCLUDES(mutex_);

 private:
  /// Owned together with one caller, because that may have stopped waiting.
  struct Call {
    Result<Page> result = Error{ErrorCode::kUnavailable, "server", "not scanned yet"};
    bool is_done = false;
  };
  struct Job {
    std::size_t tier = 0;
    ScanCursor from;
    std::size_t keys_max = 0;
    ObjectFilter filter{};
    cache::PageWanted question{};  ///< If `call` is null.
    std::shared_ptr<Call> call{};
  };

  TierScans(std::vector<Connector*> tiers, EventFd answered);
  void run() LARDER_EXCLUDES(mutex_);
  Result<Page> scan(const Job& job) const;
  void finish(const Job& job, Result<Page> page) LARDER_REQUIRES(mutex_);

  const std::vector<Connector*> tiers_;
  std::vector<bool> has_scan_;  ///< By tier.
  EventFd answered_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> jobs_ LARDER_GUARDED_BY(mutex_);
  std::vector<Answer> answers_ LARDER_GUARDED_BY(mutex_);
  std::size_t callers_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  bool has_ended_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::server
