#include "larder/cache/arena/arena_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <string>
#include <utility>

#include "larder/base/fork_guard.h"
#include "larder/base/size_text.h"
#include "larder/base/system_files.h"

namespace larder::cache {
namespace {

// From linux/mman.h of 5.14 on.
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;

std::uint64_t page_bytes() noexcept {
  static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) & ~(multiple - 1);
}

/// Address space without memory, aligned; null: none. mmap() itself aligns to pages only.
std::byte* reserve(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  const std::uint64_t reserved = bytes + alignment;
  void* region =
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(region);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uint64_t before = round_up(address, alignment) - address;
  if (before != 0) ::munmap(begin, before);
  begin += before;
  if (before != alignment) ::munmap(begin + bytes, alignment - before);
  return begin;
}

/// The KiB of a line of /proc/self/smaps such as "AnonHugePages:   2048 kB".
std::uint64_t kib_of(const std::string& line) noexcept {
  const std::size_t digit = line.find_first_of("0123456789");
  std::uint64_t kib = 0;
  if (digit != std::string::npos) {
    std::from_chars(line.data() + digit, line.data() + line.size(), kib);
  }
  return kib;
}

}  // namespace

SetupResult<std::unique_ptr<ArenaMemory>> ArenaMemory::open(const ArenaOptions& options,
                                                            std::uint64_t capacity_bytes) {
  const std::uint64_t bytes = round_up(capacity_bytes, page_bytes());
  // From the descriptor to the advice: a child must have neither file nor mapping.
  const NoFork no_fork;
  std::optional<SegmentFile> file;
  if (options.kind == ArenaKind::kShared) {
    LARDER_ASSIGN(SegmentFile made,
                  SegmentFile::create(options.directory, options.name, bytes, no_fork));
    file.emplace(std::move(made));
  }
  const auto refused = [bytes](int sys_errno) {
    return SetupError{ErrorCode::kResourceExhausted,
                      "no address space for an L1 of " + format_bytes_exact(bytes) + ": " +
                          errno_text(sys_errno) + "; make it smaller, or look at ulimit -v and " +
                          "vm.overcommit_memory"};
  };
  std::byte* const base = reserve(bytes, std::max(kHugePage, options.grain_bytes));
  if (base == nullptr) return refused(errno);
  const int flags = (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_NORESERVE | MAP_FIXED;
  if (::mmap(base, bytes, PROT_READ | PROT_WRITE, flags, file ? file->fd() : -1, 0) == MAP_FAILED) {
    const int sys_errno = errno;
    ::munmap(base, bytes);
    return refused(sys_errno);
  }
  std::unique_ptr<ArenaMemory> memory{new ArenaMemory{std::move(file), base, bytes}};
  memory->advise(options);
  return memory;
}

ArenaMemory::~ArenaMemory() {
  ::munmap(base_, bytes_);
}

void ArenaMemory::advise(const ArenaOptions& options) {
  // A child would keep a shared file's lock, and would make copies of private pages that a device
  // writes to.
  (void)::madvise(base_, bytes_, MADV_DONTFORK);
  (void)::madvise(base_, bytes_, MADV_DONTDUMP);
  if (!options.huge_pages) return;
  huge_pages_ = HugePages::kRefused;
  if (::madvise(base_, bytes_, MADV_HUGEPAGE) != 0) return;
  const std::string setting =
      file_ ? huge_pages_of_tmpfs(options.directory) : huge_pages_of_memory();
  if (!setting.empty() && setting != "never") huge_pages_ = HugePages::kAllowed;
}

Status ArenaMemory::commit_to(std::uint64_t end) noexcept {
  while (committed_bytes() < end) LARDER_TRY(commit_step(end));
  return {};
}

Status ArenaMemory::commit_step(std::uint64_t end) noexcept {
  const std::uint64_t begin = committed_bytes();
  if (begin >= end) return {};
  std::uint64_t step_end = std::min((begin / kStepBytes + 1) * kStepBytes, bytes_);
  int failed = populate(begin, step_end);
  const std::uint64_t needed_end = std::min(round_up(end, page_bytes()), bytes_);
  if (failed != 0 && needed_end < step_end) {
    step_end = needed_end;
    failed = populate(begin, step_end);
  }
  if (failed != 0) {
    commit_failures_.fetch_add(1, std::memory_order_relaxed);
    commit_errno_.store(failed, std::memory_order_relaxed);
    return Error::from_errno(failed, "arena", "committing memory");
  }
  std::uint64_t committed = begin;
  while (committed < step_end &&
         !committed_.compare_exchange_weak(committed, step_end, std::memory_order_acq_rel)) {
  }
  return {};
}

int ArenaMemory::populate(std::uint64_t begin, std::uint64_t end) noexcept {
  int result = 0;
  do {
    result = ::madvise(base_ + begin, end - begin, MADV_POPULATE_WRITE);
  } while (result != 0 && (errno == EINTR || errno == EAGAIN));
  if (result == 0) return 0;
  // EFAULT: the access would have raised SIGBUS.
  if (errno == EFAULT) return file_ ? ENOSPC : ENOMEM;
  if (errno != EINVAL) return errno;
  // A kernel before 5.14. Private pages then appear at their first touch, which raises no SIGBUS.
  if (!file_) return 0;
  do {
    result =
        ::fallocate(file_->fd(), 0, static_cast<::off_t>(begin), static_cast<::off_t>(end - begin));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

std::uint64_t ArenaMemory::huge_page_bytes() const {
  std::ifstream smaps{"/proc/self/smaps"};
  const auto first = reinterpret_cast<std::uintptr_t>(base_);
  std::uint64_t kib = 0;
  bool is_ours = false;
  for (std::string line; std::getline(smaps, line);) {
    // "7f0000000000-7f1000000000 rw-p ...": a mapping's first line; the kernel may cut ours up.
    std::uintptr_t begin = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), begin, 16);
    if (parsed.ec == std::errc{} && parsed.ptr != line.data() + line.size() && *parsed.ptr == '-') {
      is_ours = begin >= first && begin - first < bytes_;
    } else if (is_ours &&
               (line.starts_with("AnonHugePages:") || line.starts_with("ShmemPmdMapped:"))) {
      kib += kib_of(line);
    }
  }
  return kib * 1024;
}

}  // namespace larder::cache
