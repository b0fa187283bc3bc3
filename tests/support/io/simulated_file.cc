#include "tests/support/io/simulated_file.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace larder::io {

namespace {

/// Whole sectors that hold [offset, offset + bytes).
struct Sectors {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  Sectors(std::uint64_t offset, std::uint64_t bytes) noexcept
      : first(offset / SimulatedFile::kSectorBytes),
        count((offset + bytes + SimulatedFile::kSectorBytes - 1) / SimulatedFile::kSectorBytes -
              first) {}
  std::uint64_t offset() const noexcept { return first * SimulatedFile::kSectorBytes; }
  std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(count * SimulatedFile::kSectorBytes);
  }
};

}  // namespace

void SimulatedFile::write(std::uint64_t offset, std::span<const std::byte> data) {
  if (data.empty()) return;
  current_.write(offset, data);
  extend(offset + data.size());
  const Sectors sectors{offset, data.size()};
  Write write;
  write.sequence = ++last_write_;
  write.first_sector = sectors.first;
  write.bytes.resize(sectors.bytes());
  current_.read(sectors.offset(), write.bytes);
  unsynced_.push_back(std::move(write));
}

void SimulatedFile::sync(std::uint64_t last_write, std::uint64_t bytes) {
  std::vector<Write> kept;
  for (std::size_t i = 0; i < unsynced_.size(); ++i) {
    Write& write = unsynced_[i];
    if (write.sequence > last_write || write.is_abandoned) {
      kept.push_back(std::move(write));
      continue;
    }
    for (std::uint64_t sector = 0; sector < write.sectors(); ++sector) {
      if (!write.has(sector)) continue;
      durable_.write((write.first_sector + sector) * kSectorBytes, write.sector(sector));
      supersede(kept, write.first_sector + sector);
    }
  }
  unsynced_ = std::move(kept);
  durable_bytes_ = std::max(durable_bytes_, std::min(bytes, bytes_));
}

std::uint64_t SimulatedFile::abandon(std::uint64_t last_write,
                                     const std::function<bool()>& choose) {
  std::uint64_t abandoned = 0;
  for (Write& write : unsynced_) {
    if (write.sequence > last_write || write.is_abandoned || !choose()) continue;
    write.is_abandoned = true;
    ++abandoned;
  }
  return abandoned;
}

void SimulatedFile::cut_power(bool length_survives,
                              const std::function<bool(const Write&, std::uint64_t)>& survives) {
  for (const Write& write : unsynced_) {
    for (std::uint64_t sector = 0; sector < write.sectors(); ++sector) {
      if (!survives(write, sector) || !write.has(sector)) continue;
      durable_.write((write.first_sector + sector) * kSectorBytes, write.sector(sector));
    }
  }
  unsynced_.clear();
  if (length_survives) durable_bytes_ = std::max(durable_bytes_, bytes_);
  bytes_ = durable_bytes_;
  durable_.truncate(bytes_);
  current_ = durable_;
  allocated_bytes_ = std::min(allocated_bytes_, round_up(bytes_, kBlockBytes));
}

void SimulatedFile::patch(std::uint64_t offset, std::span<const std::byte> data) {
  current_.write(offset, data);
  const Sectors sectors{offset, data.size()};
  std::vector<std::byte> bytes(sectors.bytes());
  current_.read(sectors.offset(), bytes);
  durable_.write(sectors.offset(), bytes);
  for (std::uint64_t i = 0; i < sectors.count; ++i) supersede(unsynced_, sectors.first + i);
  durable_bytes_ = std::max(durable_bytes_, offset + data.size());
}

void SimulatedFile::truncate(std::uint64_t bytes) {
  settle();
  current_.truncate(bytes);
  durable_ = current_;
  bytes_ = durable_bytes_ = bytes;
  allocated_bytes_ = std::min(allocated_bytes_, round_up(bytes, kBlockBytes));
}

void SimulatedFile::copy_content_of(const SimulatedFile& other) {
  unsynced_.clear();
  current_ = durable_ = other.current_;
  bytes_ = durable_bytes_ = other.bytes_;
  allocated_bytes_ = other.allocated_bytes_;
}

void SimulatedFile::swap_content(SimulatedFile& other) {
  settle();
  other.settle();
  std::swap(current_, other.current_);
  std::swap(durable_, other.durable_);
  std::swap(bytes_, other.bytes_);
  std::swap(durable_bytes_, other.durable_bytes_);
  std::swap(allocated_bytes_, other.allocated_bytes_);
}

void SimulatedFile::settle() {
  unsynced_.clear();
  durable_ = current_;
  durable_bytes_ = bytes_;
}

void SimulatedFile::supersede(std::vector<Write>& writes, std::uint64_t sector) {
  for (Write& write : writes) write.supersede(sector);
}

void SimulatedFile::Write::supersede(std::uint64_t sector) {
  if (sector < first_sector || sector >= first_sector + sectors()) return;
  if (superseded.empty()) superseded.resize(static_cast<std::size_t>(sectors()));
  superseded[static_cast<std::size_t>(sector - first_sector)] = true;
}

// --- Blocks that a copy has too -----------------------------------------------------------------

void SimulatedFile::share_blocks(bool is_shared) {
  shared_blocks_.clear();
  if (!is_shared) return;
  for (std::uint64_t block = 0; block < allocated_bytes_ / kBlockBytes; ++block) {
    shared_blocks_.insert(shared_blocks_.end(), block);
  }
}

std::uint64_t SimulatedFile::shared_bytes_in(std::uint64_t offset, std::uint64_t bytes) const {
  if (bytes == 0 || shared_blocks_.empty()) return 0;
  const auto first = shared_blocks_.lower_bound(offset / kBlockBytes);
  const auto end = shared_blocks_.upper_bound((offset + bytes - 1) / kBlockBytes);
  return static_cast<std::uint64_t>(std::distance(first, end)) * kBlockBytes;
}

void SimulatedFile::unshare(std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return;
  shared_blocks_.erase(shared_blocks_.lower_bound(offset / kBlockBytes),
                       shared_blocks_.upper_bound((offset + bytes - 1) / kBlockBytes));
}

}  // namespace larder::io
