#include "larder/io/uring_device.h"

#include <utility>

namespace larder::io {

Result<std::unique_ptr<UringDevice>> UringDevice::create(const DeviceOptions& options,
                                                         PosixDirectory& directory) {
  LARDER_ASSIGN(auto ring, TransferRing::create({.depth = options.depth,
                                                 .files_max = options.files_max,
                                                 .alignment = directory.device_info().alignment}));
  return std::unique_ptr<UringDevice>{new UringDevice(std::move(directory), std::move(ring))};
}

UringDevice::UringDevice(PosixDirectory&& directory, std::unique_ptr<TransferRing> ring)
    : info_(directory.device_info()), directory_(std::move(directory)), ring_(std::move(ring)) {
  info_.backend = "uring";
}

Result<FileId> UringDevice::open(std::string_view name, OpenMode mode) {
  LARDER_ASSIGN(const FileId file, directory_.open_file(name, mode));
  Status status = Error{ErrorCode::kResourceExhausted, "io_uring", "the file table is full"};
  if (file < ring_->files_max()) status = ring_->set_file(file, directory_.fd_of(file));
  if (status) return file;
  directory_.close(file);
  if (mode == OpenMode::kCreate) directory_.remove(name).ignore("the first error counts");
  return status.error();
}

void UringDevice::close(FileId file) noexcept {
  if (directory_.close(file)) ring_->set_file(file, -1).ignore("the next open() replaces it");
}

void UringDevice::submit(Request& request) noexcept {
  directory_.request_begins(request.file);
  ring_->submit(request);
}

std::size_t UringDevice::reap(std::span<Request*> done) noexcept {
  const std::size_t count = ring_->reap(done);
  for (const Request* const request : done.first(count)) directory_.request_ended(request->file);
  directory_.close_retired(
      [this](FileId file) { ring_->set_file(file, -1).ignore("the next open() replaces it"); });
  return count;
}

}  // namespace larder::io
