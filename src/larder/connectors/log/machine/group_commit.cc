#include "larder/connectors/log/machine/group_commit.h"

#include <cerrno>

#include "larder/base/check.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

/// A sync starts without waiting for the rest of a batch when this many tasks wait for it.
constexpr std::size_t kTasksMax = 64;

}  // namespace

GroupCommit::Group& GroupCommit::group_of(std::uint32_t segment) {
  for (const auto& group : groups_) {
    if (group->segment == segment) return *group;
  }
  groups_.push_back(std::make_unique<Group>());
  groups_.back()->segment = segment;
  groups_.back()->pin = state_.segments.pin(segment);
  return *groups_.back();
}

void GroupCommit::join(StoreTask& task, std::uint32_t segment) noexcept {
  Group& group = group_of(segment);
  group.waiting.push_back(&task);
  ++tasks_waiting_;
  if (task.sink->on_written(task)) group.is_due = true;
}

void GroupCommit::join(DeleteTask& task, std::uint32_t segment) noexcept {
  Group& group = group_of(segment);
  group.waiting_deletes.push_back(&task);
  group.is_due = true;
  ++tasks_waiting_;
}

void GroupCommit::start_due() noexcept {
  // When everything in flight waits for a sync, no other event makes one due.
  const bool nothing_else = tasks_waiting_ == tasks_.count();
  for (const auto& group : groups_) {
    const std::size_t waiting = group->waiting.size() + group->waiting_deletes.size();
    if (group->in_flight || waiting == 0) continue;
    if (group->is_due || waiting >= kTasksMax || nothing_else) start(*group);
  }
}

void GroupCommit::start(Group& group) noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  group.in_flight = true;
  group.is_due = false;
  group.covered.swap(group.waiting);
  group.covered_deletes.swap(group.waiting_deletes);
  transfer->request.operation = io::Operation::kSync;
  transfer->request.file = state_.segments.at(group.segment).file;
  transfer->sink = this;
  transfer->task = &group;
  ++syncs_in_flight_;
  state_.counters.syncs_total.add();
  state_.transfers.submit(*transfer);
}

void GroupCommit::on_transfer(Transfer& transfer) noexcept {
  Group& group = *static_cast<Group*>(transfer.task);
  Error error;
  // L13. A sync that succeeds after a failed one proves nothing, nor does one after a failed sync
  // of the sealer that overlapped with it.
  const bool failed_before =
      state_.segments.at(group.segment).sync_failed && !is_broken(Rule::kFailedSyncLasts);
  if (!transfer.succeeded() || failed_before) {
    error = fail(group, transfer.succeeded() ? EIO : transfer.request.sys_errno);
  }
  state_.transfers.release(transfer);
  --syncs_in_flight_;
  group.in_flight = false;
  std::vector<StoreTask*> stores;
  std::vector<DeleteTask*> deletes;
  stores.swap(group.covered);
  deletes.swap(group.covered_deletes);
  const auto ended = static_cast<std::uint32_t>(stores.size() + deletes.size());
  LARDER_CHECK(tasks_waiting_ >= ended);
  tasks_waiting_ -= ended;
  if (group.waiting.empty() && group.waiting_deletes.empty()) {
    std::erase_if(groups_, [&](const auto& owned) { return owned.get() == &group; });
  }
  if (is_broken(Rule::kFailedSyncFailsBatches)) error = {};
  for (StoreTask* const task : stores) {
    task->error = error;
    tasks_.end(*task);
  }
  for (DeleteTask* const task : deletes) {
    task->error = error;
    tasks_.end(*task);
  }
}

/// Tasks that joined meanwhile fail too: no later sync can prove anything about them.
Error GroupCommit::fail(Group& group, int sys_errno) noexcept {
  group.covered.insert(group.covered.end(), group.waiting.begin(), group.waiting.end());
  group.waiting.clear();
  group.covered_deletes.insert(group.covered_deletes.end(), group.waiting_deletes.begin(),
                               group.waiting_deletes.end());
  group.waiting_deletes.clear();
  Segment& segment = state_.segments.at(group.segment);
  segment.sync_failed = !is_broken(Rule::kFailedSyncClosesSegment);
  state_.counters.sync_failures_total.add();
  if (!is_broken(Rule::kFailedSyncDegrades)) errors_.note("syncing a segment", sys_errno);
  if (segment.sync_failed) sink_.on_failed_sync(group.segment);
  return Error::from_errno(sys_errno, "log", "syncing a segment");
}

}  // namespace larder::log_store
