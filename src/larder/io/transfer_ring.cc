#include "larder/io/transfer_ring.h"

#include <liburing.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/io/transfer.h"
#include "larder/io/uring.h"

namespace larder::io {

namespace {

// The kind of a completion. A request is known by its address, which is none of these values.
constexpr std::uint64_t kWakeCompletion = 0;
constexpr std::uint64_t kTimeoutCompletion = LIBURING_UDATA_TIMEOUT;

constexpr std::size_t kCompletionsAtOnce = 64;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

/// Unlike a thread id never used twice.
std::uint64_t this_thread_number() noexcept {
  static std::atomic<std::uint64_t> threads = 0;
  thread_local const std::uint64_t number = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

}  // namespace

Result<std::unique_ptr<TransferRing>> TransferRing::create(const Options& options) {
  LARDER_ASSIGN(EventFd wake_fd, EventFd::create());
  // One entry more than requests: the poll for wake().
  LARDER_ASSIGN(auto uring, Uring::create(options.depth + 1, options.files_max));
  return std::unique_ptr<TransferRing>{
      new TransferRing(options, std::move(wake_fd), std::move(uring))};
}

TransferRing::TransferRing(const Options& options, EventFd wake_fd, std::unique_ptr<Uring> uring)
    : depth_(options.depth),
      alignment_(options.alignment),
      wake_fd_(std::move(wake_fd)),
      uring_(std::move(uring)),
      files_(uring_->files_max(), -1) {}

TransferRing::~TransferRing() {
  pending_.clear();
  // The ring's own destructor would wait as well, but by way of the kernel's slow clean-up.
  const bool may_enter = !uring_->has_one_issuer() || driver_ == this_thread_number();
  while (may_enter && broken_errno_ == 0 && on_ring_ > 0) {
    note_enter_result(::io_uring_submit_and_wait(&uring_->ring(), 1));
    collect();
    pending_.clear();  // Short transfers need not continue.
  }
  uring_->set_in_flight(on_ring_);
}

// --- Files and threads --------------------------------------------------------------------------

Status TransferRing::set_file(std::uint32_t slot, int fd) noexcept {
  LARDER_CHECK(slot < files_.size());
  // Any thread may fill the table until one drives the ring.
  if (driver_ != 0) enter_thread();
  LARDER_TRY(uring_->set_file(slot, fd));
  files_[slot] = fd;
  return {};
}

void TransferRing::enter_thread() noexcept {
  const std::uint64_t self = this_thread_number();
  if (driver_ == self) return;
  const bool is_first = driver_ == 0;
  driver_ = self;
  if (!uring_->has_one_issuer()) return;
  Status status;
  if (!is_first) status = replace_ring();
  if (status) status = uring_->enable();
  if (!status) break_down(status.error().sys_errno());
}

void TransferRing::end_thread() noexcept {
  if (driver_ != this_thread_number() || on_ring_ > 0) return;
  uring_->release_files();
}

Status TransferRing::release_thread() {
  if (driver_ == 0 || !uring_->has_one_issuer()) return {};
  LARDER_TRY(replace_ring());
  driver_ = 0;
  return {};
}

/// One that no thread drives yet, with the same files.
Status TransferRing::replace_ring() noexcept {
  LARDER_CHECK(on_ring_ == 0);  // Contract: a new thread takes over when nothing is in flight.
  LARDER_ASSIGN(std::unique_ptr<Uring> fresh, Uring::create(depth_ + 1, files_max()));
  for (std::uint32_t slot = 0; slot < files_max(); ++slot) {
    if (files_[slot] >= 0) LARDER_TRY(fresh->set_file(slot, files_[slot]));
  }
  uring_ = std::move(fresh);
  is_wake_armed_ = false;
  return {};
}

void TransferRing::break_down(int sys_errno) noexcept {
  if (broken_errno_ != 0) return;
  broken_errno_ = sys_errno == 0 ? EIO : sys_errno;
  log(LogLevel::kError, "io", "io_uring stopped working: every request fails from now on");
}

// --- Transfers ----------------------------------------------------------------------------------

void TransferRing::submit(Request& request) noexcept {
  (begin_transfer(request) == TransferStep::kEnded ? done_ : pending_).push(request);
}

std::size_t TransferRing::reap(std::span<Request*> done) noexcept {
  enter_thread();
  collect();
  feed();
  submit_to_kernel();
  collect();
  std::size_t count = 0;
  while (count < done.size() && !done_.empty()) done[count++] = done_.pop();
  return count;
}

void TransferRing::wait(std::uint64_t until_ns) noexcept {
  enter_thread();
  collect();
  arm_wake();
  feed();
  const std::uint64_t now_ns = RealClock::instance().now_ns();
  if (!done_.empty() || now_ns >= until_ns || woken_.load(std::memory_order_acquire)) {
    submit_to_kernel();
    woken_.exchange(false, std::memory_order_acq_rel);
    return;
  }
  const std::uint64_t timeout_ns = until_ns - now_ns;
  if (broken_errno_ != 0) {
    timespec timeout{static_cast<time_t>(timeout_ns / kNsPerSecond),
                     static_cast<long>(timeout_ns % kNsPerSecond)};
    pollfd wake_up{wake_fd_.get(), POLLIN, 0};
    ::ppoll(&wake_up, 1, until_ns == kNever ? nullptr : &timeout, nullptr);
    wake_fd_.drain();
  } else {
    __kernel_timespec timeout{static_cast<std::int64_t>(timeout_ns / kNsPerSecond),
                              static_cast<long long>(timeout_ns % kNsPerSecond)};
    io_uring_cqe* first = nullptr;
    note_enter_result(::io_uring_submit_and_wait_timeout(
        &uring_->ring(), &first, 1, until_ns == kNever ? nullptr : &timeout, nullptr));
    collect();
  }
  woken_.exchange(false, std::memory_order_acq_rel);
}

void TransferRing::wake() noexcept {
  if (!woken_.exchange(true, std::memory_order_acq_rel)) wake_fd_.signal();
}

/// Moves requests from the list to the submission queue.
void TransferRing::feed() noexcept {
  if (broken_errno_ != 0) fail_pending();
  while (on_ring_ < depth_ && !pending_.empty()) {
    io_uring_sqe* const entry = ::io_uring_get_sqe(&uring_->ring());
    if (entry == nullptr) return;  // The kernel has not taken the entries yet; it will.
    Request& request = *pending_.pop();
    prepare_transfer(*entry, static_cast<int>(request.file), request);
    if (!files_.empty()) entry->flags |= IOSQE_FIXED_FILE;
    ++on_ring_;
  }
}

void TransferRing::fail_pending() noexcept {
  // Requests that the kernel still has keep their buffers: only those that it never had can fail
  // here.
  while (Request* const request = pending_.pop()) {
    request->sys_errno = broken_errno_;
    done_.push(*request);
  }
}

void TransferRing::arm_wake() noexcept {
  if (is_wake_armed_ || broken_errno_ != 0) return;
  io_uring_sqe* const entry = ::io_uring_get_sqe(&uring_->ring());
  if (entry == nullptr) return;
  ::io_uring_prep_poll_add(entry, wake_fd_.get(), POLLIN);
  ::io_uring_sqe_set_data64(entry, kWakeCompletion);
  is_wake_armed_ = true;
}

void TransferRing::submit_to_kernel() noexcept {
  if (broken_errno_ != 0 || ::io_uring_sq_ready(&uring_->ring()) == 0) return;
  note_enter_result(::io_uring_submit_and_get_events(&uring_->ring()));
}

void TransferRing::note_enter_result(int result) noexcept {
  if (!is_transient_enter_result(result)) break_down(-result);
}

/// Takes the completions that are there. They leave the ring before anything else looks at them.
void TransferRing::collect() noexcept {
  struct Completion {
    std::uint64_t user_data;
    std::int32_t result;
  };
  std::array<io_uring_cqe*, kCompletionsAtOnce> entries{};
  std::array<Completion, kCompletionsAtOnce> completions{};
  for (;;) {
    const unsigned count =
        ::io_uring_peek_batch_cqe(&uring_->ring(), entries.data(), kCompletionsAtOnce);
    if (count == 0) return;
    for (unsigned i = 0; i < count; ++i) {
      completions[i] = {::io_uring_cqe_get_data64(entries[i]), entries[i]->res};
    }
    ::io_uring_cq_advance(&uring_->ring(), count);
    for (unsigned i = 0; i < count; ++i) take(completions[i].user_data, completions[i].result);
  }
}

void TransferRing::take(std::uint64_t user_data, std::int32_t result) noexcept {
  if (user_data == kTimeoutCompletion) return;
  if (user_data == kWakeCompletion) {
    is_wake_armed_ = false;
    wake_fd_.drain();
    return;
  }
  --on_ring_;
  // The kernel hands back the address that prepare_transfer() gave it.
  Request& request = *reinterpret_cast<Request*>(user_data);  // NOLINT(performance-no-int-to-ptr)
  if (advance_transfer(request, result, alignment_) == TransferStep::kEnded) {
    done_.push(request);
  } else {
    pending_.push_front(request);
  }
}

}  // namespace larder::io
