// The part of SimulatedDisk that runs requests.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "larder/base/check.h"
#include "larder/io/scattered_memory.h"
#include "tests/support/io/simulated_device.h"
#include "tests/support/io/simulated_disk.h"
#include "tests/support/io/simulated_history.h"

namespace larder::io {

std::uint64_t SimulatedDisk::latency_ns() {
  const std::uint64_t longest = std::max(faults_.latency_min_ns, faults_.latency_max_ns);
  return faults_.latency_min_ns + random_.below(longest - faults_.latency_min_ns + 1);
}

std::uint64_t SimulatedDisk::next_event_ns() const noexcept {
  return flights_.empty() ? kNever : flights_.begin()->first.at_ns;
}

void SimulatedDisk::run_due_events() {
  run_events_until(clock_.now_ns());
}

void SimulatedDisk::run_events_until(std::uint64_t time_ns) {
  while (!flights_.empty() && flights_.begin()->first.at_ns <= time_ns) {
    auto node = flights_.extract(flights_.begin());
    run(node.key(), std::move(node.mapped()));
  }
}

void SimulatedDisk::schedule(std::uint64_t at_ns, Flight flight) {
  flights_.emplace(EventTime{at_ns, next_sequence_++}, std::move(flight));
}

bool SimulatedDisk::is_misaligned(const Request& request) const noexcept {
  if (!options_.strict_alignment || request.operation == Operation::kSync) return false;
  const Alignment& alignment = options_.alignment;
  if (request.offset % alignment.offset != 0) return true;
  return std::any_of(request.buffers.begin(), request.buffers.end(), [&](const iovec& buffer) {
    return reinterpret_cast<std::uintptr_t>(buffer.iov_base) % alignment.memory != 0 ||
           buffer.iov_len % alignment.offset != 0;
  });
}

/// A sector boundary inside (progress, limit), from progress itself on where `may_be_nothing`;
/// `limit` where there is none.
std::uint64_t SimulatedDisk::cut_point(const Flight& flight, std::uint64_t limit,
                                       bool may_be_nothing) {
  const std::uint64_t first =
      round_up(flight.offset + flight.progress + 1, kSectorBytes) - flight.offset;
  const std::uint64_t boundaries = first < limit ? (limit - 1 - first) / kSectorBytes + 1 : 0;
  const std::uint64_t choices = boundaries + (may_be_nothing ? 1 : 0);
  if (choices == 0) return limit;
  const std::uint64_t chosen = random_.below(choices);
  if (chosen == boundaries) return flight.progress;
  return first + chosen * kSectorBytes;
}

void SimulatedDisk::start(std::uint64_t owner, const FilePtr& file, Request& request) {
  Flight flight;
  flight.request = &request;
  flight.owner = owner;
  flight.submission = next_sequence_;
  flight.file = file;
  flight.operation = request.operation;
  flight.offset = request.offset;
  flight.bytes = scattered_bytes(request.buffers);
  ++owners_.at(owner).in_flight;
  record(kStarted, file->number(), flight.offset, flight.bytes);
  if (is_misaligned(request)) {
    ++counts_.alignment_errors;
    end(flight, EINVAL);
    return;
  }
  if (flight.operation == Operation::kSync) {
    flight.bytes = 0;
    flight.covers = file->last_write();
    flight.covers_bytes = file->bytes();
    if (chance(faults_.sync_error)) flight.error_at = 0;
  } else if (chance(flight.operation == Operation::kRead ? faults_.read_error
                                                         : faults_.write_error)) {
    flight.error_at = cut_point(flight, flight.bytes, true);
  }
  std::uint64_t delay_ns = latency_ns();
  if (chance(faults_.stall)) {
    ++counts_.stalls;
    flight.is_stalled = true;
    delay_ns = faults_.stall_ns;
  }
  const std::uint64_t now_ns = clock_.now_ns();
  schedule(delay_ns < kNever - now_ns ? now_ns + delay_ns : kNever, std::move(flight));
}

void SimulatedDisk::run(EventTime time, Flight flight) {
  if (flight.operation == Operation::kSync) {
    end_sync(flight);
  } else {
    run_transfer(time, std::move(flight));
  }
}

void SimulatedDisk::run_transfer(EventTime time, Flight flight) {
  const std::uint64_t limit = std::min(flight.bytes, flight.error_at);
  std::uint64_t piece_end = limit;
  if (chance(faults_.short_transfer)) piece_end = cut_point(flight, limit, false);
  const std::uint64_t piece = piece_end - flight.progress;
  if (flight.operation == Operation::kRead) {
    const std::uint64_t at = flight.offset + flight.progress;
    const std::uint64_t readable = flight.file->bytes() > at ? flight.file->bytes() - at : 0;
    if (readable < piece) {
      LARDER_CHECK(land(flight, readable));
      end(flight, 0);
      return;
    }
  }
  if (!land(flight, piece)) {
    end(flight, ENOSPC);
  } else if (flight.progress < limit) {
    ++counts_.short_transfers;
    schedule(time.at_ns == kNever ? clock_.now_ns() : time.at_ns + latency_ns(), std::move(flight));
  } else if (flight.error_at != kNever) {
    if (flight.operation == Operation::kRead) {
      ++counts_.read_errors;
    } else {
      ++counts_.write_errors;
      if (chance(faults_.lands_after_error)) {
        land_after_error(flight);
      } else {
        write_beyond_prefix(flight);
      }
    }
    end(flight, EIO);
  } else {
    end(flight, 0);
  }
}

/// Moves the next `bytes`; false when the disk is full.
bool SimulatedDisk::land(Flight& flight, std::uint64_t bytes) {
  const std::uint64_t at = flight.offset + flight.progress;
  std::vector<std::byte> data(static_cast<std::size_t>(bytes));
  if (flight.operation == Operation::kRead) {
    flight.file->current().read(at, data);
    scatter(flight.request->buffers, flight.progress, data);
  } else {
    if (!unshare(*flight.file, at, bytes)) return false;
    if (bytes != 0 && !reserve(*flight.file, at + bytes)) return false;
    if (flight.request == nullptr) {
      data.assign(flight.captured.begin(),
                  flight.captured.begin() + static_cast<std::ptrdiff_t>(bytes));
      flight.captured.erase(flight.captured.begin(),
                            flight.captured.begin() + static_cast<std::ptrdiff_t>(bytes));
    } else {
      gather(flight.request->buffers, flight.progress, data);
    }
    flight.file->write(at, data);
  }
  history_hash_ = mix_history(history_hash_, data);
  record(kLanded, flight.file->number(), at, bytes);
  flight.progress += bytes;
  return true;
}

/// A failed write says how much of its beginning was transferred. What a disk did with the rest is
/// anybody's guess.
void SimulatedDisk::write_beyond_prefix(const Flight& flight) {
  Flight rest = flight;
  while (rest.progress < rest.bytes) {
    const std::uint64_t sector_end = round_up(rest.offset + rest.progress + 1, kSectorBytes);
    const std::uint64_t bytes = std::min(sector_end - rest.offset, rest.bytes) - rest.progress;
    if (random_.one_in(2)) {
      if (!land(rest, bytes)) return;
    } else {
      rest.progress += bytes;
    }
  }
}

/// Schedules the rest of a write that ends with an error now.
void SimulatedDisk::land_after_error(const Flight& flight) {
  Flight rest = flight;
  rest.captured.resize(static_cast<std::size_t>(flight.bytes - flight.progress));
  gather(flight.request->buffers, flight.progress, rest.captured);
  rest.request = nullptr;
  rest.error_at = kNever;
  rest.has_failed = true;
  ++owners_.at(flight.owner).in_flight;
  ++counts_.landed_after_error;
  schedule(clock_.now_ns() + latency_ns(), std::move(rest));
}

/// A sync waits for what is under way, also of writes that failed.
void SimulatedDisk::land_failed(const SimulatedFile& file) {
  for (auto flight = flights_.begin(); flight != flights_.end();) {
    const auto next = std::next(flight);
    if (flight->second.has_failed && flight->second.file.get() == &file) {
      auto node = flights_.extract(flight);
      Flight& rest = node.mapped();
      static_cast<void>(land(rest, rest.bytes - rest.progress));  // Full: it did not happen.
      let_go(rest.owner);
    }
    flight = next;
  }
}

void SimulatedDisk::end_sync(const Flight& flight) {
  SimulatedFile& file = *flight.file;
  land_failed(file);
  if (flight.error_at != kNever) {
    ++counts_.sync_errors;
    counts_.abandoned_by_sync += file.abandon(flight.covers, [this] { return random_.one_in(2); });
    end(flight, EIO);
    return;
  }
  file.sync(flight.covers, flight.covers_bytes);
  end(flight, 0);
}

void SimulatedDisk::end(const Flight& flight, int sys_errno) {
  switch (flight.operation) {
    case Operation::kRead:
      ++counts_.reads;
      break;
    case Operation::kWrite:
      ++counts_.writes;
      break;
    case Operation::kSync:
      ++counts_.syncs;
      break;
  }
  record(kEnded, flight.submission, flight.progress, static_cast<std::uint64_t>(sys_errno));
  Owner& owner = owners_.at(flight.owner);
  if (flight.submission < owner.last_ended) ++counts_.reordered;
  owner.last_ended = std::max(owner.last_ended, flight.submission);
  if (flight.request != nullptr) {
    flight.request->bytes_done = flight.progress;
    flight.request->sys_errno = sys_errno;
    owner.device->on_end(*flight.request);
  }
  let_go(flight.owner);
}

void SimulatedDisk::let_go(std::uint64_t owner) {
  const auto found = owners_.find(owner);
  if (--found->second.in_flight != 0) return;
  found->second.retired_locks.clear();
  if (found->second.device == nullptr) owners_.erase(found);
}

void SimulatedDisk::release_stalls() {
  Flights stalled;
  for (auto flight = flights_.begin(); flight != flights_.end();) {
    const auto next = std::next(flight);
    if (flight->second.is_stalled) stalled.insert(flights_.extract(flight));
    flight = next;
  }
  for (auto& [time, flight] : stalled) {
    flight.is_stalled = false;
    schedule(clock_.now_ns() + latency_ns(), std::move(flight));
  }
}

}  // namespace larder::io
