#include "larder/connectors/log/machine/file_calls.h"

#include <cerrno>

#include "larder/base/check.h"

namespace larder::log_store {

Result<std::unique_ptr<FileCalls>> FileCalls::create(io::Directory& directory,
                                                     io::TransferQueue& queue, const Clock& clock,
                                                     bool has_thread) {
  std::unique_ptr<FileCalls> calls{
      new FileCalls{directory, queue, clock}};  // The constructor is private.
  if (!has_thread) return calls;
  LARDER_ASSIGN(calls->thread_, Thread::start("larder-files", [&self = *calls] { self.work(); }));
  calls->has_thread_ = true;
  return calls;
}

FileCalls::~FileCalls() {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
    waiting_.clear();
  }
  arrived_.notify_all();
  thread_.join();
}

void FileCalls::submit(FileCall& call) noexcept {
  LARDER_CHECK(!call.is_busy_);
  if (!has_thread_) {
    carry_out(call);
    call.sink->on_file_call(call);
    return;
  }
  call.is_busy_ = true;
  call.submitted_ns_ = clock_.now_ns();
  in_flight_.push_back(&call);
  {
    const MutexLock lock{mutex_};
    waiting_.push_back(&call);
  }
  arrived_.notify_one();
}

bool FileCalls::poll() noexcept {
  if (in_flight_.empty()) return false;
  std::deque<FileCall*> finished;
  {
    const MutexLock lock{mutex_};
    finished.swap(finished_);
  }
  for (FileCall* const call : finished) {
    LARDER_CHECK(in_flight_.front() == call);
    in_flight_.pop_front();
    call->is_busy_ = false;
    call->sink->on_file_call(*call);
  }
  return !finished.empty();
}

std::uint64_t FileCalls::oldest_submitted_ns() const noexcept {
  return in_flight_.empty() ? kNever : in_flight_.front()->submitted_ns_;
}

std::string FileCalls::oldest() const {
  if (in_flight_.empty()) return {};
  const FileCall& call = *in_flight_.front();
  switch (call.kind) {
    case FileCall::Kind::kMake:
      return "making " + call.name;
    case FileCall::Kind::kRemove:
      return "removing " + call.name;
    case FileCall::Kind::kSyncDirectory:
      return "syncing the directory";
    case FileCall::Kind::kLook:
      return "looking for the free space";
    case FileCall::Kind::kLookForCopies:
      return "looking at the blocks of " + call.name;
  }
  return {};
}

Status FileCalls::make(const FileCall& call) noexcept {
  LARDER_ASSIGN(const io::Space space, directory_.space());
  if (space.free_bytes < call.min_free_bytes + call.bytes) {
    return Error{ErrorCode::kResourceExhausted, "log", "less than min_free would be left"};
  }
  return directory_.make(call.name, call.bytes);
}

void FileCalls::carry_out(FileCall& call) noexcept {
  switch (call.kind) {
    case FileCall::Kind::kMake:
      call.status = make(call);
      return;
    case FileCall::Kind::kRemove:
      call.status = directory_.remove(call.name);
      return;
    case FileCall::Kind::kSyncDirectory:
      call.status = directory_.sync_directory();
      return;
    case FileCall::Kind::kLookForCopies:
      call.is_shared = directory_.shares_blocks(call.name).value_or(false);
      call.status = {};
      return;
    case FileCall::Kind::kLook: {
      const auto found = directory_.look_for(call.name);
      const auto space = directory_.space();
      call.status = space ? Status{} : Status{space.error()};
      if (space) call.space = *space;
      call.inode = found ? found->inode : 0;
      call.is_missing = !found && found.error().sys_errno() == ENOENT;
      return;
    }
  }
}

void FileCalls::work() noexcept {
  for (;;) {
    FileCall* call = nullptr;
    {
      const MutexLock lock{mutex_};
      while (waiting_.empty() && !is_stopping_) arrived_.wait(mutex_);
      if (is_stopping_) return;
      call = waiting_.front();
      waiting_.pop_front();
    }
    carry_out(*call);
    {
      const MutexLock lock{mutex_};
      finished_.push_back(call);
    }
    // The path may be reusing `call` by now.
    queue_.wake();
  }
}

}  // namespace larder::log_store
