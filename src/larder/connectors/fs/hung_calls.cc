#include "larder/connectors/fs/hung_calls.h"

#include <algorithm>
#include <utility>

#include "larder/connectors/fs/name_rules.h"

namespace larder::fs {
namespace {

constexpr Error kStopped{ErrorCode::kCancelled, "fs", "the connector was stopped"};
constexpr Error kNoTurn{ErrorCode::kDeadlineExceeded, "fs",
                        "earlier calls into the file system have not ended"};
constexpr Error kNoAnswer{ErrorCode::kUnavailable, "fs", "the file system does not answer"};
constexpr Error kStillChanging{ErrorCode::kUnavailable, "fs",
                               "an earlier change of this key has not ended in the file system"};

}  // namespace

std::shared_ptr<HungCalls> HungCalls::of_directory(dev_t device, ino_t inode) {
  static Mutex mutex;
  static std::map<std::pair<dev_t, ino_t>, std::weak_ptr<HungCalls>> shared;
  const MutexLock lock{mutex};
  std::erase_if(shared, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<HungCalls>& known = shared[{device, inode}];
  auto calls = known.lock();
  if (calls == nullptr) known = calls = std::make_shared<HungCalls>();
  return calls;
}

HungCalls::Calls::node_type HungCalls::new_entry() {
  Calls made;
  made.emplace(0, "")->second.reserve(kNameBytesMax);
  return made.extract(made.begin());
}

HungCalls::Calls::iterator HungCalls::add(Calls::node_type entry) noexcept {
  const MutexLock lock{mutex_};
  return calls_.insert(std::move(entry));
}

void HungCalls::remove(Calls::iterator call) {
  const MutexLock lock{mutex_};
  calls_.erase(call);
  changed_.notify_all();
}

void HungCalls::wake() {
  const MutexLock lock{mutex_};
  changed_.notify_all();
}

std::size_t HungCalls::count() const {
  const MutexLock lock{mutex_};
  return calls_.size();
}

void HungCalls::wait_empty(std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  while (!calls_.empty()) {
    if (clock_.now_ns() >= until_ns) return;
    clock_.wait_until(changed_, mutex_, until_ns);
  }
}

HungCalls::Calls::const_iterator HungCalls::in_the_way(const Turn& turn) const {
  if (calls_.size() >= turn.calls_max) return calls_.begin();
  if (turn.changes == nullptr) return calls_.end();
  return std::ranges::find(calls_, *turn.changes, &Calls::value_type::second);
}

Status HungCalls::wait_for_turn(const Turn& turn, const std::atomic<bool>& is_stopping) {
  const MutexLock lock{mutex_};
  for (;;) {
    if (is_stopping.load()) return kStopped;
    const auto call = in_the_way(turn);
    if (call == calls_.end()) return {};
    const std::uint64_t now_ns = clock_.now_ns();
    const std::uint64_t down_ns = call->first + turn.stall_ns;
    if (now_ns >= down_ns) return calls_.size() >= turn.calls_max ? kNoAnswer : kStillChanging;
    if (now_ns >= turn.deadline_ns) return kNoTurn;
    clock_.wait_until(changed_, mutex_, std::min(down_ns, turn.deadline_ns));
  }
}

}  // namespace larder::fs
