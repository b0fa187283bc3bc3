#include "larder/io/thread_device.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/io/transfer.h"

namespace larder::io {

namespace {

// Which of device_words holds the descriptor, so that workers need not look into the file table.
constexpr std::size_t kDescriptor = 2;

}  // namespace

Result<std::unique_ptr<ThreadDevice>> ThreadDevice::create(const DeviceOptions& options,
                                                           PosixDirectory&& directory,
                                                           const std::string& degraded_why) {
  std::unique_ptr<ThreadDevice> device{new ThreadDevice(std::move(directory), degraded_why)};
  const std::uint32_t threads = std::min(options.threads, options.depth);
  for (std::uint32_t i = 0; i < threads; ++i) {
    LARDER_ASSIGN(Thread thread,
                  Thread::start("larder-io", [self = device.get()] { self->work(); }));
    device->threads_.push_back(std::move(thread));
  }
  return device;
}

ThreadDevice::ThreadDevice(PosixDirectory&& directory, const std::string& degraded_why)
    : info_(directory.device_info()), directory_(std::move(directory)) {
  info_.backend = "threads";
  if (degraded_why.empty()) return;
  if (!info_.degraded_why.empty()) info_.degraded_why += "; ";
  info_.degraded_why += degraded_why;
}

ThreadDevice::~ThreadDevice() {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
    queue_.clear();
  }
  work_arrived_.notify_all();
  threads_.clear();
}

void ThreadDevice::submit(Request& request) noexcept {
  directory_.request_begins(request.file);
  request.device_words[kDescriptor] = static_cast<std::uint64_t>(directory_.fd_of(request.file));
  if (begin_transfer(request) == TransferStep::kContinue) {
    submitted_.push(request);
    return;
  }
  const MutexLock lock{mutex_};
  done_.push(request);
}

void ThreadDevice::hand_over() noexcept {
  if (submitted_.empty()) return;
  std::size_t count = 0;
  {
    const MutexLock lock{mutex_};
    while (Request* const request = submitted_.pop()) {
      queue_.push(*request);
      ++count;
    }
  }
  if (count >= threads_.size()) {
    work_arrived_.notify_all();
  } else {
    for (; count > 0; --count) work_arrived_.notify_one();
  }
}

std::size_t ThreadDevice::reap(std::span<Request*> done) noexcept {
  hand_over();
  std::size_t count = 0;
  {
    const MutexLock lock{mutex_};
    while (count < done.size() && !done_.empty()) done[count++] = done_.pop();
  }
  for (std::size_t i = 0; i < count; ++i) directory_.request_ended(done[i]->file);
  directory_.close_retired([](FileId) {});
  return count;
}

void ThreadDevice::wait(std::uint64_t until_ns) noexcept {
  hand_over();
  const MutexLock lock{mutex_};
  while (done_.empty() && !is_woken_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) break;
    static_cast<void>(something_ended_.wait_for(mutex_, until_ns - now_ns));
  }
  is_woken_ = false;
}

void ThreadDevice::wake() noexcept {
  {
    const MutexLock lock{mutex_};
    is_woken_ = true;
  }
  something_ended_.notify_one();
}

void ThreadDevice::work() noexcept {
  for (;;) {
    Request* request = nullptr;
    {
      const MutexLock lock{mutex_};
      while (!is_stopping_ && queue_.empty()) work_arrived_.wait(mutex_);
      if (is_stopping_) return;
      request = queue_.pop();
    }
    run_transfer(*request, static_cast<int>(request->device_words[kDescriptor]), info_.alignment);
    {
      const MutexLock lock{mutex_};
      done_.push(*request);
    }
    something_ended_.notify_one();
  }
}

}  // namespace larder::io
