#include "larder/tools/top_source.h"

#include <algorithm>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/tools/metric_samples.h"
#include "larder/tools/metrics_source.h"

namespace larder::tools {
namespace {

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

}  // namespace

SetupResult<TopSample> read_top_sample(const std::string& target,
                                       std::chrono::milliseconds timeout) {
  if (target == "-") {
    return SetupError{ErrorCode::kInvalidArgument,
                      "-: standard input has one sample and no more; larder stats - shows it"};
  }
  const std::uint64_t until_ns = now_ns() + static_cast<std::uint64_t>(timeout.count()) * 1'000'000;
  LARDER_ASSIGN(const std::string text, read_metrics(target, timeout));
  const double at_s = static_cast<double>(now_ns()) / 1e9;
  auto samples = read_samples(text);
  if (!samples) {
    return SetupError{samples.error().code, printable(target) + ": " + samples.error().text};
  }
  TopSample sample{.scrape = Scrape{*std::move(samples), at_s}};
  if (!sample.scrape.has("server_info")) return sample;
  // A port for Prometheus alone has no other pages, and an older server may lack one.
  const auto page = [&](const char* path) -> std::optional<std::string> {
    const std::uint64_t now = now_ns();
    if (now >= until_ns) return std::nullopt;
    const std::chrono::nanoseconds left{until_ns - now};
    auto answer =
        read_page(target, path, std::chrono::duration_cast<std::chrono::milliseconds>(left));
    return answer ? std::optional{*std::move(answer)} : std::nullopt;
  };
  if (const auto degraded = page("/degraded")) sample.reasons = parse_degraded(*degraded);
  if (const auto status = page("/status")) sample.status = parse_status(*status);
  return sample;
}

SetupResult<std::unique_ptr<TopSource>> TopSource::start(std::string target,
                                                         std::chrono::milliseconds timeout) {
  auto fd = EventFd::create();
  if (!fd) return SetupError{fd.error().code(), fd.error().to_string()};
  auto thread = CallThread::start("larder-top");
  if (!thread) return SetupError{thread.error().code(), thread.error().to_string()};
  // The constructor is private.
  return std::unique_ptr<TopSource>{new TopSource{
      std::move(target), timeout, std::make_shared<Shared>(*std::move(fd)), *std::move(thread)}};
}

TopSource::TopSource(std::string target, std::chrono::milliseconds timeout,
                     std::shared_ptr<Shared> shared, std::unique_ptr<CallThread> thread)
    : target_(std::move(target)),
      timeout_(timeout),
      shared_(std::move(shared)),
      thread_(std::move(thread)) {}

void TopSource::begin() {
  is_busy_ = true;
  thread_->begin({.run =
                      [shared = shared_, target = target_, timeout = timeout_] {
                        auto sample = read_top_sample(target, timeout);
                        const MutexLock lock{shared->mutex};
                        shared->sample = std::move(sample);
                      },
                  .on_end = [shared = shared_](bool) { shared->ended.signal(); }});
}

int TopSource::fd() const noexcept {
  return shared_->ended.get();
}

std::optional<SetupResult<TopSample>> TopSource::take() {
  shared_->ended.drain();
  if (!is_busy_ || !thread_->has_ended()) return std::nullopt;
  is_busy_ = false;
  const MutexLock lock{shared_->mutex};
  return std::exchange(shared_->sample, std::nullopt);
}

}  // namespace larder::tools
