#include "larder/connectors/resp/node_view.h"

#include <algorithm>

namespace larder::resp {
namespace {

constexpr std::uint64_t kRefusalHoldsNs = 60'000'000'000;

}  // namespace

NodeView::NodeView(std::uint64_t capacity_bytes, std::size_t keys_max, const Clock& clock)
    : stored(capacity_bytes, keys_max), clock_(clock) {}

bool NodeView::note_info(const ServerInfo& info) {
  const MutexLock lock{mutex_};
  const bool may_have_lost = info.may_have_lost(info_);
  info_ = info;
  return may_have_lost;
}

void NodeView::note_refusal(const ReplyError& refusal) noexcept {
  using Scope = ReplyError::Scope;
  counters.error_replies.fetch_add(1, std::memory_order_relaxed);
  const bool is_write = refusal.scope == Scope::kWrites;
  if (!is_write && refusal.scope != Scope::kServer && refusal.scope != Scope::kSome) return;
  Refusal& last = is_write ? write_refusal_ : server_refusal_;
  last.at_ns.store(clock_.now_ns(), std::memory_order_relaxed);
  last.row.store(&refusal, std::memory_order_relaxed);
}

void NodeView::end(Refusal& refusal) noexcept {
  if (refusal.row.load(std::memory_order_relaxed) != nullptr) {
    refusal.row.store(nullptr, std::memory_order_relaxed);
  }
}

void NodeView::note_success(bool is_write) noexcept {
  end(server_refusal_);
  if (is_write) end(write_refusal_);
}

void NodeView::append_health(Report& report) const {
  if (!was_tried_.load(std::memory_order_acquire)) {
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.emplace_back("connecting: the server has not answered yet");
  }
  const std::uint64_t now_ns = clock_.now_ns();
  for (const Refusal* const refusal : {&server_refusal_, &write_refusal_}) {
    const ReplyError* const row = refusal->row.load(std::memory_order_relaxed);
    const std::uint64_t at_ns = refusal->at_ns.load(std::memory_order_relaxed);
    if (row == nullptr || now_ns >= at_ns + kRefusalHoldsNs) continue;
    const bool is_all = row->scope == ReplyError::Scope::kServer;
    report.health = std::max(report.health, is_all ? Health::kDown : Health::kDegraded);
    report.reasons.emplace_back(row->error.what());
  }
  {
    const MutexLock lock{mutex_};
    info_.append_health(report);
  }
  for (const PeerState& peer : peers) peer.append_health(report);
}

void NodeView::append_report(Report& report) const {
  append_health(report);
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
  add("stored_by_me_asked_for_total", counters.audited);
  add("stored_by_me_found_gone_total", counters.audited_gone);
  add("sets_over_capacity_total", counters.sets_over_capacity);
  add("size_mismatches_total", counters.size_mismatches);
  add("values_too_large_total", counters.values_too_large);
  add("error_replies_total", counters.error_replies);
  add("connections_lost_total", counters.connections_lost);
  add("connections_renewed_total", counters.connections_renewed);
  add("retries_total", counters.retries);
  std::uint64_t connections = 0;
  std::uint64_t failures = 0;
  for (const PeerState& peer : peers) {
    connections += peer.connections();
    failures += peer.failures_total();
  }
  report.counters.push_back({"connections", connections});
  report.counters.push_back({"connect_failures_total", failures});
}

}  // namespace larder::resp
