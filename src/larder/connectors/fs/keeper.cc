#include "larder/connectors/fs/keeper.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <string>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"

namespace larder::fs {

struct Keeper::State {
  explicit State(std::shared_ptr<FileStore> kept) : store(std::move(kept)) {}

  const std::shared_ptr<FileStore> store;
  std::atomic<bool> is_ending = false;
  Mutex mutex;
  CondVar changed;
  bool has_ended LARDER_GUARDED_BY(mutex) = false;
};

namespace {

constexpr std::uint64_t kPatienceNs = 2'000'000'000;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

/// One walk over the directory.
class Round {
 public:
  Round(FileStore& store, const std::atomic<bool>& is_ending)
      : store_(store), is_ending_(is_ending) {}

  /// Counts values when `counts`; sweeps in any case.
  Status run(bool counts) {
    const auto directory = store_.base().get();
    const bool has_shards = store_.options().has_shards;
    LARDER_ASSIGN(NameWalk walk, NameWalk::begin(directory, has_shards));
    for (;;) {
      if (is_ending_.load(std::memory_order_relaxed)) return {};
      LARDER_ASSIGN(const NameWalk::Name name, walk.next());
      if (name.text == nullptr) break;
      visit(name, counts);
    }
    // With shards the walk does not come to the base directory, where files may be left too:
    // drafts, and those by which the directory was probed.
    if (has_shards) sweep_folder(directory->base_fd(), false);
    if (directory->has_temporary_folder()) sweep_folder(directory->temporary_fd(), true);
    return {};
  }

  bool has_legacy() const noexcept { return has_legacy_; }

 private:
  void visit(const NameWalk::Name& name, bool counts) {
    const EntryKind kind = parse_entry_name(name.text).kind;
    switch (kind) {
      case EntryKind::kTemporary:
        return sweep(name.folder_fd, name.text);
      case EntryKind::kKeyFile:
        return sweep_lonely_key(name.folder_fd, name.text);
      case EntryKind::kValue:
      case EntryKind::kLegacyValue:
      case EntryKind::kHashedValue:
        has_legacy_ = has_legacy_ || kind == EntryKind::kLegacyValue;
        if (counts) count(name, kind);
        return;
      case EntryKind::kForeign:
        return;
    }
  }

  void count(const NameWalk::Name& name, EntryKind kind) {
    Inventory& inventory = store_.inventory();
    if (!inventory.is_tracking()) return inventory.found(name.text, 0, 0);
    struct stat status{};
    if (::fstatat(name.folder_fd, name.text, &status, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (!S_ISREG(status.st_mode)) return;
    constexpr std::uint64_t kStatBlock = 512;
    std::uint64_t bytes = static_cast<std::uint64_t>(status.st_blocks) * kStatBlock;
    if (kind == EntryKind::kHashedValue) bytes += store_.facts().block_bytes;
    constexpr std::int64_t kNs = 1'000'000'000;
    inventory.found(name.text, bytes, status.st_mtim.tv_sec * kNs + status.st_mtim.tv_nsec);
  }

  bool is_old(int folder_fd, const char* name) const {
    struct stat status{};
    return ::fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status.st_mode) &&
           std::time(nullptr) - status.st_mtim.tv_sec >
               static_cast<std::int64_t>(kSweepEverySeconds);
  }

  void sweep(int folder_fd, const char* name) {
    if (!is_old(folder_fd, name) || ::unlinkat(folder_fd, name, 0) != 0) return;
    FsCounters::add(store_.counters().temporaries_swept);
  }

  /// The key of a value that was removed while it was stored again.
  void sweep_lonely_key(int folder_fd, const char* name) {
    struct stat status{};
    if (::fstatat(folder_fd, hashed_name_of(name).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      return;
    }
    sweep(folder_fd, name);
  }

  /// `is_temporary`: LMCache writes files there under their final names, larder under its own.
  void sweep_folder(int folder_fd, bool is_temporary) {
    const auto stream = open_folder_stream(folder_fd, ".");
    while (const dirent* const entry = stream ? ::readdir(stream->get()) : nullptr) {
      const EntryKind kind = parse_entry_name(entry->d_name).kind;
      const bool is_draft_of_lmcache =
          is_temporary && kind != EntryKind::kForeign && kind != EntryKind::kKeyFile;
      if (kind == EntryKind::kTemporary || is_draft_of_lmcache) {
        sweep(folder_fd, entry->d_name);
      }
    }
  }

  FileStore& store_;
  const std::atomic<bool>& is_ending_;
  bool has_legacy_ = false;
};

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::start(std::shared_ptr<FileStore> store) {
  auto state = std::make_shared<State>(std::move(store));
  std::unique_ptr<Keeper> keeper{new Keeper{state}};
  LARDER_ASSIGN(keeper->thread_, Thread::start("larder-fs-keep", [state] {
                  for (bool is_first = true; !state->is_ending.load(); is_first = false) {
                    Round round{*state->store, state->is_ending};
                    const Status ended = round.run(is_first);
                    if (!ended)
                      log(LogLevel::kWarning, "fs",
                          "reading the directory: " + ended.error().to_string());
                    if (state->is_ending.load()) break;
                    if (is_first) {
                      // What could not be read is not known to be there: nothing of it is counted
                      // twice.
                      if (ended) state->store->set_has_legacy(round.has_legacy());
                      state->store->inventory().counted();
                      state->store->evict_to_capacity();
                    }
                    const MutexLock lock{state->mutex};
                    const std::uint64_t until_ns =
                        RealClock::instance().now_ns() + kSweepEverySeconds * kNsPerSecond;
                    while (!state->is_ending.load()) {
                      const std::uint64_t now_ns = RealClock::instance().now_ns();
                      if (now_ns >= until_ns) break;
                      state->changed.wait_for(state->mutex, until_ns - now_ns);
                    }
                  }
                  const MutexLock lock{state->mutex};
                  state->has_ended = true;
                  state->changed.notify_all();
                }));
  return keeper;
}

Keeper::~Keeper() {
  bool has_ended = false;
  {
    const MutexLock lock{state_->mutex};
    state_->is_ending.store(true);
    state_->changed.notify_all();
    const std::uint64_t until_ns = RealClock::instance().now_ns() + kPatienceNs;
    while (!state_->has_ended) {
      const std::uint64_t now_ns = RealClock::instance().now_ns();
      if (now_ns >= until_ns) break;
      state_->changed.wait_for(state_->mutex, until_ns - now_ns);
    }
    has_ended = state_->has_ended;
  }
  if (!has_ended) thread_.detach();
}

}  // namespace larder::fs
