#include "larder/connectors/log/offline/store_maker.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/key_text.h"
#include "larder/base/random.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/machine/setup_error.h"
#include "larder/connectors/log/machine/superblock_file.h"

namespace larder::log_store {
namespace {

constexpr std::size_t kWritesInFlight = 8;
constexpr std::uint64_t kRandomSeed = 0x6c617264;

/// Writes segments once, from end to end: zeros in the first grain, so that it counts as a segment
/// that was never used, and noise in the rest, because some disks keep no blocks for zeros.
class Prefiller {
 public:
  static Result<Prefiller> create(io::TransferQueue& queue, const Geometry& geometry,
                                  std::uint64_t io_bytes) {
    LARDER_ASSIGN(AlignedBuffer blank,
                  AlignedBuffer::create(geometry.grain_bytes, geometry.grain_bytes));
    LARDER_ASSIGN(AlignedBuffer noise, AlignedBuffer::create(io_bytes, geometry.grain_bytes));
    Random{kRandomSeed}.fill(noise.span());
    return Prefiller{queue, geometry, std::move(blank), std::move(noise)};
  }

  /// `on_written` hears of the bytes of each write.
  template <class OnWritten>
  Status fill(io::FileId file, OnWritten&& on_written) {
    Status status{};
    std::uint64_t next = 0;
    std::size_t in_flight = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].is_free = true;
    while (true) {
      for (Slot& slot : slots_) {
        if (!slot.is_free || !status || next == geometry_.segment_bytes) continue;
        next += submit(slot, file, next);
        ++in_flight;
      }
      if (in_flight == 0) break;
      std::array<io::Request*, kWritesInFlight> done{};
      const std::size_t count = queue_.reap(done);
      if (count == 0) queue_.wait(RealClock::instance().now_ns() + 1'000'000'000);
      for (std::size_t i = 0; i < count; ++i) {
        Slot& slot = *static_cast<Slot*>(done[i]->user_data);
        slot.is_free = true;
        --in_flight;
        on_written(done[i]->bytes_done);
        if (done[i]->sys_errno != 0 && status) {
          status = Error::from_errno(done[i]->sys_errno, "log", "writing a new segment");
        }
      }
    }
    return status;
  }

 private:
  struct Slot {
    io::Request request;
    std::array<iovec, 2> vectors{};
    bool is_free = true;
  };

  Prefiller(io::TransferQueue& queue, const Geometry& geometry, AlignedBuffer blank,
            AlignedBuffer noise)
      : queue_(queue),
        geometry_(geometry),
        blank_(std::move(blank)),
        noise_(std::move(noise)),
        slots_(kWritesInFlight) {}

  /// Returns how many bytes it writes.
  std::uint64_t submit(Slot& slot, io::FileId file, std::uint64_t offset) {
    const std::uint64_t bytes =
        std::min<std::uint64_t>(noise_.size(), geometry_.segment_bytes - offset);
    const std::uint64_t blank = offset == 0 ? geometry_.grain_bytes : 0;
    slot.vectors = {iovec{.iov_base = blank_.data(), .iov_len = blank},
                    iovec{.iov_base = noise_.data(), .iov_len = bytes - blank}};
    slot.request = {};
    slot.request.operation = io::Operation::kWrite;
    slot.request.file = file;
    slot.request.offset = offset;
    slot.request.buffers = std::span{slot.vectors}.subspan(blank == 0 ? 1 : 0);
    slot.request.user_data = &slot;
    slot.is_free = false;
    queue_.submit(slot.request);
    return bytes;
  }

  io::TransferQueue& queue_;
  const Geometry geometry_;
  AlignedBuffer blank_;
  AlignedBuffer noise_;
  std::vector<Slot> slots_;
};

/// The content of the directory.
struct Found {
  bool has_store = false;
  std::vector<std::string> segments;
  std::uint64_t segment_blocks = 0;  ///< Bytes that they take on the disk.
  std::string foreign;               ///< One of the files that are not larder's.
};

SetupResult<Found> look(io::Directory& directory, const std::string& where) {
  const auto files = directory.list();
  if (!files) return setup_error(where, "cannot list the directory", files.error());
  Found found;
  for (const io::FileInfo& file : *files) {
    if (file.name == kSuperblockFileName) {
      found.has_store = true;
    } else if (segment_of_file_name(file.name)) {
      found.segments.push_back(file.name);
      found.segment_blocks += file.allocated_bytes;
    } else if (!is_harmless_file_name(file.name)) {
      found.foreign = file.name;
    }
  }
  return found;
}

SetupStatus check_directory(const Found& found, const std::string& where) {
  if (found.has_store) {
    return SetupError{ErrorCode::kUnavailable,
                      "log: " + where + " holds a store already, of " +
                          format_count(found.segments.size(), "segment") +
                          "; `larder inspect` shows what is in it, --force replaces it by "
                          "a new one (everything in it is lost)"};
  }
  const std::string& other = found.segments.empty() ? found.foreign : found.segments.front();
  if (other.empty()) return {};
  return SetupError{ErrorCode::kUnavailable,
                    "log: " + where + " is not empty (it holds '" + printable(other) +
                        "'): name an empty or a new directory; --force makes the store all the "
                        "same, and leaves foreign files where they are"};
}

SetupStatus check_space(const MakeOptions& options, const Geometry& geometry,
                        std::uint64_t free_bytes, const std::string& where) {
  const std::uint64_t wanted = options.is_prefilled ? geometry.segment_count * geometry.slot_bytes
                                                    : std::uint64_t{2} * geometry.slot_bytes;
  if (free_bytes >= wanted + options.path.min_free_bytes) return {};
  return SetupError{ErrorCode::kResourceExhausted,
                    "log: " + where + ": the file system has " + format_bytes(free_bytes) +
                        " free, and " + (options.is_prefilled ? "all" : "two") + " segments take " +
                        format_bytes(wanted) +
                        " beside min_free=" + format_bytes_exact(options.path.min_free_bytes) +
                        ": free some space, or lower capacity or min_free"};
}

SetupStatus remove_segments(io::Directory& directory, const Found& found,
                            const std::string& where) {
  for (const std::string& name : found.segments) {
    if (const Status removed = directory.remove(name); !removed) {
      return setup_error(where, "cannot remove " + name, removed.error());
    }
  }
  if (const Status synced = directory.sync_directory(); !synced) {
    return setup_error(where, "cannot sync the directory", synced.error());
  }
  return {};
}

SetupStatus prefill(const io::Device& device, const MakeOptions& options, const std::string& where,
                    MadeStore& made,
                    const std::function<bool(std::uint64_t, std::uint64_t)>& on_progress) {
  const Geometry& geometry = made.geometry;
  io::Directory& directory = *device.directory;
  auto filler = Prefiller::create(*device.queue, geometry, options.path.io_bytes);
  if (!filler) return setup_error(where, "cannot prefill", filler.error());
  BlockingIo io{*device.queue, RealClock::instance()};
  const std::uint64_t total = geometry.segment_count * geometry.segment_bytes;
  bool is_wanted = true;
  for (std::uint32_t number = 0; number < geometry.segment_count; ++number) {
    const std::string name = segment_file_name(number);
    auto file = directory.open(name, io::OpenMode::kCreate);
    if (!file) return setup_error(where, "cannot make " + name, file.error());
    Status status = directory.allocate(*file, geometry.segment_bytes);
    if (status) {
      status = filler->fill(*file, [&](std::uint64_t bytes) {
        made.written_bytes += bytes;
        is_wanted = on_progress(made.written_bytes, total) && is_wanted;
      });
    }
    if (status) status = io.sync(*file);
    directory.close(*file);
    if (!status) return setup_error(where, "cannot prefill " + name, status.error());
    const bool is_last = number + 1 == geometry.segment_count;
    if (is_last || !is_wanted) {
      if (const Status synced = directory.sync_directory(); !synced) {
        return setup_error(where, "cannot sync the directory", synced.error());
      }
    }
    if (!is_last && !is_wanted) {
      return SetupError{ErrorCode::kCancelled,
                        "log: " + where + ": interrupted after " + std::to_string(number + 1) +
                            " of " + std::to_string(geometry.segment_count) +
                            " segments; the store can be used, the other segments appear as they "
                            "are needed"};
    }
  }
  return {};
}

}  // namespace

SetupResult<MadeStore> make_new_store(
    const MakeOptions& options,
    const std::function<bool(std::uint64_t, std::uint64_t)>& on_progress) {
  const std::string& where = options.device.directory;
  LARDER_ASSIGN(const io::Device device, io::open_device(options.device));
  const io::DirectoryFacts& facts = device.directory->facts();
  LARDER_ASSIGN(const Found found, look(*device.directory, where));
  if (!options.is_forced) LARDER_TRY(check_directory(found, where));
  MadeStore made;
  made.is_direct = facts.direct;
  made.file_system = facts.file_system;
  LARDER_ASSIGN(made.geometry, make_geometry({.capacity_bytes = options.path.capacity_bytes,
                                              .value_bytes_max = options.path.value_bytes_max,
                                              .offset_alignment = facts.alignment.offset,
                                              .segment_bytes = options.path.segment_bytes,
                                              .segments_min = options.path.segments_min}));
  const auto space = device.directory->space();
  if (!space) return setup_error(where, "cannot ask for the free space", space.error());
  made.free_bytes = space->free_bytes + found.segment_blocks;
  LARDER_TRY(check_space(options, made.geometry, made.free_bytes, where));

  // The lock comes before everything that changes something.
  SuperblockFile superblock_file{*device.directory, *device.queue, RealClock::instance(), where};
  std::uint64_t sequence = 0;
  if (found.has_store) {
    LARDER_TRY(superblock_file.take(0));
    const auto old = superblock_file.read();  // Damaged or not: it will be replaced.
    if (old) sequence = old->sequence;
    if (!old && old.error().code == ErrorCode::kUnavailable) return old.error();
  } else {
    LARDER_TRY(superblock_file.take_new());
  }
  // Its new ids void everything in the old segments, so a death at any of them leaves an empty
  // store, and never half of the old one.
  const auto superblock = superblock_file.fill(made.geometry, options.path.id_seed, sequence);
  if (!superblock) return superblock.error();
  if (!found.segments.empty()) LARDER_TRY(remove_segments(*device.directory, found, where));
  made.segments_removed = found.segments.size();
  if (options.is_prefilled) LARDER_TRY(prefill(device, options, where, made, on_progress));
  return made;
}

}  // namespace larder::log_store
