// The doctor's findings about a directory.
#include <fmt/format.h>

#include <array>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/tools/doctor.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// The smallest possible log store, and the smallest with values of 128 MiB.
constexpr std::uint64_t kSmallestLog = 512 * kMiB;
constexpr std::uint64_t kRoomyLog = 8 * kGiB;
constexpr std::uint32_t kOffsetAlignmentMax = 65536;

constexpr const char* kShowDisks = "df -hT -x tmpfs -x devtmpfs -x overlay";
constexpr const char* kOtherDisk = "keep it on ext4 or xfs, on a disk of this machine";

Finding good(std::string name, std::string what, std::string why) {
  return {.name = std::move(name), .what = std::move(what), .why = std::move(why)};
}

std::string as_root(const MachineFacts& machine, const std::string& command) {
  return (machine.is_root ? "" : "sudo ") + command;
}

/// Advice on a kind of file system under a log; the first row with its name counts.
struct FileSystemVerdict {
  std::string_view names;  ///< Between spaces.
  FindingLevel level;
  std::string_view why;
  std::string_view note;
};

constexpr std::string_view kMovesBlocks =
    "an overwritten block moves to a new place: slower, more fragmented with time, and it may need "
    "space that is not there";

constexpr std::array<FileSystemVerdict, 7> kVerdicts{{
    {" ext4 xfs ", FindingLevel::kGood, "blocks are allocated once and overwritten where they are",
     ""},
    {" tmpfs ramfs devtmpfs ", FindingLevel::kProblem,
     "it lives in memory: no direct I/O, and nothing survives a reboot", kOtherDisk},
    {" overlay aufs ", FindingLevel::kWarning,
     "it is a container's own layer: slower, and gone with the container",
     "mount a volume there (docker: -v /data/kv:/data/kv)"},
    {" btrfs ", FindingLevel::kWarning, kMovesBlocks,
     "only for a directory that holds no store yet"},
    {" zfs bcachefs f2fs nilfs2 ", FindingLevel::kWarning, kMovesBlocks, kOtherDisk},
    {" nfs nfs4 cifs smb3 smb2 ceph lustre gpfs beegfs glusterfs afs fuse fuseblk 9p virtiofs ",
     FindingLevel::kWarning,
     "it is another machine's or process's: its pauses are larder's, and its locks may not keep "
     "two machines out of one store",
     "keep it on a disk of this machine, or use fs: which is made for shared file systems"},
    {" ext2 ext3 vfat exfat ntfs ntfs3 msdos ", FindingLevel::kProblem,
     "it cannot give a file its blocks ahead (fallocate)", kOtherDisk},
}};

Finding judge_file_system(const DirectoryFacts& facts) {
  const std::string what = facts.file_system +
                           (facts.block_device.empty() ? "" : " on " + facts.block_device) +
                           (facts.mount_point.empty() ? "" : ", mounted at " + facts.mount_point);
  std::string kind = facts.file_system;
  if (kind.starts_with("fuse.")) kind = "fuse";
  if (facts.kind == StoreKind::kFiles) {
    const bool is_memory = kind == "tmpfs" || kind == "ramfs";
    if (!is_memory) return good("file_system", what, "files may be on any file system");
    return {.level = FindingLevel::kWarning,
            .name = "file_system",
            .what = what,
            .why = "it lives in memory: nothing survives a reboot",
            .mend = kShowDisks};
  }
  for (const FileSystemVerdict& verdict : kVerdicts) {
    if (verdict.names.find(" " + kind + " ") == std::string_view::npos) continue;
    Finding finding{.level = verdict.level,
                    .name = "file_system",
                    .what = what,
                    .why = std::string{verdict.why},
                    .note = std::string{verdict.note}};
    const std::string directory = shell_word(facts.directory);
    if (kind == "btrfs" && !facts.has_store) {
      finding.mend = "mkdir -p -m 0700 " + directory + " && chattr +C " + directory;
    } else if (verdict.level != FindingLevel::kGood) {
      finding.mend = kShowDisks;
    }
    return finding;
  }
  return {.level = FindingLevel::kWarning,
          .name = "file_system",
          .what = what + ": not one that larder is tested on",
          .why = "ext4 and xfs are known to keep what the log store counts on",
          .mend = kShowDisks,
          .note = kOtherDisk};
}

Finding judge_rights(const MachineFacts& machine, const DirectoryFacts& facts) {
  Finding finding{.level = FindingLevel::kProblem,
                  .name = "directory",
                  .what = facts.probed + " cannot be written to by " + machine.user,
                  .why = "larder makes files in it, for its own user alone (0600)"};
  const std::string directory = shell_word(facts.directory);
  const bool is_others = !facts.owner.empty() && facts.owner != machine.user;
  if (!facts.exists) {
    finding.what = facts.directory + " does not exist, and " + finding.what;
    finding.mend =
        as_root(machine, "install -d -m 0700 -o " + shell_word(machine.user) + " " + directory);
  } else if ((facts.has_store || facts.is_closed) && is_others) {
    // Taking it away from a store's owner would stop its users. A directory without access may hold
    // a store.
    finding.mend = "sudo -u " + shell_word(facts.owner) + " larder doctor " + directory;
    finding.note =
        (facts.has_store ? "the store"
                         : "the directory, which " + machine.user + " cannot look into,") +
        (" belongs to " + facts.owner) + ": run larder as that user";
  } else if (!facts.has_store && !facts.is_empty && !facts.is_closed) {
    // Whose it is, others may count on.
    finding.mend = as_root(machine, "install -d -m 0700 -o " + shell_word(machine.user) + " " +
                                        shell_word(facts.directory + "/larder"));
    finding.note = "and name that one";
  } else {
    finding.mend = as_root(machine, "chown " + shell_word(machine.user) + " " + directory) +
                   " && " + as_root(machine, "chmod 0700 " + directory);
  }
  return finding;
}

Finding judge_access(const MachineFacts& machine, const DirectoryFacts& facts) {
  const std::string why = "larder makes files in it, for its own user alone (0600)";
  if (!facts.look_error.empty()) {
    Finding finding{
        .level = FindingLevel::kProblem,
        .name = "directory",
        .what = machine.user + " cannot look at " + facts.directory + ": " + facts.look_error,
        .why = why,
        .mend = "namei -l " + shell_word(facts.directory),
        .note =
            "run larder as the user who owns the store, or let this one enter every "
            "directory above it"};
    return finding;
  }
  if (!facts.is_directory) {
    return {.level = FindingLevel::kProblem,
            .name = "directory",
            .what = facts.probed + " is not a directory",
            .why = why,
            .mend = "ls -ld " + shell_word(facts.probed),
            .note = "name another directory, or move that away"};
  }
  if (!facts.exists && !facts.is_made) {
    return {.level = FindingLevel::kProblem,
            .name = "directory",
            .what = facts.directory + " does not exist, and create=no",
            .why = "a store that is made anew on the disk below a mount point starts empty",
            .mend = "findmnt --target " + shell_word(facts.probed),
            .note = "mount its disk, make the directory, or leave create=no out"};
  }
  if (facts.is_read_only) {
    return {.level = FindingLevel::kProblem,
            .name = "directory",
            .what = facts.probed + " is mounted read-only",
            .why = why,
            .mend = as_root(machine, "mount -o remount,rw " + shell_word(facts.mount_point)),
            .note = "if the kernel did that after an error, `dmesg` says so: then fsck first"};
  }
  if (!facts.is_writable) return judge_rights(machine, facts);
  if (facts.kind == StoreKind::kLog && !facts.foreign_file.empty()) {
    const std::string below = facts.directory + "/larder";
    return {
        .level = FindingLevel::kProblem,
        .name = "directory",
        .what = facts.directory + " holds no store, and '" + printable(facts.foreign_file) + "'",
        .why = "larder makes a store in an empty directory only",
        .mend = "mkdir -m 0700 " + shell_word(below),
        .note = "and name that one"};
  }
  const char* const state = !facts.exists     ? " does not exist yet; larder makes it"
                            : facts.has_store ? " holds a store"
                            : facts.kind == StoreKind::kFiles ? " is there"
                                                              : " is empty";
  return good("directory", facts.directory + state, why);
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
  return {.level = facts.kind == StoreKind::kLog ? FindingLevel::kProblem : FindingLevel::kWarning,
          .name = "direct_io",
          .what = facts.direct.is_supported ? fmt::format("needs offsets aligned to {} bytes",
                                                          facts.direct.alignment.offset)
                                            : facts.direct.why_not,
          .why = why,
          .mend = kShowDisks,
          .note = kOtherDisk};
}

Finding judge_allocation(const DirectoryFacts& facts) {
  const std::string why =
      "segments get their blocks ahead, so that a full disk never meets a write";
  if (facts.allocate_error.empty()) return good("fallocate", "works", why);
  return {.level = FindingLevel::kProblem,
          .name = "fallocate",
          .what = facts.allocate_error,
          .why = why,
          .mend = kShowDisks,
          .note = kOtherDisk};
}

Finding judge_space(const DirectoryFacts& facts) {
  const std::string min_free = format_bytes_exact(facts.min_free_bytes);
  const std::string why = "below min_free (" + min_free +
                          ") nothing grows; a log store has at least 256 MiB, and from 32 GiB on "
                          "values of up to 128 MiB";
  Finding finding{
      .name = "free_space",
      .what = "cannot be asked for",
      .why = facts.kind == StoreKind::kLog
                 ? why
                 : "files take what is free, down to min_free where there is a capacity",
      .mend = "df -h " + shell_word(facts.probed)};
  if (!facts.free_bytes) {
    finding.level = FindingLevel::kWarning;
    return finding;
  }
  finding.what = format_bytes(*facts.free_bytes) + " free";
  const std::uint64_t needed = facts.min_free_bytes + (facts.has_store ? 0 : kSmallestLog);
  const std::uint64_t wanted = facts.min_free_bytes + kRoomyLog;
  const bool is_enough = *facts.free_bytes >= (facts.has_store ? needed : wanted);
  if (is_enough) return good("free_space", finding.what, finding.why);
  finding.level = *facts.free_bytes < needed ? FindingLevel::kProblem : FindingLevel::kWarning;
  if (facts.kind == StoreKind::kFiles) finding.level = FindingLevel::kWarning;
  finding.mend =
      "du -xh --max-depth=2 " + shell_word(facts.mount_point) + " 2>/dev/null | sort -h | tail";
  finding.note = "that shows what takes the space";
  return finding;
}

Finding judge_capacity(const DirectoryFacts& facts) {
  const std::string capacity = "capacity=" + format_bytes_exact(facts.capacity_bytes);
  const std::string why =
      "a store that meets a full disk goes round in what it has, and refuses what finds no room";
  if (facts.capacity_bytes > facts.total_bytes) {
    return {.level = FindingLevel::kWarning,
            .name = "capacity",
            .what = capacity + " is more than the whole file system (" +
                    format_bytes(facts.total_bytes) + ")",
            .why = why,
            .note = "choose a smaller capacity, or a larger disk"};
  }
  const std::uint64_t room = facts.free_bytes.value_or(0) + facts.store_bytes;
  if (facts.free_bytes && facts.capacity_bytes + facts.min_free_bytes > room) {
    return {.level = FindingLevel::kWarning,
            .name = "capacity",
            .what = capacity + " and min_free=" + format_bytes_exact(facts.min_free_bytes) +
                    " are more than is free and the store has already (" + format_bytes(room) + ")",
            .why = why,
            .note = "free some space, or choose a smaller capacity"};
  }
  return good("capacity", capacity + " fits", why);
}

Finding judge_block_device(const MachineFacts& machine, const DirectoryFacts& facts) {
  const std::string why = "a load is one read at one place: what the disk does is what you get";
  if (facts.block_device.empty()) {
    return good("device", "none that the kernel counts for",
                "larder bench cannot tell warm from cold here");
  }
  if (facts.is_buffered_loop) {
    return {.level = FindingLevel::kWarning,
            .name = "device",
            .what = facts.block_device + ", a loop device that goes through the page cache",
            .why = "direct I/O ends in memory all the same, and benchmarks show no disk",
            .mend = as_root(machine, "losetup --direct-io=on /dev/" + facts.block_device)};
  }
  // Virtual disks say so without knowing.
  const bool is_virtual =
      facts.block_device.starts_with("vd") || facts.block_device.starts_with("xvd");
  if (facts.is_rotational && !is_virtual) {
    return {.level = FindingLevel::kWarning,
            .name = "device",
            .what = facts.block_device + ", which rotates",
            .why = why,
            .mend = "echo 0 | " + as_root(machine, "tee /sys/class/block/" + facts.block_device +
                                                       "/queue/rotational"),
            .note = "only if it does not: the kernel schedules other disks otherwise"};
  }
  return good("device", facts.block_device, why);
}

}  // namespace

std::vector<Finding> diagnose_directory(const MachineFacts& facts,
                                        const DirectoryFacts& directory) {
  std::vector<Finding> findings = {judge_access(facts, directory)};
  if (!directory.is_directory || !directory.look_error.empty()) return findings;
  findings.push_back(judge_file_system(directory));
  if (directory.is_writable && !directory.is_read_only) {
    findings.push_back(judge_direct_io(directory));
    if (directory.kind == StoreKind::kLog) findings.push_back(judge_allocation(directory));
  }
  findings.push_back(judge_space(directory));
  if (directory.capacity_bytes > 0) findings.push_back(judge_capacity(directory));
  findings.push_back(judge_block_device(facts, directory));
  return findings;
}

}  // namespace larder::tools
