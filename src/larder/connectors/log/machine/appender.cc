#include "larder/connectors/log/machine/appender.h"

#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

Appender::Appender(PathState& state)
    : state_(state),
      tasks_(state.guard),
      errors_(state),
      files_(state),
      preparer_(state, files_, errors_),
      head_(state.segments),
      sealer_(state, errors_),
      commit_(state, errors_, tasks_, *this),
      publisher_(state, errors_, tasks_, sealer_, commit_),
      records_(state, errors_, publisher_),
      tombstones_(state, head_, errors_, tasks_, publisher_) {}

// --- Places -------------------------------------------------------------------------------------

/// The head has room for so much when it says kStarted.
Admission Appender::make_room(std::uint64_t bytes, std::uint64_t entries,
                              std::uint64_t key_bytes) noexcept {
  if (errors_.lacks_space() || state_.is_frozen) return Admission::kRefused;
  if (head_.segment()) {
    if (head_.has_room(bytes, entries, key_bytes)) return Admission::kStarted;
    leave_head();
  }
  if (!preparer_.ready()) {
    preparer_.prepare_next();
    const bool waits = preparer_.is_on_its_way() || is_broken(Rule::kNeverWaitForReclaim);
    return waits ? Admission::kWait : Admission::kRefused;
  }
  head_.begin(preparer_.take_ready());
  return Admission::kStarted;
}

void Appender::leave_head() noexcept {
  tombstones_.flush();
  sealer_.begin(head_.leave());
}

void Appender::on_failed_sync(std::uint32_t segment) noexcept {
  if (head_.segment() == segment) leave_head();
}

Error Appender::refusal() const noexcept {
  const char* what = "no free segment; the store was refused";
  if (state_.is_frozen) {
    what = "the superblock could not be written for lack of space; the store was refused";
  } else if (errors_.lacks_space() || files_.is_shared()) {
    what = "the file system has no space to overwrite a segment; the store was refused";
  }
  return Error{ErrorCode::kResourceExhausted, "log", what};
}

std::uint32_t Appender::free_segments() const noexcept {
  const std::uint32_t on_the_way = (preparer_.ready() ? 1U : 0U) +
                                   (preparer_.is_preparing() ? 1U : 0U) +
                                   (files_.is_growing() ? 1U : 0U);
  return on_the_way + state_.segments.free_count() + files_.room_to_grow();
}

void Appender::set_growth(bool may_grow) noexcept {
  files_.set_growth(may_grow);
  errors_.try_again();
}

// --- Stores and deletes -------------------------------------------------------------------------

Admission Appender::start_store(StoreTask& task) noexcept {
  const Admission admission = make_room(records_.plan(head_, task), 1, task.key.size());
  if (admission != Admission::kStarted) return admission;
  if (!records_.prepare(task)) return Admission::kRefused;
  records_.take_place(head_, task);
  tasks_.begin(task.fingerprint);
  if (!task.source) {
    state_.guard.note_store(task.fingerprint, state_.segments.place_of(task.location));
  }
  records_.start(task);
  return Admission::kStarted;
}

Admission Appender::start_delete(DeleteTask& task) noexcept {
  if (!tombstones_.has_room(task)) {
    tombstones_.flush();
    const Admission admission = make_room(state_.grain_bytes(), 1, task.key.size());
    if (admission != Admission::kStarted) return admission;
    if (!tombstones_.begin()) return Admission::kRefused;
  }
  tombstones_.add(task);
  return Admission::kStarted;
}

// --- The round ----------------------------------------------------------------------------------

void Appender::turn() noexcept {
  records_.pump();
  records_.flush();
  tombstones_.flush();
  commit_.start_due();
  preparer_.prepare_next();
}

void Appender::fail_waiting() noexcept {
  constexpr Error kDown{ErrorCode::kUnavailable, "log",
                        "the storage does not answer; nothing was changed"};
  records_.fail_waiting(kDown);
  tombstones_.fail(kDown);
}

}  // namespace larder::log_store
