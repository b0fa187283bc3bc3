// The part of SimulatedDisk that ends its owners: SIGKILL and power loss.

#include <algorithm>
#include <set>
#include <utility>

#include "larder/base/check.h"
#include "larder/io/scattered_memory.h"
#include "tests/support/io/simulated_device.h"
#include "tests/support/io/simulated_disk.h"
#include "tests/support/io/simulated_history.h"

namespace larder::io {

template <class T>
void SimulatedDisk::shuffle(std::vector<T>& items) {
  for (std::size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[static_cast<std::size_t>(random_.below(left))]);
  }
}

void SimulatedDisk::kill_owner(SimulatedDevice& owner) {
  LARDER_CHECK(owner.is_alive());
  run_due_events();
  ++counts_.kills;
  record(kKilled, owner.owner_);
  std::vector<Flight> flights;
  std::vector<std::pair<std::uint64_t, Flight>> stalled;
  for (auto flight = flights_.begin(); flight != flights_.end();) {
    const auto next = std::next(flight);
    // What is left of a failed write keeps its time, as before.
    if (flight->second.owner == owner.owner_ && !flight->second.has_failed) {
      auto node = flights_.extract(flight);
      if (node.mapped().is_stalled) {
        stalled.emplace_back(node.key().at_ns, std::move(node.mapped()));
      } else {
        flights.push_back(std::move(node.mapped()));
      }
    }
    flight = next;
  }
  // A stalled one keeps its time. Apart from the loop above, which must not meet what it schedules.
  for (auto& [at_ns, flight] : stalled) kill_flight(at_ns, std::move(flight));
  // Nobody can say in which order they reach the disk.
  shuffle(flights);
  for (Flight& flight : flights) kill_flight(clock_.now_ns(), std::move(flight));
  Owner& self = owners_.at(owner.owner_);
  self.device = nullptr;
  self.retired_locks.insert(self.retired_locks.end(), self.locks.begin(), self.locks.end());
  self.locks.clear();
  if (self.in_flight == 0) owners_.erase(owner.owner_);
  owner.die();
}

/// Decides what becomes of a request whose owner was killed. `at_ns` is now, or when its stall
/// ends.
void SimulatedDisk::kill_flight(std::uint64_t at_ns, Flight flight) {
  const Request& request = *flight.request;
  flight.request = nullptr;
  const bool is_write = flight.operation == Operation::kWrite;
  const bool never =
      flight.operation == Operation::kRead || flight.error_at != kNever || random_.below(3) == 0;
  if (never) {
    if (is_write) ++counts_.kill_never;
    --owners_.at(flight.owner).in_flight;
    return;
  }
  if (is_write) {
    flight.captured.resize(static_cast<std::size_t>(flight.bytes - flight.progress));
    gather(request.buffers, flight.progress, flight.captured);
    if (random_.one_in(4)) {
      const std::uint64_t end = cut_point(flight, flight.bytes, false);
      if (end != flight.bytes) ++counts_.kill_partial;
      flight.bytes = end;
      flight.captured.resize(static_cast<std::size_t>(end - flight.progress));
    }
  }
  const bool now = !flight.is_stalled && random_.one_in(2);
  if (now) {
    if (is_write) {
      ++counts_.kill_now;
      static_cast<void>(land(flight, flight.bytes - flight.progress));  // Full: it did not happen.
    } else {
      flight.file->sync(flight.covers, flight.covers_bytes);
    }
    --owners_.at(flight.owner).in_flight;
    return;
  }
  if (is_write) ++counts_.kill_later;
  if (!flight.is_stalled) at_ns += 1 + random_.below(faults_.kill_landing_max_ns);
  schedule(at_ns, std::move(flight));
}

void SimulatedDisk::power_cut() {
  run_due_events();
  ++counts_.power_cuts;
  record(kPowerCut, owners_.size());
  land_flights_in_power_cut();
  std::map<std::uint64_t, FilePtr> files;  // By number, so that the order is the same every time.
  for (const Names* names : {&names_, &durable_names_}) {
    for (const auto& [name, file] : *names) files.emplace(file->number(), file);
  }
  for (const auto& [number, file] : files) cut_power_of(*file);
  settle_names_in_power_cut();
  for (auto& [number, owner] : owners_) {
    if (owner.device != nullptr) owner.device->die();
  }
  owners_.clear();
}

/// Whatever was under way is treated like what ended just before.
void SimulatedDisk::land_flights_in_power_cut() {
  std::vector<Flight> flights;
  for (auto& [time, flight] : flights_) flights.push_back(std::move(flight));
  flights_.clear();
  shuffle(flights);
  for (Flight& flight : flights) {
    if (flight.operation != Operation::kWrite) continue;
    static_cast<void>(land(flight, flight.bytes - flight.progress));  // Full: it did not happen.
  }
}

void SimulatedDisk::cut_power_of(SimulatedFile& file) {
  struct Fate {
    bool is_torn = false;
    std::vector<bool> sectors;
  };
  std::map<std::uint64_t, Fate> fates;
  for (const auto& write : file.unsynced()) {
    Fate& fate = fates[write.sequence];
    fate.is_torn = chance(faults_.tears_in_power_cut);
    const bool all_survive = !fate.is_torn && chance(faults_.survives_power_cut);
    fate.sectors.resize(static_cast<std::size_t>(write.sectors()), all_survive);
    if (fate.is_torn) {
      for (std::size_t i = 0; i < fate.sectors.size(); ++i) {
        fate.sectors[i] = chance(faults_.survives_power_cut);
      }
    }
    const auto survivors = std::count(fate.sectors.begin(), fate.sectors.end(), true);
    if (survivors == 0) {
      ++counts_.writes_lost;
    } else if (static_cast<std::size_t>(survivors) == fate.sectors.size()) {
      ++counts_.writes_survived;
    } else {
      ++counts_.writes_torn;
    }
  }
  const bool length_differs = file.bytes() != file.durable_bytes();
  const bool length_survives = length_differs && chance(faults_.survives_power_cut);
  if (length_differs && !length_survives) ++counts_.lengths_lost;
  file.cut_power(length_survives, [&fates](const auto& write, std::uint64_t sector) {
    return fates.at(write.sequence).sectors[static_cast<std::size_t>(sector)];
  });
}

void SimulatedDisk::settle_names_in_power_cut() {
  std::set<std::string> all;
  for (const Names* names : {&names_, &durable_names_}) {
    for (const auto& [name, file] : *names) all.insert(name);
  }
  Names settled;
  for (const std::string& name : all) {
    const auto now = names_.find(name);
    const auto before = durable_names_.find(name);
    const FilePtr new_file = now == names_.end() ? nullptr : now->second;
    const FilePtr old_file = before == durable_names_.end() ? nullptr : before->second;
    bool keeps_new = true;
    if (new_file != old_file) {
      keeps_new = chance(faults_.name_survives_power_cut);
      ++(keeps_new ? counts_.names_kept : counts_.names_lost);
    }
    const FilePtr& file = keeps_new ? new_file : old_file;
    if (file != nullptr) settled.emplace(name, file);
  }
  names_ = durable_names_ = std::move(settled);
}

}  // namespace larder::io
