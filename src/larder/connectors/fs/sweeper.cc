#include "larder/connectors/fs/sweeper.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/connectors/fs/file_time.h"

namespace larder::fs {

struct Sweeper::State {
  explicit State(std::shared_ptr<FileStore> kept) : store(std::move(kept)) {}

  /// Returns at its end, then true, or after this time.
  bool wait_for(std::uint64_t wait_ns) LARDER_EXCLUDES(mutex) {
    const MutexLock lock{mutex};
    const std::uint64_t until_ns = RealClock::instance().now_ns() + wait_ns;
    while (!is_ending.load()) {
      if (RealClock::instance().now_ns() >= until_ns) return false;
      RealClock::instance().wait_until(changed, mutex, until_ns);
    }
    return true;
  }

  const std::shared_ptr<FileStore> store;
  std::atomic<bool> is_ending = false;
  Mutex mutex;
  CondVar changed;
};

namespace {

constexpr std::uint64_t kPatienceNs = 2'000'000'000;
constexpr std::uint64_t kAgainNs = 10'000'000;  ///< After a temporary lack of resources.
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

/// One walk over the directory.
class Round {
 public:
  /// `wait_for` returns true when the round is to end.
  Round(FileStore& store, const std::atomic<bool>& is_ending,
        std::function<bool(std::uint64_t wait_ns)> wait_for)
      : store_(store), is_ending_(is_ending), wait_for_(std::move(wait_for)) {}

  /// Counts values when `counts`; sweeps in any case.
  Status run(bool counts) {
    const auto directory = store_.base().get();
    const bool has_shards = store_.options().has_shards;
    LARDER_ASSIGN(NameWalk walk, patiently([&] { return NameWalk::begin(directory, has_shards); }));
    for (;;) {
      if (is_ending_.load(std::memory_order_relaxed)) return {};
      LARDER_ASSIGN(const NameWalk::Name name, patiently([&] { return walk.next(); }));
      if (name.text == nullptr) break;
      visit(name, counts);
    }
    // With shards the walk does not reach the base directory, which may hold leftover files too:
    // drafts, and probes of the directory.
    if (has_shards) sweep_folder(directory->base_fd());
    if (directory->has_temporary_folder()) {
      const std::uint64_t left = sweep_folder(directory->temporary_fd());
      if (counts && left > 0) tell_what_is_left(left);
    }
    return {};
  }

  bool has_legacy() const noexcept { return has_legacy_; }

 private:
  /// A lack of the moment (of descriptors, of memory) must not leave files uncounted.
  template <typename Call>
  std::invoke_result_t<Call> patiently(const Call& call) {
    for (;;) {
      auto result = call();
      if (result || !result.error().is_retryable()) return result;
      if (limiter_.allow(RealClock::instance().now_ns())) {
        log(LogLevel::kWarning, "fs",
            "reading the directory '" + store_.options().base_path +
                "' waits: " + result.error().to_string());
      }
      if (wait_for_(kAgainNs)) return result;
    }
  }

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
    inventory.found(name.text, bytes, last_use_ns(status.st_mtim, std::time(nullptr)));
  }

  static bool is_old(const struct stat& status) {
    return S_ISREG(status.st_mode) && std::time(nullptr) - status.st_mtim.tv_sec >
                                          static_cast<std::int64_t>(kSweepEverySeconds);
  }

  void sweep(int folder_fd, const char* name) {
    struct stat status{};
    if (::fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISREG(status.st_mode) && is_in_future(status.st_mtim.tv_sec, std::time(nullptr))) {
      // How old it is cannot be known. Its age counts from now on, so that the file does not stay
      // for ever.
      const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{0, UTIME_NOW}};
      ::utimensat(folder_fd, name, times.data(), AT_SYMLINK_NOFOLLOW);
      return;
    }
    if (!is_old(status) || ::unlinkat(folder_fd, name, 0) != 0) return;
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

  /// Returns how many old files with names of values are there. A killed LMCache leaves such files
  /// in the temporary folder; but they may be another store's values, so they stay.
  std::uint64_t sweep_folder(int folder_fd) {
    std::uint64_t left = 0;
    const auto stream = open_folder_stream(folder_fd, ".");
    while (const dirent* const entry = stream ? ::readdir(stream->get()) : nullptr) {
      const EntryKind kind = parse_entry_name(entry->d_name).kind;
      struct stat status{};
      if (kind == EntryKind::kTemporary) {
        sweep(folder_fd, entry->d_name);
      } else if (kind != EntryKind::kForeign &&
                 ::fstatat(folder_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                 is_old(status)) {
        ++left;
      }
    }
    return left;
  }

  void tell_what_is_left(std::uint64_t files) const {
    const FsOptions& options = store_.options();
    log(LogLevel::kWarning, "fs",
        "the temporary folder '" + options.base_path + "/" + options.temporary_folder +
            "' has files with names of values, not written for an hour (" + std::to_string(files) +
            "): another store's, or what a killed LMCache left; larder leaves them. Choose another "
            "relative_tmp_dir, or remove them if no store is there");
  }

  FileStore& store_;
  const std::atomic<bool>& is_ending_;
  const std::function<bool(std::uint64_t)> wait_for_;
  LogLimiter limiter_{60 * kNsPerSecond};
  bool has_legacy_ = false;
};

/// Logs how much a capacity below the size of the existing files costs.
void evict_what_was_there(FileStore& store) {
  const Inventory::Totals before = store.inventory().totals();
  store.evict_to_capacity();
  const Inventory::Totals after = store.inventory().totals();
  const std::uint64_t capacity = store.options().capacity_bytes;
  if (capacity == 0 || before.bytes <= capacity || after.keys >= before.keys) return;
  store.note_remark(
      "capacity=" + format_bytes_exact(capacity) +
      " is less than what the directory held: " + format_count(before.keys - after.keys, "file") +
      " of " + std::to_string(before.keys) + " went at open, those not used for longest, and " +
      format_bytes(before.bytes - std::min(before.bytes, after.bytes)) + " with them");
}

}  // namespace

Result<std::unique_ptr<Sweeper>> Sweeper::start(std::shared_ptr<FileStore> store) {
  auto state = std::make_shared<State>(std::move(store));
  std::unique_ptr<Sweeper> sweeper{new Sweeper{state}};
  LARDER_ASSIGN(sweeper->thread_, CallThread::start("larder-fs-sweep"));
  sweeper->thread_->begin({.run = [state] {
    for (bool is_first = true; !state->is_ending.load(); is_first = false) {
      Round round{*state->store, state->is_ending,
                  [&state](std::uint64_t ns) { return state->wait_for(ns); }};
      const Status ended = round.run(is_first);
      if (!ended && !state->is_ending.load())
        log(LogLevel::kWarning, "fs", "reading the directory: " + ended.error().to_string());
      if (state->is_ending.load()) break;
      if (is_first) {
        // Folders that could not be read are treated as unknown, so that nothing in them is counted
        // twice.
        if (ended) state->store->set_has_legacy(round.has_legacy());
        state->store->inventory().counted();
        evict_what_was_there(*state->store);
      }
      if (state->wait_for(kSweepEverySeconds * kNsPerSecond)) break;
    }
  }});
  return sweeper;
}

Sweeper::~Sweeper() {
  if (thread_ == nullptr) return;  // It could not be started.
  {
    const MutexLock lock{state_->mutex};
    state_->is_ending.store(true);
    state_->changed.notify_all();
  }
  // Calls that have not ended then are given up.
  static_cast<void>(thread_->wait(RealClock::instance().now_ns() + kPatienceNs));
}

}  // namespace larder::fs
