#include "larder/connectors/resp/audit.h"

#include "larder/base/check.h"

namespace larder::resp {

void Audit::note_losses() noexcept {
  if (!stored_.keeps_keys()) return;
  must_pass_again_ = is_passing_ || cursor_ != 0;
  is_passing_ = true;
}

std::uint64_t Audit::due_ns() const noexcept {
  if (!asked_.empty() || stored_.keys() == 0) return kNever;
  if (!is_refused_ && !is_passing_) return kNever;
  const bool is_urgent = is_refused_ || step_gone_ * 2 >= step_keys_;
  return step_ns_ + (is_urgent ? kShortPauseNs : kLongPauseNs);
}

bool Audit::note_answer(std::optional<std::uint64_t> value_bytes) noexcept {
  LARDER_CHECK(!asked_.empty());
  const OwnWrites::Sighting sighting = asked_.front();
  asked_.pop_front();
  const bool is_changed = value_bytes && stored_.note_size(sighting, *value_bytes);
  const bool is_gone = is_changed && *value_bytes == 0;
  if (is_gone) ++step_gone_;
  return is_gone;
}

}  // namespace larder::resp
