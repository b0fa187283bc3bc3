// Where records are, and what a power cut would leave of them.
#include <algorithm>

#include "tests/simulation/oracle.h"

namespace larder::simulation {
namespace {

bool contains(std::span<const std::uint64_t> generations, std::uint64_t generation) {
  return std::ranges::find(generations, generation) != generations.end();
}

}  // namespace

void Oracle::note_home(std::size_t key, std::uint64_t generation) {
  keys_[key].home = generation;
}

void Oracle::note_sealed(std::uint64_t first_unsealed, std::uint64_t since,
                         std::span<const std::uint64_t> sealed) {
  sealed_for_good_.insert(sealed.begin(), sealed.end());
  for (Key& key : keys_) {
    for (Write& write : key.writes) {
      if (write.state == Write::State::kAcknowledged && write.generation < first_unsealed &&
          write.invoked >= since) {
        write.is_durable = true;
      }
    }
    if (std::ranges::find(sealed, key.home) != sealed.end()) key.durable_home = key.home;
  }
}

void Oracle::note_sync_failed(std::uint64_t generation) {
  for (Key& key : keys_) {
    if (key.home == generation) key.durable_home = 0;
    for (Write& write : key.writes) {
      if (!write.is_durable && write.generation >= generation) write.generation = UINT64_MAX;
    }
  }
}

void Oracle::judge_recovered_homes(bool are_durable) {
  for (Key& key : keys_) {
    if (key.home != key.durable_home) key.durable_home = are_durable ? key.home : 0;
  }
}

std::string Oracle::check_durable_homes(std::span<const std::uint64_t> on_disk) const {
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const Key& key = keys_[i];
    const Write* const write = surely_present(i, step_ + 1);
    if (write == nullptr || !write->is_durable || key.durable_home == 0) continue;
    const bool is_last = std::ranges::none_of(key.writes, [&](const Write& other) {
      return &other != write && other.returned > write->invoked;
    });
    if (!is_last || std::ranges::find(on_disk, key.durable_home) != on_disk.end()) continue;
    return "the only durable record of version " + std::to_string(write->version) +
           " (generation " + std::to_string(key.durable_home) +
           ") was overwritten, and its copy in generation " + std::to_string(key.home) +
           " is not durable; " + describe(i);
  }
  return {};
}

void Oracle::note_moved(std::size_t key, std::uint64_t generation) {
  keys_[key].was_moved = true;
  for (auto write = keys_[key].writes.rbegin(); write != keys_[key].writes.rend(); ++write) {
    if (write->state == Write::State::kAcknowledged && !write->is_delete) {
      write->home = generation;
      return;
    }
    if (write->state == Write::State::kFailed) break;  // It may be this one that was moved.
  }
  forget_homes(key);
}

void Oracle::forget_homes(std::size_t key) {
  for (Write& write : keys_[key].writes) write.home = 0;
}

void Oracle::forget_generations() {
  sealed_for_good_.clear();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    forget_homes(i);
    keys_[i].home = keys_[i].durable_home = 0;
  }
}

std::string Oracle::check_may_come_back(std::span<const std::uint64_t> on_disk,
                                        std::span<const std::uint64_t> removed) const {
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].is_shared) continue;
    const Write* lost = nullptr;  // The newest durable one that is no longer there.
    for (auto write = keys_[i].writes.rbegin(); write != keys_[i].writes.rend(); ++write) {
      // It may stand anywhere and outrank all before it.
      if (write->state == Write::State::kFailed || write->home == 0) break;
      const bool is_there = contains(on_disk, write->home);
      const bool is_durable = write->is_durable || sealed_for_good_.contains(write->home);
      if (lost != nullptr && lost->invoked > write->returned && write->is_durable &&
          lost->home != write->home && (is_there || contains(removed, write->home))) {
        return "version " + std::to_string(write->version) +
               " would come back after a power cut, as the later version " +
               std::to_string(lost->version) + " was overwritten first; " + describe(i);
      }
      if (is_there && is_durable) break;
      if (!is_there && write->is_durable && lost == nullptr) lost = &*write;
    }
  }
  return {};
}

}  // namespace larder::simulation
