#include "larder/tools/bench_ceiling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/base/clock.h"
#include "larder/tools/fio_runner.h"
#include "larder/tools/value_pattern.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kSearchBytes = std::uint64_t{512} << 20;

class FioCeiling final : public BenchCeiling {
 public:
  FioCeiling(FioFile file, FioJob job, bool is_first_turn, const std::atomic<bool>& stop)
      : file_(std::move(file)), job_(std::move(job)), is_first_turn_(is_first_turn), stop_(stop) {
    job_.is_direct = file_.is_direct();
  }

  std::string label() const override {
    return "fio " + job_.engine.label() + (file_.is_direct() ? "" : ", page cache");
  }

  SetupResult<CeilingPass> measure() override {
    LARDER_ASSIGN(const FioResult result, run_next(job_));
    CeilingPass pass;
    pass.gb_per_second = result.gb_per_second;
    pass.cpu_seconds_per_gb = result.cpu_seconds / (static_cast<double>(result.bytes) / 1e9);
    pass.latency_p50_ns = result.latency_p50_ns;
    return pass;
  }

  /// Tries every engine and keeps the fastest. Fails when none works.
  SetupStatus search(const std::vector<FioEngine>& engines, std::uint64_t bytes,
                     std::map<std::string, double>& found, Progress& progress) {
    SetupError last_error;
    double best = 0;
    FioEngine best_engine;
    for (std::size_t i = 0; i < engines.size() && !stop_.load(std::memory_order_relaxed); ++i) {
      progress.update(i, engines.size(), engines[i].label());
      FioJob job = job_;
      job.engine = engines[i];
      job.bytes = bytes;
      const auto result = run_next(job);
      if (!result) {
        last_error = result.error();  // E.g. io_uring is forbidden here: the others count.
        continue;
      }
      found[engines[i].label()] = result->gb_per_second;
      if (result->gb_per_second <= best) continue;
      best = result->gb_per_second;
      best_engine = engines[i];
    }
    if (best <= 0) return last_error;
    job_.engine = best_engine;
    return {};
  }

 private:
  SetupResult<FioResult> run_next(FioJob job) {
    job.offset = offset_;
    auto result = run_fio(job, file_.path(), stop_);
    if (is_first_turn_)
      offset_ += job.bytes;  // Each run finds blocks that no other one has written.
    return result;
  }

  FioFile file_;
  FioJob job_;
  const bool is_first_turn_;
  const std::atomic<bool>& stop_;
  std::uint64_t offset_ = 0;
};

class MemcpyCeiling final : public BenchCeiling {
 public:
  MemcpyCeiling(AlignedBuffer source, AlignedBuffer target, std::uint64_t value_bytes,
                std::uint64_t keys)
      : source_(std::move(source)),
        target_(std::move(target)),
        value_bytes_(value_bytes),
        keys_(keys) {}

  std::string label() const override { return "memcpy, 1 thread"; }

  SetupResult<CeilingPass> measure() override {
    const std::uint64_t sources = source_.size() / value_bytes_;
    const std::uint64_t targets = target_.size() / value_bytes_;
    const std::uint64_t begin = RealClock::instance().now_ns();
    for (std::uint64_t key = 0; key < keys_; ++key) {
      std::memcpy(target_.data() + key % targets * value_bytes_,
                  source_.data() + key % sources * value_bytes_, value_bytes_);
    }
    const std::uint64_t took = std::max<std::uint64_t>(1, RealClock::instance().now_ns() - begin);
    CeilingPass pass;
    pass.gb_per_second = static_cast<double>(keys_ * value_bytes_) / static_cast<double>(took);
    pass.cpu_seconds_per_gb = 1 / pass.gb_per_second;
    pass.latency_p50_ns = took / keys_;
    return pass;
  }

 private:
  AlignedBuffer source_;
  AlignedBuffer target_;
  const std::uint64_t value_bytes_;
  const std::uint64_t keys_;
};

FioDirection direction_of(BenchMode mode) {
  if (mode == BenchMode::kStore) return FioDirection::kWrite;
  return mode == BenchMode::kMixed ? FioDirection::kMixed : FioDirection::kRandomRead;
}

}  // namespace

SetupResult<std::unique_ptr<BenchCeiling>> make_fio_ceiling(
    const BenchOptions& options, const std::string& directory, std::uint64_t value_bytes,
    std::uint64_t keys, bool has_huge_pages, std::map<std::string, double>& search,
    Progress& progress, const std::atomic<bool>& stop) {
  FioJob job;
  job.has_huge_pages = has_huge_pages;
  job.direction = direction_of(options.mode);
  job.read_percent = options.load_percent;
  job.block_bytes = (value_bytes + kBlock - 1) / kBlock * kBlock;  // Direct I/O takes no less.
  job.bytes = keys * job.block_bytes;
  job.engine = {"psync", 1, 1};
  const std::uint64_t search_bytes = std::max(
      job.block_bytes, std::min(job.bytes, kSearchBytes) / job.block_bytes * job.block_bytes);
  const bool is_searched = options.mode != BenchMode::kLatency;
  const auto engines =
      is_searched ? fio_candidates(job.block_bytes, search_bytes) : std::vector<FioEngine>{};
  const bool is_first_turn = options.mode == BenchMode::kStore && options.is_first_turn;
  const std::uint64_t file_bytes =
      is_first_turn ? options.pairs * job.bytes + engines.size() * search_bytes : job.bytes;
  progress.retitle("writing fio's file");
  progress.update(0, 1, "");
  LARDER_ASSIGN(FioFile file, FioFile::create(directory, file_bytes,
                                              is_first_turn ? FioFile::State::kNeverWritten
                                                            : FioFile::State::kWritten));
  auto ceiling = std::make_unique<FioCeiling>(std::move(file), job, is_first_turn, stop);
  progress.retitle("looking for fio's best");
  if (is_searched) LARDER_TRY(ceiling->search(engines, search_bytes, search, progress));
  return SetupResult<std::unique_ptr<BenchCeiling>>{std::move(ceiling)};
}

std::optional<std::uint64_t> huge_pages_missing(const BenchOptions& options,
                                                std::uint64_t value_bytes) {
  const auto engines = options.mode == BenchMode::kLatency
                           ? std::vector<FioEngine>{{"psync", 1, 1}}
                           : fio_candidates(value_bytes, kSearchBytes);
  if (huge_pages_suffice(engines, value_bytes)) return std::nullopt;
  return huge_pages_wanted(engines, value_bytes);
}

SetupResult<std::unique_ptr<BenchCeiling>> make_memcpy_ceiling(std::uint64_t value_bytes,
                                                               std::uint64_t keys) {
  constexpr std::uint64_t kSourceBytesMax = std::uint64_t{1} << 30;
  const std::uint64_t sources =
      std::max<std::uint64_t>(1, std::min(keys, kSourceBytesMax / value_bytes));
  auto source = AlignedBuffer::create(sources * value_bytes, kBlock);
  auto target = AlignedBuffer::create(std::min<std::uint64_t>(sources, 16) * value_bytes, kBlock);
  if (!source || !target) {
    return SetupError{ErrorCode::kResourceExhausted, "no memory to measure memcpy in"};
  }
  ValuePattern{}.fill(1, source->span());
  ValuePattern{}.fill(2, target->span());
  return SetupResult<std::unique_ptr<BenchCeiling>>{
      std::make_unique<MemcpyCeiling>(std::move(*source), std::move(*target), value_bytes, keys)};
}

}  // namespace larder::tools
