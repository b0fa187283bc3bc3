#include "larder/connectors/log/machine/write_errors.h"

#include <cerrno>

#include "larder/base/result.h"

namespace larder::log_store {

void WriteErrors::note(const char* what, int sys_errno) noexcept {
  if (!is_lack_of_space(sys_errno)) {
    state_.counters.io_errors_total.add();
    return state_.health.note_io_error(state_.clock.now_ns(), what, sys_errno);
  }
  state_.counters.no_space_total.add();
  lacks_space_ = says_so_ = true;
  state_.health.set_condition(
      "space",
      "the file system has no room to overwrite a segment (" + errno_text(sys_errno) +
          "): stores are refused, loads go on. Free some space, or remove copies and snapshots "
          "that share the store's blocks");
}

Error WriteErrors::note_failed_write(const Transfer& transfer) noexcept {
  const int sys_errno = transfer.request.sys_errno;
  note("writing a record", sys_errno != 0 ? sys_errno : EIO);
  return sys_errno != 0 ? Error::from_errno(sys_errno, "log", "writing a record")
                        : Error{ErrorCode::kIo, "log", "a write ended early"};
}

void WriteErrors::note_success() noexcept {
  state_.health.note_io_success(state_.clock.now_ns());
  if (!says_so_) return;
  says_so_ = false;
  state_.health.set_condition("space", {});
}

}  // namespace larder::log_store
