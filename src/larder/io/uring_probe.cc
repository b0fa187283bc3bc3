#include "larder/io/uring_probe.h"

#include <cstdlib>
#include <memory>
#include <string_view>

#include "larder/io/uring.h"

namespace larder::io {

Status probe_uring() {
  constexpr unsigned kEntries = 4;
  constexpr std::uint32_t kFiles = 4;
  LARDER_ASSIGN(const std::unique_ptr<Uring> uring, Uring::create(kEntries, kFiles));
  LARDER_TRY(uring->enable());
  io_uring_sqe* const entry = ::io_uring_get_sqe(&uring->ring());
  if (entry == nullptr) return Error{ErrorCode::kInternal, "io_uring", "a new ring is full"};
  ::io_uring_prep_nop(entry);
  if (const int submitted = ::io_uring_submit_and_wait(&uring->ring(), 1); submitted < 0) {
    return Error::from_errno(submitted, "io_uring", "submitting a request");
  }
  io_uring_cqe* completion = nullptr;
  if (const int result = ::io_uring_wait_cqe(&uring->ring(), &completion); result < 0) {
    return Error::from_errno(result, "io_uring", "waiting for a request");
  }
  ::io_uring_cqe_seen(&uring->ring(), completion);
  return {};
}

SetupResult<UringWish> uring_wish() {
  const char* const value = std::getenv("LARDER_IO");
  const std::string_view text = value == nullptr ? "" : value;
  if (text.empty()) return UringWish::kIfPossible;
  if (text == "uring") return UringWish::kRequired;
  if (text == "threads") return UringWish::kNever;
  return SetupError{ErrorCode::kInvalidArgument, "LARDER_IO is '" + std::string{text} +
                                                     "'; it can be 'uring', 'threads' or unset"};
}

SetupResult<RingChoice> choose_ring() {
  LARDER_ASSIGN(const UringWish wish, uring_wish());
  if (wish == UringWish::kNever) return RingChoice{};
  const Status probed = probe_uring();
  if (probed) return RingChoice{.has_ring = true, .why_not = {}};
  const std::string why = "io_uring is not to be had: " + probed.error().to_string();
  // A lack of the moment must not cost speed for good.
  if (lacks_descriptors(probed.error().sys_errno())) return SetupError{probed.error().code(), why};
  if (wish == UringWish::kRequired) {
    return SetupError{probed.error().code(), "LARDER_IO=uring: " + why};
  }
  return RingChoice{.has_ring = false, .why_not = why};
}

}  // namespace larder::io
