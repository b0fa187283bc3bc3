#include "larder/connectors/resp/node_view.h"

#include <algorithm>

namespace larder::resp {
namespace {

constexpr std::size_t kFailedKeysMax = std::size_t{1} << 16;

}  // namespace

NodeView::NodeView(std::uint64_t capacity_bytes, std::size_t keys_max)
    : stored(capacity_bytes, keys_max), failed_keys(kFailedKeysMax) {}

void NodeView::note_info(std::string_view text) {
  ServerInfo info;
  info.read(text);
  const MutexLock lock{mutex_};
  info_ = std::move(info);
}

void NodeView::note_refusal(const ReplyError& refusal) noexcept {
  counters.error_replies.fetch_add(1, std::memory_order_relaxed);
  if (refusal.scope == ReplyError::Scope::kServer) {
    server_refusal_.store(&refusal, std::memory_order_relaxed);
  } else if (refusal.scope == ReplyError::Scope::kWrites) {
    write_refusal_.store(&refusal, std::memory_order_relaxed);
  }
}

void NodeView::note_success(bool is_write) noexcept {
  if (server_refusal_.load(std::memory_order_relaxed) != nullptr) {
    server_refusal_.store(nullptr, std::memory_order_relaxed);
  }
  if (is_write && write_refusal_.load(std::memory_order_relaxed) != nullptr) {
    write_refusal_.store(nullptr, std::memory_order_relaxed);
  }
}

void NodeView::append_report(Report& report) const {
  for (const auto* const refusal : {&server_refusal_, &write_refusal_}) {
    const ReplyError* const row = refusal->load(std::memory_order_relaxed);
    if (row == nullptr) continue;
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.emplace_back(row->error.what());
  }
  {
    const MutexLock lock{mutex_};
    info_.append_report(report);
  }
  const auto add = [&](const char* name, const std::atomic<std::uint64_t>& value) {
    report.counters.push_back({name, value.load(std::memory_order_relaxed)});
  };
  report.counters.push_back({"stored_by_me_keys", stored.keys()});
  report.counters.push_back({"stored_by_me_bytes", stored.bytes()});
  report.counters.push_back({"stored_by_me_uncounted_total", stored.uncounted_total()});
  report.counters.push_back({"failed_keys", failed_keys.size()});
  add("hits_total", counters.hits);
  add("misses_total", counters.misses);
  add("get_failures_total", counters.get_failures);
  add("sets_total", counters.sets);
  add("sets_existed_total", counters.sets_existed);
  add("set_failures_total", counters.set_failures);
  add("sets_over_capacity_total", counters.sets_over_capacity);
  add("bytes_loaded_total", counters.bytes_loaded);
  add("bytes_stored_total", counters.bytes_stored);
  add("size_mismatches_total", counters.size_mismatches);
  add("values_too_large_total", counters.values_too_large);
  add("error_replies_total", counters.error_replies);
  add("connections_lost_total", counters.connections_lost);
  add("retries_total", counters.retries);
  peer.append_report(report);
}

}  // namespace larder::resp
