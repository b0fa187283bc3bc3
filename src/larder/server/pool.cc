#include "larder/server/pool.h"

#include <sys/statvfs.h>

#include <string>

#include "larder/base/logging.h"
#include "larder/base/size_text.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kMarkBytes = 4096;  ///< After the pool; see cache::SegmentFile.

/// A tmpfs that cannot hold the pool gives no error before it is full.
SetupStatus check_room(std::uint64_t bytes) {
  struct ::statvfs system{};
  if (::statvfs(kPoolDirectory, &system) != 0) return {};  // Opening the pool will say why.
  const std::uint64_t total = std::uint64_t{system.f_blocks} * system.f_frsize;
  const std::uint64_t free = std::uint64_t{system.f_bavail} * system.f_frsize;
  const std::string directory = kPoolDirectory;
  if (total < bytes + kMarkBytes) {
    return SetupError{
        ErrorCode::kResourceExhausted,
        "L1 of " + format_bytes_exact(bytes) + " does not fit into " + directory +
            ", which holds " + format_bytes(total) +
            ": make it larger (docker run --shm-size, in Kubernetes an emptyDir of medium Memory "
            "at " +
            directory +
            ", else mount -o remount,size=), lower --l1-size-gb, or use --shm-name \"\", with "
            "which "
            "workers cannot share memory with the server"};
  }
  if (free < bytes) {
    log(LogLevel::kWarning, "server",
        directory + " has " + format_bytes(free) + " free, less than L1 of " +
            format_bytes_exact(bytes) +
            ": until others leave it, L1 holds less than was asked for");
  }
  return {};
}

void tell_of_pages(const cache::Arena& arena) {
  if (arena.report().huge_pages != cache::HugePages::kRefused) return;
  log(LogLevel::kInfo, "server",
      std::string{kPoolDirectory} +
          " gives no huge pages, with which disks may load faster into L1: mount -o "
          "remount,huge=advise " +
          kPoolDirectory + " before the start allows them");
}

}  // namespace

SetupResult<std::unique_ptr<cache::Arena>> open_l1(const ServerOptions& options) {
  cache::ArenaOptions arena;
  arena.capacity_bytes = options.l1_bytes;
  arena.grain_bytes = options.l1_align_bytes;
  arena.commit_ahead_bytes = options.is_l1_lazy ? options.l1_ahead_bytes : options.l1_bytes;
  if (!options.has_pool) return cache::Arena::open(arena);
  LARDER_TRY(check_room(options.l1_bytes));
  arena.kind = cache::ArenaKind::kShared;
  arena.directory = kPoolDirectory;
  arena.name = pool_name(options, options.port);
  auto opened = cache::Arena::open(arena);
  if (opened) {
    tell_of_pages(**opened);
    return opened;
  }
  const std::string from = options.shm_name.empty()
                               ? " (the name is that of --port " + std::to_string(options.port) +
                                     "; --shm-name sets another)"
                               : " (the name is that of --shm-name)";
  return SetupError{opened.error().code, opened.error().text + from};
}

}  // namespace larder::server
