#include "larder/connectors/log/machine/stall_watch.h"

#include <algorithm>

#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

void StallWatch::turn(std::uint64_t now_ns, io::FileId superblock_file) noexcept {
  watch_transfers(now_ns, superblock_file);
  watch_syncs(now_ns);
  watch_files(now_ns);
}

std::uint64_t StallWatch::next_timer_ns() const noexcept {
  std::uint64_t next_ns = kNever;
  if (const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns(); oldest_ns != kNever) {
    const std::uint64_t stalled_ns =
        std::max(oldest_ns + state_.options.stall_ns, no_stall_before_ns_);
    // Once it has stalled, watching for more is the probe's business.
    if (!state_.health.is_down()) next_ns = std::min(next_ns, stalled_ns);
  }
  if (!are_files_stalled_ && !state_.file_calls->is_quiet()) {
    next_ns = std::min(next_ns, state_.file_calls->oldest_submitted_ns() + state_.options.stall_ns);
  }
  if (!probe_.is_busy()) next_ns = std::min(next_ns, state_.health.next_probe_ns());
  return next_ns;
}

void StallWatch::watch_transfers(std::uint64_t now_ns, io::FileId superblock_file) noexcept {
  const std::uint64_t stall_ns = state_.options.stall_ns;
  // After the process was stopped or starved, everything in flight gets its whole time again.
  const bool has_overslept = next_turn_ns_ != kNever && now_ns > next_turn_ns_ + stall_ns / 2 &&
                             !is_broken(Rule::kOwnPauseIsNoStall);
  if (has_overslept) no_stall_before_ns_ = now_ns + stall_ns;
  const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns();
  const bool is_stalled =
      oldest_ns != kNever && now_ns >= oldest_ns + stall_ns && now_ns >= no_stall_before_ns_;
  if (is_stalled && !state_.health.is_down()) {
    state_.counters.stalls_total.add();
    state_.health.note_stall(now_ns, now_ns - oldest_ns);
  }
  if (state_.health.is_down()) {
    loads_.fail_waiting();
    appender_.fail_waiting();
  }
  if (now_ns < state_.health.next_probe_ns() || probe_.is_busy()) return;
  if (is_stalled) {
    state_.health.note_probe(now_ns, false);  // The stalled call has to end first.
  } else {
    probe_.start(superblock_file);
  }
}

void StallWatch::watch_syncs(std::uint64_t now_ns) noexcept {
  const std::uint64_t sync_ns = state_.transfers.oldest_sync_submitted_ns();
  if ((sync_ns != kNever && now_ns >= sync_ns + state_.options.stall_ns) != are_syncs_stalled_) {
    are_syncs_stalled_ = !are_syncs_stalled_;
    appender_.set_syncs_stalled(are_syncs_stalled_);
    state_.health.set_condition("syncs", are_syncs_stalled_
                                             ? "a sync has had no answer for longer than stall=; "
                                               "what needs a new segment is refused"
                                             : "");
  }
}

void StallWatch::watch_files(std::uint64_t now_ns) noexcept {
  const std::uint64_t oldest_ns = state_.file_calls->oldest_submitted_ns();
  const bool is_stalled = oldest_ns != kNever && now_ns >= oldest_ns + state_.options.stall_ns;
  if (is_stalled == are_files_stalled_) return;
  are_files_stalled_ = is_stalled;
  appender_.set_files_stalled(is_stalled);
  state_.health.set_condition("files", is_stalled ? "the file system does not answer (" +
                                                        state_.file_calls->oldest() +
                                                        "); what needs a new segment is refused"
                                                  : "");
}

}  // namespace larder::log_store
