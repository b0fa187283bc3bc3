#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "larder/server/copy/copy_test_support.h"
#include "larder/server/copy/cpu_copy_backend.h"

/// The common parts of a backend's tests.
namespace larder::server {

inline constexpr std::uint32_t kTestChunkTokens = 16;

/// Waits for jobs, each of which must come back once, and no other. `order` is how they came.
inline void reap_all(CopyBackend& backend, std::vector<CopyJob*> jobs,
                     std::vector<CopyJob*>* order = nullptr) {
  while (!jobs.empty()) {
    ::pollfd ready{.fd = backend.event_fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&ready, 1, 60'000), 1) << jobs.size() << " jobs never came back";
    std::array<CopyJob*, 7> done{};
    const std::size_t count = backend.reap(done);
    for (std::size_t i = 0; i < count; ++i) {
      const auto found = std::ranges::find(jobs, done[i]);
      ASSERT_NE(found, jobs.end());
      jobs.erase(found);
      if (order != nullptr) order->push_back(done[i]);
    }
  }
}

inline CopyOutcome run(CopyBackend& backend, CopyJob& job) {
  const Status status = backend.submit(job);
  EXPECT_TRUE(status) << status.error().to_string();
  if (!status) return CopyOutcome::kFailed;
  reap_all(backend, {&job});
  return job.outcome;
}

/// A worker whose tensors are real segments, mapped by a backend.
class MappedWorker {
 public:
  /// The names of the sample's tensors are replaced; tensors of one name share a segment.
  MappedWorker(CopyBackend& backend, const std::string& directory, KvCacheSample sample,
               bool has_separate_groups = true)
      : backend_(backend) {
    std::map<std::string, const TestSegment*> by_name;
    for (TensorSample& tensor : sample.tensors) {
      const TestSegment*& segment = by_name[tensor.name];
      if (segment == nullptr) segment = &segments_.emplace_back(directory, tensor.bytes);
      tensor.name = segment->name();
    }
    auto plan = Worker{sample}.plan(
        {.chunk_tokens = kTestChunkTokens, .has_separate_groups = has_separate_groups});
    EXPECT_TRUE(plan) << plan.error().to_string();
    if (plan) plan_ = std::make_shared<const CopyPlan>(std::move(*plan));
    CopyJob job{.op = CopyOp::kMap, .plan = plan_};
    EXPECT_EQ(run(backend, job), CopyOutcome::kDone) << job.reason;
    view_ = job.view;
  }
  ~MappedWorker() {
    if (view_ != ViewId::kNone) unmap();
  }
  MappedWorker(const MappedWorker&) = delete;
  MappedWorker& operator=(const MappedWorker&) = delete;

  void unmap() {
    CopyJob job{.op = CopyOp::kUnmap, .view = view_};
    EXPECT_EQ(run(backend_, job), CopyOutcome::kDone);
    view_ = ViewId::kNone;
  }

  ViewId view() const { return view_; }
  /// It has ended in another way.
  void forget() { view_ = ViewId::kNone; }
  const CopyPlan& plan() const { return *plan_; }
  std::deque<TestSegment>& segments() { return segments_; }

 private:
  CopyBackend& backend_;
  std::deque<TestSegment> segments_;
  std::shared_ptr<const CopyPlan> plan_;
  ViewId view_ = ViewId::kNone;
};

}  // namespace larder::server
