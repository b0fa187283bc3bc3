// What a path answers while the kernel does not let its thread go. Some file systems make who
// submits a write wait for their own disk: ext4 does for its journal, when it notes the time of a
// change.
#include "larder/base/check.h"
#include "larder/connectors/log/path.h"

namespace larder::log_store {

void LogPath::note_unblocked() noexcept {
  state_.counters.stalls_total.add();
  state_.health.note_unblocked(state_.clock.now_ns());
}

void LogPath::answer_as_down(Batch& batch) const noexcept {
  for (Item& item : batch.items) {
    item.existed = false;
    item.value_bytes = 0;
    item.error = {};
    const Status valid = check_item(batch, item, state_.options.value_bytes_max, kSlicesMax);
    if (!valid) {
      item.error = valid.error();
    } else if (batch.op == Op::kSet) {
      item.error = kStoreWhileDown;
    } else if (batch.op == Op::kDelete) {
      item.error = kDeleteWhileDown;
    }
    item.outcome = item.error.code() == ErrorCode::kNone ? Outcome::kMiss : Outcome::kFailed;
  }
  sink_.on_batch(batch);
}

void LogPath::answer_queued_as_down() noexcept {
  LARDER_CHECK(state_.health.is_down());
  // On a path that is down nothing is begun, so that neither the device nor a task is touched.
  schedule();
  publish_gauges();
}

}  // namespace larder::log_store
