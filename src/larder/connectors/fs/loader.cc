#include "larder/connectors/fs/loader.h"

#include <new>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"

namespace larder::fs {
namespace {

constexpr std::size_t kDoneAtOnce = 16;
constexpr std::uint64_t kLookAgainNs = 1'000'000'000;

CallOptions options_of(const Batch& batch) noexcept {
  return {batch.deadline_ns, batch.set_mode, batch.allow_shorter};
}

}  // namespace

Loader::Loader(FileStore& store, TileScheduler& scheduler, ByteBudget& budget, bool has_ring)
    : store_(store), scheduler_(scheduler), budget_(budget), jobs_(kFlightsMax + 1) {
  for (Job& job : jobs_) free_jobs_.push_back(&job);
  if (!has_ring) return;
  auto ring =
      io::TransferRing::create({.depth = kFlightsMax, .alignment = store.facts().alignment});
  if (!ring) {
    log(LogLevel::kWarning, "fs", "reads go without io_uring: " + ring.error().to_string());
    return;
  }
  ring_ = std::move(*ring);
  flights_.resize(kFlightsMax);
  for (Flight& flight : flights_) free_.push_back(&flight);
}

Loader::~Loader() = default;

Loader::Job& Loader::new_job(const Ticket& tile) noexcept {
  Job& job = *free_jobs_.back();  // Each of the others has a flight.
  free_jobs_.pop_back();
  job = {tile, 1};
  return job;
}

void Loader::release(Job& job) noexcept {
  if (--job.parts != 0) return;
  scheduler_.intake().finish(job.tile);
  free_jobs_.push_back(&job);
}

void Loader::begin(Job& job, Item& item, std::uint64_t bytes) noexcept {
  bool is_in_flight = false;
  Status status;
  try {
    status = ring_ == nullptr ? store_.get(item, options_of(*job.tile.batch), staging_)
                              : begin_read(job, item, bytes, is_in_flight);
  } catch (const std::bad_alloc&) {
    status = Error{ErrorCode::kResourceExhausted, "fs", "the process has no memory left"};
  } catch (...) {
    status = Error{ErrorCode::kInternal, "fs", "an unknown exception"};
  }
  if (is_in_flight) return;
  if (ring_ != nullptr) store_.note_get(item, status);
  end_item(job, item, status, bytes);
}

Status Loader::begin_read(Job& job, Item& item, std::uint64_t bytes, bool& is_in_flight) {
  LARDER_ASSIGN(std::optional<FileStore::OpenValue> value,
                store_.open_value(item, options_of(*job.tile.batch)));
  if (!value) return {};
  Flight& flight = *free_.back();
  flight.value = std::move(*value);
  flight.transfer.emplace(item.value, item.value_bytes, flight.value.alignment);
  flight.job = &job;
  flight.item = &item;
  if (flight.transfer->straight_bytes() == 0) {
    const Status read = end_read(flight);
    flight.value.fd.reset();
    return read;
  }
  free_.pop_back();
  ++job.parts;
  flight.bytes = bytes;
  flight.request = {};
  flight.request.user_data = &flight;
  flight.transfer->make_straight_read(flight.value.fd.get(), flight.request);
  is_in_flight = true;
  ring_->submit(flight.request);
  return {};
}

void Loader::reap() noexcept {
  std::array<io::Request*, kDoneAtOnce> done{};
  end(std::span{done}.first(ring_->reap(done)));
}

void Loader::wait() noexcept {
  std::array<io::Request*, kDoneAtOnce> done{};
  std::size_t count = 0;
  while (count == 0) {
    ring_->wait(RealClock::instance().now_ns() + kLookAgainNs);
    count = ring_->reap(done);
  }
  end(std::span{done}.first(count));
}

void Loader::end(std::span<io::Request*> done) noexcept {
  for (io::Request* const request : done) {
    Flight& flight = *static_cast<Flight*>(request->user_data);
    Item& item = *flight.item;
    Status status;
    try {
      status = end_read(flight);
    } catch (...) {
      status = Error{ErrorCode::kResourceExhausted, "fs", "the process has no memory left"};
    }
    flight.value.fd.reset();
    free_.push_back(&flight);
    store_.note_get(item, status);
    end_item(*flight.job, item, status, flight.bytes);
    release(*flight.job);
  }
}

/// After the straight part, if there is one.
Status Loader::end_read(Flight& flight) {
  Status read = flight.transfer->straight_bytes() == 0
                    ? Status{}
                    : flight.transfer->check_straight(flight.request);
  if (read) {
    read = flight.transfer->read_rest(flight.value.fd.get(), staging_, store_.counters());
  }
  if (!read && store_.falls_back(flight.value, read.error())) {
    ValueTransfer buffered{flight.item->value, flight.item->value_bytes, io::Alignment{}};
    read = buffered.read_straight(flight.value.fd.get());
  }
  if (read) read = store_.finish_get(*flight.item, flight.value);
  return read;
}

void Loader::end_item(const Job& job, Item& item, const Status& status,
                      std::uint64_t bytes) noexcept {
  budget_.give_back(bytes);
  scheduler_.intake().end(*job.tile.batch, item, status);
}

}  // namespace larder::fs
