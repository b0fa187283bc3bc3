#include "larder/cache/arena/arena.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/cache/arena/arena_memory.h"
#include "tests/support/eventually.h"
#include "tests/support/forked_child.h"
#include "tests/support/seccomp.h"
#include "tests/support/temporary_directory.h"

namespace larder::cache {
namespace {

using testing::ForkedChild;
using testing::TemporaryDirectory;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

std::unique_ptr<Arena> open(const ArenaOptions& options) {
  auto arena = Arena::open(options);
  EXPECT_TRUE(arena) << arena.error().text;
  return arena ? *std::move(arena) : nullptr;
}

ArenaOptions without_helper(ArenaKind kind, std::uint64_t capacity) {
  return {.kind = kind,
          .name = "larder_arena_test_" + std::to_string(::getpid()),
          .capacity_bytes = capacity,
          .commit_ahead_bytes = 0};
}

void fill(const Arena& arena, SlotRef slot, unsigned char with) {
  std::memset(arena.base() + slot.offset, with, slot.bytes);
}

bool holds(const Arena& arena, SlotRef slot, unsigned char with) {
  const std::byte* begin = arena.base() + slot.offset;
  return std::all_of(begin, begin + slot.bytes, [&](std::byte b) { return b == std::byte{with}; });
}

std::uint64_t resident_bytes() {
  std::ifstream statm{"/proc/self/statm"};
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// A tmpfs of so many bytes, or nothing where mounting is not allowed.
class SmallTmpfs {
 public:
  explicit SmallTmpfs(std::uint64_t bytes) {
    const std::string options = "size=" + std::to_string(bytes) + ",mode=0700";
    is_mounted_ = ::mount("larder-test", path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallTmpfs() {
    if (is_mounted_) ::umount2(path().c_str(), MNT_DETACH);
  }
  SmallTmpfs(const SmallTmpfs&) = delete;
  SmallTmpfs& operator=(const SmallTmpfs&) = delete;

  bool is_mounted() const noexcept { return is_mounted_; }
  const std::string& path() const noexcept { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
  bool is_mounted_ = false;
};

// ---- What every kind does -----------------------------------------------------------------------

class ArenaKindTest : public ::testing::TestWithParam<ArenaKind> {};

TEST_P(ArenaKindTest, ThirtyTwoKibHoldEightSlotsOfFourKib) {
  const auto arena = open(without_helper(GetParam(), std::uint64_t{32} * 1024));
  std::vector<SlotRef> slots;
  for (std::uint64_t i = 0; i < 8; ++i) {
    const auto slot = arena->take(4096);
    ASSERT_TRUE(slot);
    EXPECT_EQ(slot->offset, i * 4096);
    EXPECT_EQ(slot->bytes, 4096U);
    slots.push_back(*slot);
  }
  const auto refused = arena->take(1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), NoRoom::kNoRun);
  EXPECT_EQ(arena->free_bytes(), 0U);
  arena->give_back(slots[3]);
  EXPECT_EQ(arena->take(100)->offset, 3 * 4096U);
}

TEST_P(ArenaKindTest, UsageAddsUp) {
  const auto arena = open(without_helper(GetParam(), 10 * 4096 + 100));
  ArenaUsage usage = arena->usage();
  EXPECT_EQ(usage.capacity_bytes, 10 * 4096U);
  EXPECT_EQ(usage.free_bytes, 10 * 4096U);
  EXPECT_EQ(usage.largest_free_bytes, 10 * 4096U);
  EXPECT_EQ(usage.fragmentation, 0);
  const SlotRef first = *arena->take(1);
  const SlotRef second = *arena->take(4097);
  EXPECT_EQ(arena->taken_for(4097), 8192U);
  arena->give_back(first);
  usage = arena->usage();
  EXPECT_EQ(usage.used_bytes, 8192U);
  EXPECT_EQ(usage.free_bytes, 8 * 4096U);
  EXPECT_EQ(usage.largest_free_bytes, 7 * 4096U) << "the rest of the arena is one free run";
  EXPECT_DOUBLE_EQ(usage.fragmentation, 1.0 / 8);
  EXPECT_EQ(usage.slots, 1U);
  arena->give_back(second);
  EXPECT_EQ(arena->take(std::uint64_t{10} * 4096)->offset, 0U);
  EXPECT_EQ(arena->used_bytes(), arena->capacity_bytes());
}

TEST_P(ArenaKindTest, HostileSizes) {
  const auto arena = open(without_helper(GetParam(), kMiB));
  for (const std::uint64_t bytes :
       {kHuge, kHuge - 4095, kHuge - 4096, kMiB + 1, std::uint64_t{1} << 44}) {
    const auto refused = arena->take(bytes);
    ASSERT_FALSE(refused) << bytes;
    EXPECT_EQ(refused.error(), NoRoom::kNoRun);
  }
  const auto nothing = arena->take(0);
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->bytes, 0U);
  EXPECT_EQ(arena->used_bytes(), 4096U);
  arena->give_back(*nothing);
  EXPECT_EQ(arena->used_bytes(), 0U);
  arena->check_invariants();
}

TEST_P(ArenaKindTest, RandomHistoriesKeepTheBytesOfEverySlot) {
  const bool has_memory = GetParam() != ArenaKind::kOffsets;
  ArenaOptions options = without_helper(GetParam(), 4 * kMiB);
  options.commit_ahead_bytes = kMiB;  // The helper works beside the history.
  const auto arena = open(options);
  Random random{11};
  std::vector<std::pair<SlotRef, unsigned char>> live;
  int refused = 0;
  for (int step = 0; step < 4000; ++step) {
    if (live.empty() || random.below(10) < 6) {
      const auto slot = arena->take(random.below(100'000));
      if (!slot) {
        EXPECT_EQ(slot.error(), NoRoom::kNoRun);
        ++refused;
        continue;
      }
      const auto value = static_cast<unsigned char>(random.next());
      if (has_memory) fill(*arena, *slot, value);
      live.emplace_back(*slot, value);
    } else {
      std::swap(live[random.below(live.size())], live.back());
      if (has_memory) {
        ASSERT_TRUE(holds(*arena, live.back().first, live.back().second)) << step;
      }
      arena->give_back(live.back().first);
      live.pop_back();
    }
    if (step % 100 == 0) arena->check_invariants();
  }
  EXPECT_GT(refused, 0);
}

std::string kind_name(const ::testing::TestParamInfo<ArenaKind>& kind) {
  switch (kind.param) {
    case ArenaKind::kPrivate:
      return "Private";
    case ArenaKind::kShared:
      return "Shared";
    case ArenaKind::kOffsets:
      return "Offsets";
  }
  return "None";
}
INSTANTIATE_TEST_SUITE_P(Kinds, ArenaKindTest,
                         ::testing::Values(ArenaKind::kPrivate, ArenaKind::kShared,
                                           ArenaKind::kOffsets),
                         kind_name);

TEST(ArenaTest, WhereSlotsLieDoesNotDependOnTheKindOrTheHelper) {
  const auto run = [](ArenaKind kind, std::uint64_t ahead) {
    ArenaOptions options = without_helper(kind, 8 * kMiB);
    options.commit_ahead_bytes = ahead;
    const auto arena = open(options);
    Random random{5};
    std::vector<SlotRef> live;
    std::vector<std::uint64_t> log;
    for (int step = 0; step < 3000; ++step) {
      if (live.empty() || random.below(10) < 6) {
        const auto slot = arena->take(random.below(200'000));
        log.push_back(slot ? slot->offset : kHuge);
        if (slot) live.push_back(*slot);
      } else {
        std::swap(live[random.below(live.size())], live.back());
        arena->give_back(live.back());
        live.pop_back();
      }
    }
    return log;
  };
  const auto offsets = run(ArenaKind::kOffsets, 0);
  EXPECT_EQ(run(ArenaKind::kOffsets, 0), offsets);
  EXPECT_EQ(run(ArenaKind::kPrivate, 0), offsets);
  EXPECT_EQ(run(ArenaKind::kPrivate, 2 * kMiB), offsets);
  EXPECT_EQ(run(ArenaKind::kShared, 64 * kMiB), offsets);
}

TEST(ArenaTest, SlotsAreAlignedToTheGrainInMemoryToo) {
  for (const std::uint64_t grain : {std::uint64_t{512}, std::uint64_t{4096}, kMiB, 4 * kMiB}) {
    ArenaOptions options = without_helper(ArenaKind::kPrivate, 4 * grain);
    options.grain_bytes = grain;
    const auto arena = open(options);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena->base()) % std::max(grain, 2 * kMiB), 0U);
    ASSERT_TRUE(arena->take(1));
    const auto second = arena->take(1);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->offset, grain);
    fill(*arena, *second, 1);
  }
}

TEST(ArenaTest, ARegionOf64GibOpensAtOnceAndTouchesNothing) {
  for (const ArenaKind kind : {ArenaKind::kPrivate, ArenaKind::kShared, ArenaKind::kOffsets}) {
    // The best of a few: other processes may have the machine.
    constexpr std::uint64_t kLimitNs = 50'000'000;
    std::uint64_t best_ns = kHuge;
    for (int attempt = 0; attempt < 10 && best_ns >= kLimitNs; ++attempt) {
      const std::uint64_t resident_before = resident_bytes();
      const std::uint64_t begin_ns = RealClock::instance().now_ns();
      const auto arena = open(without_helper(kind, std::uint64_t{64} << 30));
      best_ns = std::min(best_ns, RealClock::instance().now_ns() - begin_ns);
      ASSERT_NE(arena, nullptr);
      EXPECT_LT(resident_bytes(), resident_before + 8 * kMiB);
      EXPECT_EQ(arena->capacity_bytes(), std::uint64_t{64} << 30);
      EXPECT_EQ(arena->report().committed_bytes, 0U);
      const auto slot = arena->take(kMiB);
      ASSERT_TRUE(slot);
      if (kind != ArenaKind::kOffsets) fill(*arena, *slot, 7);
    }
    EXPECT_LT(best_ns, kLimitNs);
  }
}

TEST(ArenaTest, OptionsThatCannotWorkNameTheRemedy) {
  ArenaOptions no_capacity = without_helper(ArenaKind::kPrivate, 4095);
  ArenaOptions odd_grain = without_helper(ArenaKind::kPrivate, kMiB);
  odd_grain.grain_bytes = 5000;
  ArenaOptions relative = without_helper(ArenaKind::kShared, kMiB);
  relative.directory = "shm";
  ArenaOptions no_name = without_helper(ArenaKind::kShared, kMiB);
  no_name.name = "";
  const ArenaOptions too_many = without_helper(ArenaKind::kPrivate, std::uint64_t{1} << 45);
  for (const auto& [options, remedy] :
       std::vector<std::pair<ArenaOptions, std::string>>{{no_capacity, "make it larger"},
                                                         {odd_grain, "4096 suits"},
                                                         {relative, "such as /dev/shm"},
                                                         {no_name, "for example 'larder_l1'"},
                                                         {too_many, "raise its alignment"}}) {
    const auto refused = Arena::open(options);
    ASSERT_FALSE(refused) << remedy;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().text.find(remedy), std::string::npos) << refused.error().text;
  }
  // Address space that no process has, in a grain that the allocator takes.
  ArenaOptions too_large = without_helper(ArenaKind::kPrivate, std::uint64_t{1} << 50);
  too_large.grain_bytes = kMiB;
  const auto refused = Arena::open(too_large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted) << refused.error().text;
}

using ArenaDeathTest = ::testing::Test;

TEST(ArenaDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto arena = open(without_helper(ArenaKind::kOffsets, kMiB));
  const SlotRef slot = *arena->take(10'000);
  EXPECT_DEATH(arena->give_back({slot.offset, 4096}), "LARDER_CHECK") << "another size";
  EXPECT_DEATH(arena->give_back({slot.offset + 4096, 4096}), "LARDER_CHECK");
  arena->give_back(slot);
  EXPECT_DEATH(arena->give_back(slot), "LARDER_CHECK") << "twice";
}

// ---- Shared memory ------------------------------------------------------------------------------

TEST(SharedArenaTest, AnotherProcessMapsItByName) {
  const ArenaOptions options = without_helper(ArenaKind::kShared, kMiB);
  const auto arena = open(options);
  EXPECT_EQ(arena->name(), options.name);
  const SlotRef slot = *arena->take(5000);
  const SlotRef second = *arena->take(5000);
  fill(*arena, second, 42);
  const ForkedChild worker{[&](int) -> std::string {
    const UniqueFd fd{::shm_open(("/" + options.name).c_str(), O_RDWR, 0)};
    if (!fd) return "no such name";
    void* mapped = ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (mapped == MAP_FAILED) return "not mapped";
    auto* base = static_cast<std::byte*>(mapped);
    if (base[second.offset] != std::byte{42}) return "other bytes";
    std::memset(base + slot.offset, 43, slot.bytes);
    return "written";
  }};
  EXPECT_EQ(worker.said(), "written");
  EXPECT_TRUE(holds(*arena, slot, 43));
  EXPECT_TRUE(holds(*arena, second, 42));
}

TEST(SharedArenaTest, ALiveNameIsRefusedAndADeadOneReplaced) {
  const ArenaOptions options = without_helper(ArenaKind::kShared, kMiB);
  ForkedChild owner{[&](int hold) -> std::string {
    static auto arena = Arena::open(options);
    if (!arena) return arena.error().text;
    const auto slot = (*arena)->take(kMiB);
    if (!slot) return "no slot";
    std::memset((*arena)->base(), 99, kMiB);
    ForkedChild::fork_to_stay(hold);
    return "opened";
  }};
  ASSERT_EQ(owner.said(), "opened");
  const auto refused = Arena::open(options);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("in use by process " + std::to_string(owner.pid())),
            std::string::npos)
      << refused.error().text;
  owner.kill();  // Its own child lives on, and has neither the descriptor nor the mapping.
  const auto arena = open(options);
  ASSERT_NE(arena, nullptr);
  EXPECT_TRUE(arena->report().has_replaced_stale);
  const SlotRef slot = *arena->take(kMiB);
  EXPECT_TRUE(holds(*arena, slot, 0)) << "nothing of the dead owner's memory is seen";
}

TEST(SharedArenaTest, AChildMadeByForkLeavesEverythingToItsParent) {
  for (const ArenaKind kind : {ArenaKind::kPrivate, ArenaKind::kShared}) {
    ArenaOptions options = without_helper(kind, kMiB);
    options.commit_ahead_bytes = kMiB;
    auto arena = open(options);
    const SlotRef slot = *arena->take(5000);
    fill(*arena, slot, 3);
    const ForkedChild child{[&](int) -> std::string {
      unsigned char present = 0;
      if (::mincore(arena->base(), 4096, &present) == 0) return "has the mapping";
      arena.reset();
      return "destroyed";
    }};
    EXPECT_EQ(child.said(), "destroyed");
    EXPECT_TRUE(holds(*arena, slot, 3));
    if (kind == ArenaKind::kShared) {
      EXPECT_EQ(::access(("/dev/shm/" + options.name).c_str(), F_OK), 0);
    }
    const std::string name = options.name;
    arena.reset();
    EXPECT_NE(::access(("/dev/shm/" + name).c_str(), F_OK), 0);
  }
}

TEST(SharedArenaTest, AFullTmpfsIsNoMemoryAndNeverSigbus) {
  const SmallTmpfs tmpfs{8 * kMiB};
  if (!tmpfs.is_mounted()) GTEST_SKIP() << "SKIPPED (needs root)";
  for (const std::uint64_t ahead : {std::uint64_t{0}, 64 * kMiB}) {
    ArenaOptions options = without_helper(ArenaKind::kShared, 64 * kMiB);
    options.directory = tmpfs.path();
    options.commit_ahead_bytes = ahead;
    const auto arena = open(options);
    ASSERT_NE(arena, nullptr);
    EXPECT_EQ(arena->report().file_system_bytes, 8 * kMiB);
    std::vector<SlotRef> slots;
    while (true) {
      const auto slot = arena->take(300'000);
      if (!slot) {
        EXPECT_EQ(slot.error(), NoRoom::kNoMemory);
        break;
      }
      fill(*arena, *slot, static_cast<unsigned char>(slots.size()));
      slots.push_back(*slot);
      ASSERT_LT(slots.size(), 30U);
    }
    EXPECT_GE(slots.size(), 26U) << "all but the mark's page and what is less than a slot";
    EXPECT_GT(arena->report().commit_failures, 0U);
    EXPECT_EQ(arena->report().commit_errno, ENOSPC);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      EXPECT_TRUE(holds(*arena, slots[i], static_cast<unsigned char>(i)));
    }
    // Less than a step fits still, to the page.
    while (const auto slot = arena->take(4096)) {
      fill(*arena, *slot, 200);
      slots.push_back(*slot);
    }
    // Freed slots are reused without a further page, also at the end.
    arena->give_back(slots.back());
    arena->give_back(slots[5]);
    EXPECT_EQ(arena->take(300'000)->offset, slots[5].offset);
    EXPECT_EQ(arena->take(4096)->offset, slots.back().offset);
    EXPECT_EQ(arena->take(300'000).error(), NoRoom::kNoMemory);
    EXPECT_EQ(arena->take(65 * kMiB).error(), NoRoom::kNoRun) << "more than the arena has";
    arena->check_invariants();
  }
}

TEST(SharedArenaTest, ATmpfsThatGetsRoomAgainIsUsed) {
  const SmallTmpfs tmpfs{4 * kMiB};
  if (!tmpfs.is_mounted()) GTEST_SKIP() << "SKIPPED (needs root)";
  ArenaOptions options = without_helper(ArenaKind::kShared, 16 * kMiB);
  options.directory = tmpfs.path();
  options.commit_ahead_bytes = 16 * kMiB;
  const auto arena = open(options);
  ASSERT_TRUE(arena->take(3 * kMiB));
  EXPECT_EQ(arena->take(3 * kMiB).error(), NoRoom::kNoMemory);
  ASSERT_EQ(::mount("larder-test", tmpfs.path().c_str(), "tmpfs", MS_REMOUNT, "size=32M"), 0);
  const auto slot = arena->take(3 * kMiB);
  ASSERT_TRUE(slot);
  fill(*arena, *slot, 9);
}

TEST(SharedArenaTest, TheMountSaysWhetherThereAreHugePages) {
  const SmallTmpfs tmpfs{16 * kMiB};
  if (!tmpfs.is_mounted()) GTEST_SKIP() << "SKIPPED (needs root)";
  const auto reported = [&](const char* option) -> std::string {
    if (::mount("larder-test", tmpfs.path().c_str(), "tmpfs", MS_REMOUNT, option) != 0) return "";
    ArenaOptions options = without_helper(ArenaKind::kShared, 8 * kMiB);
    options.directory = tmpfs.path();
    const auto arena = open(options);
    EXPECT_TRUE(arena->take(4 * kMiB));
    EXPECT_LE(arena->huge_page_bytes(), 8 * kMiB);
    EXPECT_EQ(arena->huge_page_bytes() % (2 * kMiB), 0U);
    return arena->report().huge_pages == HugePages::kAllowed ? "allowed" : "refused";
  };
  const std::string allowed = reported("huge=advise");
  if (allowed.empty()) GTEST_SKIP() << "SKIPPED (needs a kernel with huge pages in tmpfs)";
  EXPECT_EQ(allowed, "allowed");
  EXPECT_EQ(reported("huge=never"), "refused");
}

TEST(SharedArenaTest, AKernelWithoutPopulateAllocatesByFile) {
  const SmallTmpfs tmpfs{4 * kMiB};
  if (!tmpfs.is_mounted()) GTEST_SKIP() << "SKIPPED (needs root)";
  const ForkedChild child{[&](int) -> std::string {
    // All advice is refused then, as some of it is on old kernels.
    if (!testing::forbid_call(SYS_madvise, EINVAL)) return "cannot forbid calls";
    ArenaOptions options = without_helper(ArenaKind::kShared, 16 * kMiB);
    options.directory = tmpfs.path();
    const auto arena = Arena::open(options);
    if (!arena) return arena.error().text;
    if ((*arena)->report().huge_pages != HugePages::kRefused) return "huge pages";
    const auto slot = (*arena)->take(3 * kMiB);
    if (!slot) return "no slot";
    std::memset((*arena)->base(), 1, 3 * kMiB);
    const auto refused = (*arena)->take(3 * kMiB);
    if (refused || refused.error() != NoRoom::kNoMemory) return "not full";
    return "full";
  }};
  EXPECT_EQ(child.said(), "full");
}

// ---- Committing ahead ---------------------------------------------------------------------------

/// The helper's work without a call.
bool commits(const Arena& arena, std::uint64_t bytes) {
  return testing::eventually([&] { return arena.report().committed_bytes >= bytes; });
}

int threads() {
  int count = 0;
  ::DIR* tasks = ::opendir("/proc/self/task");
  if (tasks == nullptr) return -1;
  while (const ::dirent* task = ::readdir(tasks)) count += task->d_name[0] != '.' ? 1 : 0;
  ::closedir(tasks);
  return count;
}

TEST(CommitAheadTest, StaysAheadOfTheHighestByteInUseAndNoFurther) {
  ArenaOptions options = without_helper(ArenaKind::kPrivate, 64 * kMiB);
  options.commit_ahead_bytes = 8 * kMiB;
  const auto arena = open(options);
  ASSERT_TRUE(commits(*arena, 8 * kMiB));
  for (int i = 0; i < 20; ++i) {
    const auto slot = arena->take(kMiB);
    ASSERT_TRUE(slot);
    fill(*arena, *slot, 1);
    ASSERT_TRUE(commits(*arena, (static_cast<std::uint64_t>(i) + 1 + 4) * kMiB));
  }
  const ArenaReport report = arena->report();
  EXPECT_EQ(report.inline_commits, 0U);
  EXPECT_LE(report.committed_bytes, 28 * kMiB);
  // Slots below the highest byte need nothing.
  arena->give_back({0, kMiB});
  ASSERT_EQ(arena->take(kMiB)->offset, 0U);
  EXPECT_LE(arena->report().committed_bytes, 28 * kMiB);
}

TEST(CommitAheadTest, TheEndOfTheArenaIsTheEndOfTheWork) {
  ArenaOptions options = without_helper(ArenaKind::kPrivate, 5 * kMiB);
  options.commit_ahead_bytes = kHuge;
  const auto arena = open(options);
  ASSERT_TRUE(commits(*arena, 5 * kMiB));
  ASSERT_TRUE(arena->take(5 * kMiB));
  EXPECT_EQ(arena->report().inline_commits, 0U);
  EXPECT_EQ(arena->report().committed_bytes, 5 * kMiB);
}

TEST(CommitAheadTest, WithoutItPagesAreCommittedInTake) {
  const int threads_before = threads();
  const auto arena = open(without_helper(ArenaKind::kPrivate, 64 * kMiB));
  EXPECT_EQ(threads(), threads_before);
  ASSERT_TRUE(arena->take(3 * kMiB));
  EXPECT_EQ(arena->report().inline_commits, 1U);
  EXPECT_EQ(arena->report().committed_bytes, 4 * kMiB) << "whole steps";
  ASSERT_TRUE(arena->take(kMiB));
  EXPECT_EQ(arena->report().inline_commits, 1U);
}

TEST(CommitAheadTest, EndsWithTheArenaAlsoInTheMiddleOfItsWork) {
  ArenaOptions options = without_helper(ArenaKind::kPrivate, 256 * kMiB);
  options.commit_ahead_bytes = 256 * kMiB;
  open(options);  // A sanitizer starts a thread of its own at the first one.
  for (int round = 0; round < 20; ++round) {
    const int threads_before = threads();
    auto arena = open(options);
    EXPECT_EQ(threads(), threads_before + 1);
    arena.reset();
    // The kernel may show a thread for a moment after it was joined.
    ASSERT_TRUE(testing::eventually([&] { return threads() <= threads_before; }));
  }
}

TEST(ArenaTest, HugePagesAreReportedAsTheKernelGivesThem) {
  ArenaOptions options = without_helper(ArenaKind::kPrivate, 16 * kMiB);
  options.huge_pages = false;
  EXPECT_EQ(open(options)->report().huge_pages, HugePages::kOff);
  options.huge_pages = true;
  const auto arena = open(options);
  ASSERT_TRUE(arena->take(8 * kMiB));
  std::ifstream setting{"/sys/kernel/mm/transparent_hugepage/enabled"};
  std::string text;
  std::getline(setting, text);
  if (text.empty() || text.find("[never]") != std::string::npos) {
    EXPECT_EQ(arena->report().huge_pages, HugePages::kRefused);
    EXPECT_EQ(arena->huge_page_bytes(), 0U);
  } else {
    EXPECT_EQ(arena->report().huge_pages, HugePages::kAllowed);
    EXPECT_LE(arena->huge_page_bytes(), 8 * kMiB);
    EXPECT_EQ(arena->huge_page_bytes() % (2 * kMiB), 0U);
  }
  EXPECT_EQ(open(without_helper(ArenaKind::kOffsets, kMiB))->report().huge_pages, HugePages::kOff);
}

}  // namespace
}  // namespace larder::cache
