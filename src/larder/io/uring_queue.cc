#include "larder/io/uring_queue.h"

namespace larder::io {

Result<std::unique_ptr<UringQueue>> UringQueue::create(const DeviceOptions& options,
                                                       const Alignment& alignment) {
  LARDER_ASSIGN(auto ring, TransferRing::create({.depth = options.depth,
                                                 .files_max = options.files_max,
                                                 .alignment = alignment}));
  const std::size_t files_max = ring->files_max();
  return std::unique_ptr<UringQueue>{new UringQueue(files_max, std::move(ring))};
}

void UringQueue::submit(Request& request) noexcept {
  note_submitted(request.file);
  ring_->submit(request);
}

std::size_t UringQueue::reap(std::span<Request*> done) noexcept {
  const std::size_t count = ring_->reap(done);
  note_returned(done.first(count));
  return count;
}

}  // namespace larder::io
