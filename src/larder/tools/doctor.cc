#include "larder/tools/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

constexpr std::uint64_t kLockedMemoryWanted = 8 * kMiB;
constexpr std::uint64_t kOpenFilesWanted = 4096;
constexpr std::uint64_t kOpenFilesNeeded = 256;
/// min_free and the smallest store there can be, and the smallest with the default max_value.
constexpr std::uint64_t kFreeNeeded = kGiB + 512 * kMiB;
constexpr std::uint64_t kFreeWanted = 33 * kGiB;
constexpr std::uint32_t kOffsetAlignmentMax = 65536;

Finding good(std::string name, std::string what, std::string why) {
  return {FindingLevel::kGood, std::move(name), std::move(what), std::move(why), {}};
}

Finding finding(FindingLevel level, std::string name, std::string what, std::string why,
                std::string mend) {
  return {level, std::move(name), std::move(what), std::move(why), std::move(mend)};
}

/// So that a command can be pasted whatever the path holds.
std::string quoted(const std::string& path) {
  std::string text = "'";
  for (const char c : path) text += c == '\'' ? std::string{"'\\''"} : std::string(1, c);
  return text + "'";
}

// --- The machine --------------------------------------------------------------------------------

Finding judge_kernel(const MachineFacts& facts) {
  const std::string why = "io_uring has all that larder uses from 5.19 on";
  int major = 0;
  int minor = 0;
  const bool is_known = std::sscanf(facts.kernel.c_str(), "%d.%d", &major, &minor) == 2;
  if (is_known && std::pair{major, minor} >= std::pair{5, 19}) {
    return good("kernel", facts.kernel, why);
  }
  return finding(FindingLevel::kWarning, "kernel",
                 is_known ? facts.kernel + ", older than 5.19" : "unknown: '" + facts.kernel + "'",
                 why + "; before that transfers go through threads",
                 "apt-get install -t bookworm-backports linux-image-amd64 && reboot");
}

Finding judge_uring(const MachineFacts& facts) {
  const std::string why =
      "through threads instead, transfers cost more CPU and small values lose bandwidth";
  if (facts.uring_errno == 0 && facts.forced_io != "threads") {
    return good("io_uring", "allowed: a ring was set up and carried out a request", why);
  }
  if (facts.uring_errno == 0) {
    return finding(FindingLevel::kWarning, "io_uring",
                   "allowed, and switched off by LARDER_IO=threads", why, "unset LARDER_IO");
  }
  std::string mend;
  if (facts.uring_errno == ENOMEM) {
    mend = "ulimit -l unlimited";
  } else if (facts.uring_errno == EMFILE || facts.uring_errno == ENFILE) {
    mend = "ulimit -n 65536";
  } else if (facts.uring_disabled > 0) {
    mend = "sysctl -w kernel.io_uring_disabled=0";
  } else if (facts.has_system_call_filter) {
    mend =
        "docker run --security-opt seccomp=PROFILE.json ... where the profile allows "
        "io_uring_setup, io_uring_enter and io_uring_register";
  } else {
    mend = "boot a kernel of version 5.19 or later that has CONFIG_IO_URING=y";
  }
  return finding(FindingLevel::kProblem, "io_uring", "refused: " + facts.uring_error, why,
                 std::move(mend));
}

Finding judge_locked_memory(const MachineFacts& facts) {
  const bool is_unlimited = facts.locked_memory_bytes == ~std::uint64_t{0};
  const std::string what =
      is_unlimited ? "unlimited" : format_bytes_exact(facts.locked_memory_bytes);
  const std::string why = "rings and registered memory count against it (RLIMIT_MEMLOCK)";
  if (facts.locked_memory_bytes >= kLockedMemoryWanted) return good("memlock", what, why);
  return finding(
      FindingLevel::kWarning, "memlock", what + ", less than 8MiB", why,
      "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity, docker: --ulimit memlock=-1)");
}

Finding judge_open_files(const MachineFacts& facts) {
  const std::string what =
      fmt::format("{} (hard limit {})", facts.open_files, facts.open_files_hard);
  const std::string why =
      "a store has a file per segment open: 128 of them, and from 128 GiB on one per GiB "
      "(RLIMIT_NOFILE)";
  if (facts.open_files >= kOpenFilesWanted) return good("nofile", what, why);
  const std::string mend =
      facts.open_files_hard >= kOpenFilesWanted
          ? fmt::format("ulimit -n {}", std::min<std::uint64_t>(facts.open_files_hard, 65536))
          : "prlimit --pid $$ --nofile=65536 as root (systemd: LimitNOFILE=65536, docker: "
            "--ulimit nofile=65536)";
  return finding(
      facts.open_files < kOpenFilesNeeded ? FindingLevel::kProblem : FindingLevel::kWarning,
      "nofile", what, why, mend);
}

Finding judge_checksum(const MachineFacts& facts) {
  const std::string why =
      "every value is hashed (XXH3-128) when it is stored and loaded: that is most of the CPU time";
  if (facts.checksum == "avx512" || facts.checksum == "avx2") {
    return good("checksum", facts.checksum, why);
  }
  if (facts.has_avx2) {
    return finding(FindingLevel::kWarning, "checksum",
                   facts.checksum + ", although the processor has AVX2", why,
                   "apt-get install libxxhash-dev, then build larder again");
  }
  return finding(FindingLevel::kWarning, "checksum",
                 facts.checksum + ": the processor shows no AVX2", why,
                 "on a virtual machine pass the host's processor through (qemu: -cpu host)");
}

Finding judge_huge_pages(const MachineFacts& facts) {
  const std::string why =
      "direct I/O into 4 KiB pages costs some virtual disks half of their bandwidth";
  if (facts.huge_pages == "always" || facts.huge_pages == "madvise") {
    return good("huge_pages", "transparent huge pages: " + facts.huge_pages, why);
  }
  return finding(
      FindingLevel::kWarning, "huge_pages",
      "transparent huge pages: " +
          (facts.huge_pages.empty() ? std::string{"not in this kernel"} : facts.huge_pages),
      why, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

// --- The directory ------------------------------------------------------------------------------

/// What there is to say about a kind of file system; the first row whose names hold it counts.
struct FileSystemVerdict {
  std::string_view names;  ///< Between spaces.
  FindingLevel level;
  std::string_view why;
  std::string_view mend;  ///< DIR stands for the directory, quoted.
};

constexpr std::array<FileSystemVerdict, 7> kVerdicts{{
    {" ext4 xfs ", FindingLevel::kGood, "blocks are allocated once and overwritten where they are",
     ""},
    {" tmpfs ramfs devtmpfs ", FindingLevel::kProblem,
     "it lives in memory: no direct I/O, and nothing survives a reboot",
     "mkfs.xfs /dev/DISK && mount /dev/DISK DIR"},
    {" overlay aufs ", FindingLevel::kWarning,
     "it is a container's own layer: slower, and gone with the container",
     "docker run -v /data/kv:DIR ..."},
    {" btrfs ", FindingLevel::kWarning,
     "an overwritten block moves to a new place: slower, more fragmented with time, and it may "
     "need space that is not there",
     "mkdir -p DIR && chattr +C DIR (before the store is made)"},
    {" zfs bcachefs f2fs nilfs2 ", FindingLevel::kWarning,
     "an overwritten block moves to a new place: slower, more fragmented with time, and it may "
     "need space that is not there",
     "mkfs.xfs /dev/DISK && mount /dev/DISK DIR"},
    {" nfs nfs4 cifs smb3 smb2 ceph lustre gpfs beegfs glusterfs afs fuse fuseblk 9p virtiofs ",
     FindingLevel::kWarning,
     "it is another machine's or process's: its pauses are larder's, and its locks may not keep "
     "two machines out of one store",
     "mkfs.xfs /dev/DISK && mount /dev/DISK DIR (on a disk of this machine)"},
    {" ext2 ext3 vfat exfat ntfs ntfs3 msdos ", FindingLevel::kProblem,
     "it cannot give a file its blocks ahead (fallocate)",
     "mkfs.xfs /dev/DISK && mount /dev/DISK DIR"},
}};

std::string with_directory(std::string_view command, const DirectoryFacts& facts) {
  std::string text{command};
  for (std::size_t at = 0; (at = text.find("DIR", at)) != std::string::npos;) {
    const std::string name = quoted(facts.directory);
    text.replace(at, 3, name);
    at += name.size();
  }
  return text;
}

Finding judge_file_system(const DirectoryFacts& facts) {
  const std::string what =
      facts.file_system + (facts.block_device.empty() ? "" : " on " + facts.block_device);
  std::string kind = facts.file_system;
  if (kind.starts_with("fuse.")) kind = "fuse";
  for (const FileSystemVerdict& verdict : kVerdicts) {
    if (verdict.names.find(" " + kind + " ") == std::string_view::npos) continue;
    return finding(verdict.level, "file_system", what, std::string{verdict.why},
                   with_directory(verdict.mend, facts));
  }
  return finding(FindingLevel::kWarning, "file_system", what + ": not one that larder is tested on",
                 "ext4 and xfs are known to keep what the log store counts on",
                 with_directory("mkfs.xfs /dev/DISK && mount /dev/DISK DIR", facts));
}

Finding judge_access(const DirectoryFacts& facts) {
  const std::string name = quoted(facts.directory);
  const std::string why = "larder makes files in it, for its own user alone (0600)";
  if (!facts.is_directory) {
    return finding(FindingLevel::kProblem, "directory", facts.probed + " is not a directory", why,
                   "ls -ld " + quoted(facts.probed));
  }
  if (facts.is_read_only) {
    return finding(FindingLevel::kProblem, "directory", facts.probed + " is mounted read-only", why,
                   "dmesg | tail (for why), then mount -o remount,rw " + quoted(facts.mount_point));
  }
  if (!facts.is_writable) {
    return finding(FindingLevel::kProblem, "directory",
                   facts.probed + " cannot be written to by this user", why,
                   facts.exists ? "chown $(id -u) " + name
                                : "install -d -m 0700 -o $(id -un) " + name + " (as root)");
  }
  if (!facts.foreign_file.empty()) {
    return finding(
        FindingLevel::kProblem, "directory",
        facts.directory + " holds no store, and '" + escape_key(facts.foreign_file) + "'",
        "larder makes a store in an empty directory only",
        "mkdir -m 0700 " + quoted(facts.directory + "/larder"));
  }
  return good("directory",
              facts.directory + (facts.has_store ? " holds a store"
                                 : facts.exists  ? " is empty"
                                                 : " does not exist yet; larder makes it"),
              why);
}

Finding judge_direct_io(const DirectoryFacts& facts) {
  const std::string why =
      "without direct I/O every byte is copied through the page cache, which then holds it twice";
  if (facts.direct.is_supported && facts.direct.alignment.offset <= kOffsetAlignmentMax) {
    return good("direct_io",
                fmt::format("works; memory aligned to {}, offsets to {} bytes",
                            facts.direct.alignment.memory, facts.direct.alignment.offset),
                why);
  }
  const std::string what =
      facts.direct.is_supported
          ? fmt::format("needs offsets aligned to {} bytes", facts.direct.alignment.offset)
          : facts.direct.why_not;
  return finding(FindingLevel::kProblem, "direct_io", what, why,
                 with_directory("mkfs.xfs /dev/DISK && mount /dev/DISK DIR", facts));
}

Finding judge_allocation(const DirectoryFacts& facts) {
  const std::string why =
      "segments get their blocks ahead, so that a full disk never meets a write";
  if (facts.allocate_error.empty()) return good("fallocate", "works", why);
  return finding(FindingLevel::kProblem, "fallocate", facts.allocate_error, why,
                 with_directory("mkfs.xfs /dev/DISK && mount /dev/DISK DIR", facts));
}

Finding judge_space(const DirectoryFacts& facts) {
  const std::string what = format_bytes(facts.free_bytes) + " free";
  const std::string mend = "du -xh --max-depth=2 " + quoted(facts.mount_point) +
                           " | sort -h | tail (shows what takes the space)";
  const std::string why =
      "below min_free (1 GiB) nothing grows; with the default max_value of 128 MiB a store has at "
      "least 32 GiB";
  if (facts.has_store && facts.free_bytes >= kFreeNeeded) return good("free_space", what, why);
  if (facts.free_bytes >= kFreeWanted) return good("free_space", what, why);
  return finding(facts.free_bytes < kFreeNeeded ? FindingLevel::kProblem : FindingLevel::kWarning,
                 "free_space", what, why, mend);
}

Finding judge_block_device(const DirectoryFacts& facts) {
  const std::string why = "a load is one read at one place: what the disk does is what you get";
  if (facts.block_device.empty()) {
    return good("device", "none that the kernel counts for",
                "larder bench cannot tell warm from "
                "cold here");
  }
  if (facts.is_buffered_loop) {
    return finding(FindingLevel::kWarning, "device",
                   facts.block_device + ", a loop device that goes through the page cache",
                   "direct I/O ends in memory all the same, and benchmarks show no disk",
                   "losetup --direct-io=on /dev/" + facts.block_device);
  }
  // Virtual disks say so without knowing.
  const bool is_virtual =
      facts.block_device.starts_with("vd") || facts.block_device.starts_with("xvd");
  if (facts.is_rotational && !is_virtual) {
    return finding(
        FindingLevel::kWarning, "device", facts.block_device + ", which rotates", why,
        "if it does not: echo 0 > /sys/block/" + facts.block_device + "/queue/rotational");
  }
  return good("device", facts.block_device, why);
}

}  // namespace

std::string_view name_of(FindingLevel level) noexcept {
  switch (level) {
    case FindingLevel::kGood:
      return "good";
    case FindingLevel::kWarning:
      return "warning";
    case FindingLevel::kProblem:
      return "problem";
  }
  return "unknown";
}

std::vector<Finding> diagnose(const MachineFacts& facts) {
  std::vector<Finding> findings = {judge_kernel(facts),        judge_uring(facts),
                                   judge_locked_memory(facts), judge_open_files(facts),
                                   judge_checksum(facts),      judge_huge_pages(facts)};
  if (!facts.directory) return findings;
  const DirectoryFacts& directory = *facts.directory;
  findings.push_back(judge_access(directory));
  if (!directory.is_directory) return findings;
  findings.push_back(judge_file_system(directory));
  if (directory.is_writable && !directory.is_read_only) {
    findings.push_back(judge_direct_io(directory));
    findings.push_back(judge_allocation(directory));
  }
  findings.push_back(judge_space(directory));
  findings.push_back(judge_block_device(directory));
  return findings;
}

bool is_healthy(const std::vector<Finding>& findings) {
  return std::ranges::none_of(
      findings, [](const Finding& one) { return one.level == FindingLevel::kProblem; });
}

std::string to_text(const std::vector<Finding>& findings) {
  std::string text;
  std::array<std::size_t, 3> counts{};
  for (const Finding& finding : findings) {
    ++counts[static_cast<std::size_t>(finding.level)];
    text += fmt::format("{:<8} {:<12} {}\n{:<21} why: {}\n", name_of(finding.level), finding.name,
                        finding.what, "", finding.why);
    if (!finding.mend.empty()) text += fmt::format("{:<21} mend: {}\n", "", finding.mend);
  }
  return text + fmt::format("\n{} good, {}, {}\n", counts[0], format_count(counts[1], "warning"),
                            format_count(counts[2], "problem"));
}

std::string to_json(const std::vector<Finding>& findings) {
  nlohmann::json json = {{"ok", is_healthy(findings)}, {"findings", nlohmann::json::array()}};
  for (const Finding& finding : findings) {
    json["findings"].push_back({{"name", finding.name},
                                {"level", name_of(finding.level)},
                                {"what", finding.what},
                                {"why", finding.why},
                                {"mend", finding.mend}});
  }
  // A path need not be UTF-8.
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
