#include "larder/server/copy/cpu_copy_backend.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>

#include "larder/base/random.h"
#include "larder/server/copy/backend_test_support.h"

namespace larder::server {
namespace {

constexpr std::size_t kPage = 4096;

/// Layers of 64 blocks of 4 tokens, one cell 1 KiB.
KvCacheSample small_sample() {
  KvCacheSample sample;
  sample.tensors = make_tensors(2, {2, 64, 4, 2, 4});
  return sample;
}

/// One layer of `blocks` blocks of a page in each plane: a cell of 4 blocks is 32 KiB.
KvCacheSample page_sample(std::uint64_t blocks) {
  KvCacheSample sample;
  sample.tensors = make_tensors(1, {2, blocks, 4, 8, 64});
  return sample;
}

class CpuCopyBackendTest : public ::testing::Test {
 protected:
  explicit CpuCopyBackendTest(std::uint32_t jobs_max = 64) {
    CpuCopyOptions options{.threads = 2, .jobs_max = jobs_max};
    options.before_cell = [this] {
      in_hand_.release();
      if (is_shut_) go_.acquire();
    };
    auto made = CpuCopyBackend::create(options, clock_);
    EXPECT_TRUE(made) << made.error().text;
    backend_ = std::move(*made);
    EXPECT_TRUE(backend_->prepare_arena(arena_));
  }

  ErrorCode submit_error(CopyJob& job) {
    const Status status = backend_->submit(job);
    return status ? ErrorCode::kNone : status.error().code();
  }

  std::atomic<bool> is_shut_ = false;
  std::counting_semaphore<> in_hand_{0};
  std::counting_semaphore<> go_{0};
  ManualClock clock_;
  std::vector<std::byte> arena_ = std::vector<std::byte>(std::size_t{1} << 20);
  std::unique_ptr<CpuCopyBackend> backend_;
  const wire::BlockIds blocks_ = make_blocks({{9, 4, 7, 30, 1, 2, 3, 40}});
  const std::vector<JobCell> cells_{{.offset = 4096, .chunk = 0}, {.offset = 0, .chunk = 1}};
};

CopyJob transfer(CopyOp op, ViewId view, const std::vector<JobCell>& cells,
                 const wire::BlockIds& blocks) {
  return {.op = op, .view = view, .cells = cells, .blocks = &blocks};
}

TEST_F(CpuCopyBackendTest, StoresAndRetrieves) {
  MappedWorker from{*backend_, "/dev/shm", small_sample()};
  MappedWorker to{*backend_, "/dev/shm", small_sample()};
  Random random{1};
  for (const TestSegment& segment : from.segments()) random.fill(segment.memory());
  CopyJob store = transfer(CopyOp::kStore, from.view(), cells_, blocks_);
  EXPECT_EQ(run(*backend_, store), CopyOutcome::kDone);
  CopyJob retrieve = transfer(CopyOp::kRetrieve, to.view(), cells_, blocks_);
  EXPECT_EQ(run(*backend_, retrieve), CopyOutcome::kDone);
  // Keys of layer 0, blocks 9 and 40.
  for (const std::size_t block : {9U, 40U}) {
    const auto stored = from.segments()[0].memory().subspan(block * 64, 64);
    const auto got = to.segments()[0].memory().subspan(block * 64, 64);
    EXPECT_TRUE(std::ranges::equal(stored, got)) << block;
    EXPECT_TRUE(
        std::ranges::equal(stored.first(8), std::span{arena_}.subspan(block == 9 ? 4096 : 192, 8)));
  }
  const CopyStatistics statistics = backend_->statistics();
  EXPECT_EQ(statistics.views, 2U);
  EXPECT_EQ(statistics.jobs_in_flight, 0U);
  EXPECT_EQ(statistics.stores, 1U);
  EXPECT_EQ(statistics.retrieves, 1U);
  EXPECT_EQ(statistics.bytes_stored, 2048U);
  EXPECT_EQ(statistics.bytes_retrieved, 2048U);
  EXPECT_EQ(statistics.failed, 0U);
}

TEST_F(CpuCopyBackendTest, NothingBeginsBeyondTheTimeThatItsDriverGave) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  backend_->begin_until(clock_.now_ns());
  CopyJob job = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  ASSERT_TRUE(backend_->submit(job));
  std::array<CopyJob*, 4> done{};
  EXPECT_EQ(backend_->reap(done), 0U);
  EXPECT_FALSE(in_hand_.try_acquire());
  backend_->begin_until(kNever);
  in_hand_.acquire();
  reap_all(*backend_, {&job});
  EXPECT_EQ(job.outcome, CopyOutcome::kDone);
}

TEST_F(CpuCopyBackendTest, AJobCanBeUsedAgain) {
  const MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  CopyJob job = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  job.deadline_ns = clock_.now_ns();
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kFailed);
  EXPECT_EQ(job.error.code(), ErrorCode::kDeadlineExceeded);
  job.deadline_ns = kNever;
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kDone);
  EXPECT_EQ(job.error.code(), ErrorCode::kNone);
  EXPECT_EQ(backend_->statistics().expired, 1U);
}

TEST_F(CpuCopyBackendTest, RefusesWhatCanNeverBeDone) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  const auto error = [&](const std::vector<JobCell>& cells, const wire::BlockIds& blocks) {
    CopyJob job = transfer(CopyOp::kStore, worker.view(), cells, blocks);
    return submit_error(job);
  };
  EXPECT_EQ(error({}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{.offset = arena_.size() - 1023}}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{.offset = ~std::uint64_t{0}}}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{.group = 1}}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{.chunk = 2}}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{}, {.chunk = 0xFFFF'FFFF}}, blocks_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{}}, make_blocks({{1, 2, 3, 64}})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{}}, make_blocks({{1, 2, 3}})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({{}}, make_blocks({{1, 2, 3, 4}, {1}})), ErrorCode::kInvalidArgument);
  CopyJob nowhere = transfer(CopyOp::kStore, ViewId{77}, cells_, blocks_);
  EXPECT_EQ(submit_error(nowhere), ErrorCode::kInvalidArgument);
  CopyJob no_plan{.op = CopyOp::kMap};
  EXPECT_EQ(submit_error(no_plan), ErrorCode::kInvalidArgument);
  CopyJob no_view{.op = CopyOp::kUnmap, .view = ViewId{77}};
  EXPECT_EQ(submit_error(no_view), ErrorCode::kInvalidArgument);
  EXPECT_EQ(backend_->statistics().jobs_in_flight, 0U);
}

TEST_F(CpuCopyBackendTest, SumsBlocks) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  ChecksumRequest request{
      .blocks = {1, 2, 3}, .blocks_per_chunk = 2, .is_by_layer = true, .checksums = {}};
  CopyJob job{.op = CopyOp::kChecksum, .view = worker.view(), .checksums = &request};
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kDone);
  ASSERT_EQ(request.checksums.size(), 4U);
  EXPECT_EQ(request.checksums[0], request.checksums[2]);  // All memory is zeros.
  worker.segments()[0].memory()[64] = std::byte{1};
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kDone);
  EXPECT_NE(request.checksums[0], request.checksums[2]);
  request.blocks = {64};
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kFailed);
  EXPECT_EQ(job.error.code(), ErrorCode::kInvalidArgument);
  job.checksums = nullptr;
  EXPECT_EQ(submit_error(job), ErrorCode::kInvalidArgument);
}

TEST_F(CpuCopyBackendTest, SaysWhyAWorkersMemoryCannotBeMapped) {
  const auto plan = std::make_shared<CopyPlan>();
  plan->memories = {{.name = "/lmcache_kv_1_999999", .bytes = 8192}};
  CopyJob job{.op = CopyOp::kMap, .plan = plan};
  EXPECT_EQ(run(*backend_, job), CopyOutcome::kFailed);
  EXPECT_EQ(job.view, ViewId::kNone);
  EXPECT_NE(job.reason.find("/lmcache_kv_1_999999"), std::string::npos) << job.reason;
  EXPECT_EQ(backend_->statistics().views, 0U);
}

TEST_F(CpuCopyBackendTest, AWorkerThatTruncatesItsMemoryFailsItsOwnTransfersOnly) {
  MappedWorker bad{*backend_, "/dev/shm", page_sample(16)};
  const MappedWorker good{*backend_, "/dev/shm", page_sample(16)};
  // Keys of blocks 0 to 7 stay.
  bad.segments()[0].truncate(8 * kPage);
  const wire::BlockIds blocks = make_blocks({{0, 1, 2, 3, 12, 13, 14, 15}});
  const std::vector<JobCell> cells{{.offset = 0, .chunk = 0}, {.offset = 65536, .chunk = 1}};
  const std::vector<JobCell> others{{.offset = 131072, .chunk = 0}, {.offset = 196608, .chunk = 1}};
  for (int round = 0; round < 3; ++round) {
    for (const CopyOp op : {CopyOp::kStore, CopyOp::kRetrieve}) {
      CopyJob lost = transfer(op, bad.view(), cells, blocks);
      CopyJob kept = transfer(op, good.view(), others, blocks);
      ASSERT_TRUE(backend_->submit(lost));
      ASSERT_TRUE(backend_->submit(kept));
      reap_all(*backend_, {&lost, &kept});
      EXPECT_EQ(lost.outcome, CopyOutcome::kFailed);
      EXPECT_EQ(lost.error.code(), ErrorCode::kIo);
      EXPECT_EQ(kept.outcome, CopyOutcome::kDone);
    }
  }
  EXPECT_GE(backend_->statistics().faults, 6U);
  EXPECT_EQ(backend_->statistics().failed, 6U);
}

/// Both threads are busy with a job of four cells, two of which are in work.
class BusyCopyBackendTest : public CpuCopyBackendTest {
 protected:
  static constexpr std::ptrdiff_t kFree = 1 << 20;

  BusyCopyBackendTest() : CpuCopyBackendTest(4) {}
  void TearDown() override { let_all_go(); }

  void occupy(MappedWorker& worker) {
    is_shut_ = true;
    long_ = transfer(CopyOp::kStore, worker.view(), four_cells_, blocks_);
    ASSERT_TRUE(backend_->submit(long_));
    for (int i = 0; i < 2; ++i) in_hand_.acquire();
  }
  /// Lets one thread end its cell, and take another if there is one.
  void let_one_go() { go_.release(); }
  void let_all_go() {
    is_shut_ = false;
    go_.release(kFree);
  }

  const std::vector<JobCell> four_cells_{
      {.offset = 8192}, {.offset = 9216}, {.offset = 10240}, {.offset = 11264}};
  CopyJob long_;
};

TEST_F(BusyCopyBackendTest, CancelsWhatHasNotBegun) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  occupy(worker);
  CopyJob queued = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  ASSERT_TRUE(backend_->submit(queued));
  backend_->cancel(queued);
  reap_all(*backend_, {&queued});
  EXPECT_EQ(queued.outcome, CopyOutcome::kFailed);
  EXPECT_EQ(queued.error.code(), ErrorCode::kCancelled);
  backend_->cancel(long_);  // Two of its cells never begin.
  backend_->cancel(long_);
  EXPECT_EQ(long_.outcome, CopyOutcome::kPending);
  let_all_go();
  reap_all(*backend_, {&long_});
  EXPECT_EQ(long_.error.code(), ErrorCode::kCancelled);
  EXPECT_EQ(backend_->statistics().cancelled, 2U);
  EXPECT_EQ(backend_->statistics().bytes_stored, 2048U);
}

TEST_F(BusyCopyBackendTest, FailsWhatDoesNotBeginInTime) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  occupy(worker);
  CopyJob late = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  late.deadline_ns = clock_.now_ns() + 30;
  CopyJob later = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  later.deadline_ns = clock_.now_ns() + 20;
  ASSERT_TRUE(backend_->submit(late));
  ASSERT_TRUE(backend_->submit(later));
  clock_.advance_ns(20);
  let_one_go();
  reap_all(*backend_, {&later});
  EXPECT_EQ(later.error.code(), ErrorCode::kDeadlineExceeded);
  clock_.advance_ns(10);
  let_one_go();
  reap_all(*backend_, {&late});
  EXPECT_EQ(late.error.code(), ErrorCode::kDeadlineExceeded);
  let_all_go();
  reap_all(*backend_, {&long_});
  EXPECT_EQ(long_.outcome, CopyOutcome::kDone);
  EXPECT_EQ(backend_->statistics().expired, 2U);
}

TEST_F(BusyCopyBackendTest, RefusesMoreThanItsLimit) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  occupy(worker);
  std::vector<CopyJob> jobs(4, transfer(CopyOp::kStore, worker.view(), cells_, blocks_));
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(backend_->submit(jobs[i]));
  EXPECT_EQ(submit_error(jobs[3]), ErrorCode::kResourceExhausted);
  let_all_go();
  reap_all(*backend_, {&long_, &jobs[0], &jobs[1], &jobs[2]});
  EXPECT_EQ(run(*backend_, jobs[3]), CopyOutcome::kDone);
}

TEST_F(BusyCopyBackendTest, UnmapsBehindTheTransfersThatRun) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  const MappedWorker other{*backend_, "/dev/shm", small_sample()};
  occupy(worker);
  CopyJob queued = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  CopyJob others = transfer(CopyOp::kStore, other.view(), cells_, blocks_);
  CopyJob unmap{.op = CopyOp::kUnmap, .view = worker.view()};
  ASSERT_TRUE(backend_->submit(queued));
  ASSERT_TRUE(backend_->submit(others));
  ASSERT_TRUE(backend_->submit(unmap));
  reap_all(*backend_, {&queued});
  EXPECT_EQ(queued.error.code(), ErrorCode::kCancelled);
  CopyJob refused = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  EXPECT_EQ(submit_error(refused), ErrorCode::kUnavailable);
  CopyJob twice{.op = CopyOp::kUnmap, .view = worker.view()};
  EXPECT_EQ(submit_error(twice), ErrorCode::kUnavailable);
  EXPECT_EQ(backend_->segments().mapped(), 4U);
  let_all_go();
  std::vector<CopyJob*> order;
  reap_all(*backend_, {&long_, &others, &unmap}, &order);
  EXPECT_LT(std::ranges::find(order, &long_), std::ranges::find(order, &unmap));
  EXPECT_EQ(long_.outcome, CopyOutcome::kDone);
  EXPECT_EQ(others.outcome, CopyOutcome::kDone);
  EXPECT_EQ(unmap.outcome, CopyOutcome::kDone);
  EXPECT_EQ(backend_->statistics().views, 1U);
  EXPECT_EQ(backend_->segments().mapped(), 2U);
  worker.forget();
}

TEST_F(BusyCopyBackendTest, StopEndsEverythingButWaitsForWhatRuns) {
  MappedWorker worker{*backend_, "/dev/shm", small_sample()};
  occupy(worker);
  CopyJob queued = transfer(CopyOp::kRetrieve, worker.view(), cells_, blocks_);
  ASSERT_TRUE(backend_->submit(queued));
  const Status early = backend_->stop(0);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code(), ErrorCode::kUnavailable);
  CopyJob refused = transfer(CopyOp::kStore, worker.view(), cells_, blocks_);
  EXPECT_EQ(submit_error(refused), ErrorCode::kUnavailable);
  let_all_go();
  EXPECT_TRUE(backend_->stop(kNever));
  reap_all(*backend_, {&queued, &long_});
  EXPECT_EQ(queued.error.code(), ErrorCode::kCancelled);
  EXPECT_EQ(long_.error.code(), ErrorCode::kCancelled);
  worker.forget();
}

TEST_F(CpuCopyBackendTest, ReregistrationsLeaveNothingMapped) {
  for (int round = 0; round < 50; ++round) {
    const MappedWorker worker{*backend_, "/dev/shm", small_sample()};
    EXPECT_EQ(backend_->segments().mapped(), 2U);
  }
  EXPECT_EQ(backend_->segments().mapped(), 0U);
  EXPECT_EQ(backend_->statistics().views, 0U);
}

TEST(CpuCopyOptionsTest, AreChecked) {
  EXPECT_FALSE(CpuCopyBackend::create({.threads = 0}));
  EXPECT_FALSE(CpuCopyBackend::create({.threads = 1000}));
  EXPECT_FALSE(CpuCopyBackend::create({.jobs_max = 0}));
}

}  // namespace
}  // namespace larder::server
