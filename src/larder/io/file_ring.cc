#include "larder/io/file_ring.h"

#include <liburing.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "larder/base/logging.h"
#include "larder/io/transfer.h"
#include "larder/io/uring.h"
#include "larder/io/uring_probe.h"

namespace larder::io {
namespace {

constexpr unsigned kCompletionsAtOnce = 32;

}  // namespace

Result<std::unique_ptr<FileRing>> FileRing::create(std::uint32_t depth,
                                                   const Alignment& alignment) {
  constexpr std::uint32_t kNoFiles = 0;  // Descriptors come with the requests.
  LARDER_ASSIGN(auto uring, Uring::create(depth, kNoFiles));
  LARDER_TRY(uring->enable());
  return std::unique_ptr<FileRing>{new FileRing{std::move(uring), depth, alignment}};
}

FileRing::FileRing(std::unique_ptr<Uring> uring, std::uint32_t depth,
                   const Alignment& alignment) noexcept
    : uring_(std::move(uring)), depth_(depth), alignment_(alignment) {}

FileRing::~FileRing() {
  uring_->set_in_flight(on_ring_);
}

void FileRing::submit(Request& request) noexcept {
  ++in_flight_;
  (begin_transfer(request) == TransferStep::kEnded ? done_ : pending_).push(request);
}

std::size_t FileRing::reap(std::span<Request*> done) noexcept {
  feed();
  if (broken_errno_ == 0 && on_ring_ > 0) {
    note_enter_result(::io_uring_submit_and_get_events(&uring_->ring()));
  }
  collect();
  return give_back(done);
}

std::size_t FileRing::wait(std::span<Request*> done) noexcept {
  std::size_t count = reap(done);
  while (count == 0 && in_flight_ > 0) {
    feed();
    if (broken_errno_ == 0 && on_ring_ > 0) {
      note_enter_result(::io_uring_submit_and_wait(&uring_->ring(), 1));
    }
    collect();
    count = give_back(done);
  }
  return count;
}

void FileRing::feed() noexcept {
  if (broken_errno_ != 0) {
    // Whatever the kernel still has keeps its buffers: only what it never had can fail here.
    while (Request* const request = pending_.pop()) {
      request->sys_errno = broken_errno_;
      done_.push(*request);
    }
    return;
  }
  while (on_ring_ < depth_ && !pending_.empty()) {
    io_uring_sqe* const entry = ::io_uring_get_sqe(&uring_->ring());
    if (entry == nullptr) return;
    Request& request = *pending_.pop();
    prepare_transfer(*entry, static_cast<int>(request.file), request);
    ++on_ring_;
  }
}

void FileRing::collect() noexcept {
  std::array<io_uring_cqe*, kCompletionsAtOnce> entries{};
  for (;;) {
    const unsigned count =
        ::io_uring_peek_batch_cqe(&uring_->ring(), entries.data(), kCompletionsAtOnce);
    if (count == 0) return;
    for (unsigned i = 0; i < count; ++i) {
      auto& request = *static_cast<Request*>(::io_uring_cqe_get_data(entries[i]));
      const bool is_ended =
          advance_transfer(request, entries[i]->res, alignment_) == TransferStep::kEnded;
      --on_ring_;
      if (is_ended) {
        done_.push(request);
      } else {
        pending_.push_front(request);
      }
    }
    ::io_uring_cq_advance(&uring_->ring(), count);
  }
}

void FileRing::note_enter_result(int result) noexcept {
  if (is_transient_enter_result(result)) return;
  broken_errno_ = -result;
  log(LogLevel::kError, "io", "io_uring stopped working: every request fails from now on");
}

std::size_t FileRing::give_back(std::span<Request*> done) noexcept {
  std::size_t count = 0;
  while (count < done.size() && !done_.empty()) {
    done[count++] = done_.pop();
    --in_flight_;
  }
  return count;
}

SetupResult<RingChoice> choose_ring() {
  const char* const value = std::getenv("LARDER_IO");
  const std::string_view text = value == nullptr ? "" : value;
  if (text == "threads") return RingChoice{false, ""};
  if (!text.empty() && text != "uring") {
    return SetupError{ErrorCode::kInvalidArgument, "LARDER_IO is '" + std::string{text} +
                                                       "'; it can be 'uring', 'threads' or unset"};
  }
  const Status probed = probe_uring();
  if (probed) return RingChoice{true, ""};
  const std::string why = "io_uring is not to be had: " + probed.error().to_string();
  // A lack of the moment must not cost speed for good.
  const int sys_errno = probed.error().sys_errno();
  if (sys_errno == EMFILE || sys_errno == ENFILE) return SetupError{probed.error().code(), why};
  if (text == "uring") return SetupError{probed.error().code(), "LARDER_IO=uring: " + why};
  return RingChoice{false, why};
}

void transfer_here(Request& request, const Alignment& alignment) noexcept {
  TransferStep step = begin_transfer(request);
  const int fd = static_cast<int>(request.file);
  while (step == TransferStep::kContinue) {
    const std::span<iovec> buffers = remaining_buffers(request);
    const auto count = static_cast<int>(buffers.size());
    const auto offset = static_cast<off_t>(request.offset + request.bytes_done);
    const ssize_t moved = request.operation == Operation::kRead
                              ? ::preadv(fd, buffers.data(), count, offset)
                              : ::pwritev(fd, buffers.data(), count, offset);
    step = advance_transfer(request, moved < 0 ? -errno : moved, alignment);
  }
}

}  // namespace larder::io
