// The doctor's findings about the machine, and their text.
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

constexpr std::uint64_t kLockedMemoryWanted = std::uint64_t{8} << 20;
constexpr std::uint64_t kOpenFilesWanted = 4096;
constexpr std::uint64_t kOpenFilesNeeded = 256;
constexpr std::uint64_t kOpenFilesBest = 65536;

Finding good(std::string name, std::string what, std::string why) {
  return {.name = std::move(name), .what = std::move(what), .why = std::move(why)};
}

std::string as_root(const MachineFacts& facts, const std::string& command) {
  return (facts.is_root ? "" : "sudo ") + command;
}

Finding judge_kernel(const MachineFacts& facts) {
  const std::string why = "io_uring has all that larder uses from 5.19 on";
  int major = 0;
  int minor = 0;
  const bool is_known = std::sscanf(facts.kernel.c_str(), "%d.%d", &major, &minor) == 2;
  if (is_known && std::pair{major, minor} >= std::pair{5, 19}) {
    return good("kernel", facts.kernel, why);
  }
  return {.level = FindingLevel::kWarning,
          .name = "kernel",
          .what = is_known ? facts.kernel + ", older than 5.19" : "unknown: '" + facts.kernel + "'",
          .why = why + "; before that transfers go through threads",
          .note =
              "install a kernel of 5.19 or later and boot it: Debian 12 has 6.1, Ubuntu 22.04 has "
              "6.8 as linux-image-generic-hwe-22.04"};
}

Finding judge_uring(const MachineFacts& facts) {
  const std::string why =
      "through threads instead, transfers cost more CPU and small values lose bandwidth";
  if (facts.uring_errno == 0 && facts.forced_io != "threads") {
    return good("io_uring", "allowed: a ring was set up and carried out a request", why);
  }
  if (facts.uring_errno == 0) {
    return {.level = FindingLevel::kWarning,
            .name = "io_uring",
            .what = "allowed, and switched off by LARDER_IO=threads",
            .why = why,
            .mend = "unset LARDER_IO"};
  }
  Finding refused{.level = FindingLevel::kProblem,
                  .name = "io_uring",
                  .what = "refused: " + facts.uring_error,
                  .why = why};
  if (facts.uring_errno == ENOMEM) {
    refused.mend = as_root(facts, "prlimit --pid $$ --memlock=unlimited");
    refused.note = "for a service: LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (docker)";
  } else if (lacks_descriptors(facts.uring_errno)) {
    refused.mend = as_root(facts, "prlimit --pid $$ --nofile=65536");
    refused.note = "for a service: LimitNOFILE=65536 (systemd), --ulimit nofile=65536 (docker)";
  } else if (facts.uring_disabled > 0) {
    refused.mend = as_root(facts, "sysctl -w kernel.io_uring_disabled=0");
    refused.note = "to keep it over a reboot, put the setting into a file of /etc/sysctl.d";
  } else if (facts.has_system_call_filter) {
    refused.note =
        "start the container with a seccomp profile that allows io_uring_setup, io_uring_enter and "
        "io_uring_register (docker: --security-opt seccomp=FILE)";
  } else {
    refused.note = "boot a kernel of version 5.19 or later that has CONFIG_IO_URING=y";
  }
  return refused;
}

Finding judge_locked_memory(const MachineFacts& facts) {
  const bool is_unlimited = facts.locked_memory_bytes == ~std::uint64_t{0};
  const std::string what =
      is_unlimited ? "unlimited" : format_bytes_exact(facts.locked_memory_bytes);
  const std::string why = "rings and registered memory count against it (RLIMIT_MEMLOCK)";
  if (facts.locked_memory_bytes >= kLockedMemoryWanted) return good("memlock", what, why);
  return {.level = FindingLevel::kWarning,
          .name = "memlock",
          .what = what + ", less than 8MiB",
          .why = why,
          .mend = as_root(facts, "prlimit --pid $$ --memlock=unlimited"),
          .note = "for a service: LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (docker)"};
}

Finding judge_open_files(const MachineFacts& facts) {
  const std::string what =
      fmt::format("{} (hard limit {})", facts.open_files, facts.open_files_hard);
  const std::string why =
      "a store has a file per segment open: 32 to 255 of them, and of a large store one per GiB "
      "(RLIMIT_NOFILE)";
  if (facts.open_files >= kOpenFilesWanted) return good("nofile", what, why);
  return {.level =
              facts.open_files < kOpenFilesNeeded ? FindingLevel::kProblem : FindingLevel::kWarning,
          .name = "nofile",
          .what = what,
          .why = why,
          .mend = facts.open_files_hard >= kOpenFilesWanted
                      ? fmt::format("ulimit -n {}", std::min(facts.open_files_hard, kOpenFilesBest))
                      : as_root(facts, "prlimit --pid $$ --nofile=65536"),
          .note = "for a service: LimitNOFILE=65536 (systemd), --ulimit nofile=65536 (docker)"};
}

Finding judge_checksum(const MachineFacts& facts) {
  const std::string why =
      "every value is hashed (XXH3-128) when it is stored and loaded: that is most of the CPU time";
  if (facts.checksum == "avx512" || facts.checksum == "avx2") {
    return good("checksum", facts.checksum, why);
  }
  if (facts.has_avx2) {
    return {.level = FindingLevel::kWarning,
            .name = "checksum",
            .what = facts.checksum + ", although the processor has AVX2",
            .why = why,
            .mend = as_root(facts, "apt-get install libxxhash-dev"),
            .note = "then build larder again"};
  }
  return {.level = FindingLevel::kWarning,
          .name = "checksum",
          .what = facts.checksum + ": the processor shows no AVX2",
          .why = why,
          .note = "on a virtual machine pass the host's processor through (qemu: -cpu host)"};
}

Finding judge_huge_pages(const MachineFacts& facts) {
  const std::string why =
      "direct I/O into 4 KiB pages costs some virtual disks half of their bandwidth";
  if (facts.huge_pages == "always" || facts.huge_pages == "madvise") {
    return good("huge_pages", "transparent huge pages: " + facts.huge_pages, why);
  }
  Finding missing{.level = FindingLevel::kWarning,
                  .name = "huge_pages",
                  .what = "transparent huge pages: " + facts.huge_pages,
                  .why = why};
  if (facts.huge_pages.empty()) {
    missing.what += "not in this kernel";
    missing.note = "boot a kernel that has CONFIG_TRANSPARENT_HUGEPAGE=y";
  } else {
    missing.mend =
        "echo madvise | " + as_root(facts, "tee /sys/kernel/mm/transparent_hugepage/enabled");
  }
  return missing;
}

Finding judge_shared_huge_pages(const MachineFacts& facts) {
  const std::string why =
      "`larder server` has L1 in /dev/shm; with 4 KiB pages some virtual disks load half as fast, "
      "and L1 fills slowly";
  const std::string what = "huge pages in /dev/shm: ";
  if (facts.shared_huge_pages.empty()) {
    return good("shm_huge_pages", what + "unknown, as it is no tmpfs of this kernel", why);
  }
  if (facts.shared_huge_pages != "never") {
    return good("shm_huge_pages", what + facts.shared_huge_pages, why);
  }
  return {.level = FindingLevel::kWarning,
          .name = "shm_huge_pages",
          .what = what + "never",
          .why = why,
          .mend = as_root(facts, "mount -o remount,huge=advise /dev/shm"),
          .note =
              "before the server starts, and huge=advise in /etc/fstab for the next boot; only "
              "programs that ask for them get huge pages"};
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

std::string shell_word(std::string_view path) {
  if (printable(path) == path) {
    std::string text = "'";
    for (const char c : path) text += c == '\'' ? std::string{"'\\''"} : std::string(1, c);
    return text + "'";
  }
  // Bash, zsh and ksh: with escapes, so that a terminal is not driven and a line not broken.
  std::string text = "$'";
  for (const char c : escape_key(path)) text += c == '\'' ? std::string{"\\'"} : std::string(1, c);
  return text + "'";
}

std::vector<Finding> diagnose(const MachineFacts& facts) {
  std::vector<Finding> findings = {judge_kernel(facts),           judge_uring(facts),
                                   judge_locked_memory(facts),    judge_open_files(facts),
                                   judge_checksum(facts),         judge_huge_pages(facts),
                                   judge_shared_huge_pages(facts)};
  if (!facts.directory) return findings;
  for (Finding& finding : diagnose_directory(facts, *facts.directory)) {
    findings.push_back(std::move(finding));
  }
  return findings;
}

bool is_healthy(const std::vector<Finding>& findings) {
  return std::ranges::none_of(
      findings, [](const Finding& one) { return one.level == FindingLevel::kProblem; });
}

std::string to_text(const std::vector<Finding>& findings) {
  std::string text;
  std::array<std::size_t, 3> counts{};
  const auto line = [&text](const char* name, const std::string& what) {
    if (!what.empty()) text += fmt::format("{:<21} {}: {}\n", "", name, printable(what));
  };
  for (const Finding& finding : findings) {
    ++counts[static_cast<std::size_t>(finding.level)];
    text += fmt::format("{:<8} {:<12} {}\n", name_of(finding.level), finding.name,
                        printable(finding.what));
    line("why", finding.why);
    line("mend", finding.mend);
    line("note", finding.note);
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
                                {"mend", finding.mend},
                                {"note", finding.note}});
  }
  // A path need not be UTF-8.
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
