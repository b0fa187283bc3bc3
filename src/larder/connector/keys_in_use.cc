#include "larder/connector/keys_in_use.h"

#include "larder/base/clock.h"

namespace larder {

Result<KeysInUse::Use> KeysInUse::use(std::span<const std::byte> key, bool is_change,
                                      std::uint64_t deadline_ns) {
  std::string name{reinterpret_cast<const char*>(key.data()), key.size()};
  const MutexLock lock{mutex_};
  Entry& entry = entries_[name];  // References into the map stay while others come and go.
  const auto may_begin = [&] {
    if (entry.is_changing) return false;
    return is_change ? entry.readers == 0 : entry.waiting_changes == 0;
  };
  while (!may_begin()) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= deadline_ns) {
      if (entry.waiting > 0) changed_.notify_all();  // A reader may have waited for this change.
      drop_if_unused(name);
      return Error{ErrorCode::kDeadlineExceeded, name_,
                   "the deadline passed while another operation worked on the key"};
    }
    ++entry.waiting;
    entry.waiting_changes += is_change ? 1 : 0;
    changed_.wait_for(mutex_, deadline_ns - now_ns);
    entry.waiting_changes -= is_change ? 1 : 0;
    --entry.waiting;
  }
  if (is_change) {
    entry.is_changing = true;
  } else {
    ++entry.readers;
  }
  return Use{this, std::move(name), is_change};
}

void KeysInUse::end(const std::string& key, bool is_change) noexcept {
  const MutexLock lock{mutex_};
  Entry& entry = entries_.find(key)->second;
  if (is_change) {
    entry.is_changing = false;
  } else {
    --entry.readers;
  }
  if (entry.waiting > 0) changed_.notify_all();
  drop_if_unused(key);
}

void KeysInUse::drop_if_unused(const std::string& key) noexcept {
  const auto found = entries_.find(key);
  const Entry& entry = found->second;
  if (entry.readers == 0 && entry.waiting == 0 && !entry.is_changing) entries_.erase(found);
}

}  // namespace larder
