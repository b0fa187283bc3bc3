#include "larder/tools/doctor.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A machine and a directory on which nothing is wrong.
MachineFacts good_facts() {
  DirectoryFacts directory;
  directory.directory = directory.probed = "/data/kv";
  directory.exists = directory.is_writable = true;
  directory.file_system = "xfs";
  directory.mount_point = "/data";
  directory.free_bytes = 500 * kGiB;
  directory.direct = {true, "", {512, 4096}};
  directory.block_device = "nvme0n1";
  MachineFacts facts;
  facts.kernel = "6.1.0-18-amd64";
  facts.locked_memory_bytes = 8U << 20;
  facts.open_files = facts.open_files_hard = 1'048'576;
  facts.checksum = "avx2";
  facts.has_avx2 = true;
  facts.huge_pages = "madvise";
  facts.directory = directory;
  return facts;
}

Finding find(const std::vector<Finding>& findings, const std::string& name) {
  const auto found = std::ranges::find(findings, name, &Finding::name);
  EXPECT_NE(found, findings.end()) << name;
  return found == findings.end() ? Finding{} : *found;
}

/// The finding must have that level and its command must contain `mend`; every other one is good.
void expect_only(const MachineFacts& facts, const std::string& name, FindingLevel level,
                 const std::string& mend) {
  const std::vector<Finding> findings = diagnose(facts);
  const Finding one = find(findings, name);
  EXPECT_EQ(one.level, level) << name << ": " << one.what;
  EXPECT_NE(one.mend.find(mend), std::string::npos) << "'" << mend << "' in: " << one.mend;
  EXPECT_FALSE(one.why.empty());
  EXPECT_EQ(is_healthy(findings), level != FindingLevel::kProblem) << name;
  for (const Finding& other : findings) {
    if (other.name != name) {
      EXPECT_EQ(other.level, FindingLevel::kGood) << other.name << " beside " << name;
    }
  }
}

void expect_of_directory(void (*change)(DirectoryFacts&), const std::string& name,
                         FindingLevel level, const std::string& mend) {
  MachineFacts facts = good_facts();
  change(*facts.directory);
  expect_only(facts, name, level, mend);
}

TEST(DoctorTest, OnAGoodMachineEverythingIsGoodAndNothingNeedsMending) {
  const std::vector<Finding> findings = diagnose(good_facts());
  EXPECT_EQ(findings.size(), 12U);
  EXPECT_TRUE(is_healthy(findings));
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.level, FindingLevel::kGood) << finding.name << ": " << finding.what;
    EXPECT_EQ(finding.mend, "") << finding.name;
    EXPECT_FALSE(finding.why.empty()) << finding.name;
  }
}

TEST(DoctorTest, ARefusedRingNamesWhatRefusesIt) {
  MachineFacts facts = good_facts();
  facts.uring_errno = EPERM;
  facts.uring_error = "io_uring: setting up a ring: Operation not permitted (errno 1)";
  facts.uring_disabled = 2;
  facts.has_system_call_filter = true;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "sysctl -w kernel.io_uring_disabled=0");
  facts.uring_disabled = 0;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "--security-opt seccomp=");
  facts.uring_errno = ENOSYS;
  facts.has_system_call_filter = false;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "CONFIG_IO_URING=y");
  facts.uring_errno = ENOMEM;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "ulimit -l unlimited");
  facts.uring_errno = EMFILE;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "ulimit -n 65536");
  facts.uring_errno = 0;
  facts.forced_io = "threads";
  expect_only(facts, "io_uring", FindingLevel::kWarning, "unset LARDER_IO");
}

TEST(DoctorTest, EachFlawOfTheMachineIsNamedWithItsCommand) {
  MachineFacts facts = good_facts();
  facts.kernel = "5.15.0-101-generic";
  expect_only(facts, "kernel", FindingLevel::kWarning, "reboot");
  facts.kernel = "5.19.0";
  EXPECT_EQ(find(diagnose(facts), "kernel").level, FindingLevel::kGood);
  facts = good_facts();
  facts.locked_memory_bytes = 65536;
  expect_only(facts, "memlock", FindingLevel::kWarning, "ulimit -l unlimited");
  facts.locked_memory_bytes = ~std::uint64_t{0};
  EXPECT_EQ(find(diagnose(facts), "memlock").what, "unlimited");
  facts = good_facts();
  facts.open_files = 1024;
  expect_only(facts, "nofile", FindingLevel::kWarning, "ulimit -n 65536");
  facts.open_files_hard = 1024;
  expect_only(facts, "nofile", FindingLevel::kWarning, "LimitNOFILE=65536");
  facts.open_files = 64;
  expect_only(facts, "nofile", FindingLevel::kProblem, "LimitNOFILE=65536");
  facts = good_facts();
  facts.checksum = "sse2";
  expect_only(facts, "checksum", FindingLevel::kWarning, "apt-get install libxxhash-dev");
  facts.has_avx2 = false;
  expect_only(facts, "checksum", FindingLevel::kWarning, "-cpu host");
  facts = good_facts();
  facts.huge_pages = "never";
  expect_only(facts, "huge_pages", FindingLevel::kWarning, "echo madvise >");
}

TEST(DoctorTest, FileSystemsThatDoNotSuitAreNamedWithWhatToDo) {
  const std::tuple<const char*, FindingLevel, const char*> cases[] = {
      {"tmpfs", FindingLevel::kProblem, "mkfs.xfs"},
      {"overlay", FindingLevel::kWarning, "docker run -v /data/kv:'/data/kv'"},
      {"btrfs", FindingLevel::kWarning, "chattr +C '/data/kv'"},
      {"zfs", FindingLevel::kWarning, "mkfs.xfs"},
      {"nfs4", FindingLevel::kWarning, "on a disk of this machine"},
      {"fuse.sshfs", FindingLevel::kWarning, "on a disk of this machine"},
      {"ext3", FindingLevel::kProblem, "mkfs.xfs"},
      {"newfs", FindingLevel::kWarning, "mkfs.xfs"},
  };
  for (const auto& [name, level, mend] : cases) {
    MachineFacts facts = good_facts();
    facts.directory->file_system = name;
    expect_only(facts, "file_system", level, mend);
  }
}

TEST(DoctorTest, EachFlawOfTheDirectoryIsNamedWithItsCommand) {
  using Facts = DirectoryFacts;
  expect_of_directory([](Facts& facts) { facts.is_writable = false; }, "directory",
                      FindingLevel::kProblem, "chown $(id -u) '/data/kv'");
  expect_of_directory([](Facts& facts) { facts.is_read_only = true; }, "directory",
                      FindingLevel::kProblem, "mount -o remount,rw '/data'");
  expect_of_directory([](Facts& facts) { facts.is_directory = false; }, "directory",
                      FindingLevel::kProblem, "ls -ld");
  expect_of_directory([](Facts& facts) { facts.foreign_file = "notes.txt"; }, "directory",
                      FindingLevel::kProblem, "mkdir -m 0700 '/data/kv/larder'");
  expect_of_directory([](Facts& facts) { facts.direct = {false, "no O_DIRECT", {}}; }, "direct_io",
                      FindingLevel::kProblem, "mkfs.xfs");
  expect_of_directory([](Facts& facts) { facts.direct.alignment.offset = 1U << 20; }, "direct_io",
                      FindingLevel::kProblem, "mkfs.xfs");
  expect_of_directory([](Facts& facts) { facts.allocate_error = "not supported"; }, "fallocate",
                      FindingLevel::kProblem, "mkfs.xfs");
  expect_of_directory([](Facts& facts) { facts.free_bytes = kGiB; }, "free_space",
                      FindingLevel::kProblem, "du -xh --max-depth=2 '/data'");
  expect_of_directory([](Facts& facts) { facts.free_bytes = 10 * kGiB; }, "free_space",
                      FindingLevel::kWarning, "du -xh");
  expect_of_directory([](Facts& facts) { facts.is_buffered_loop = true; }, "device",
                      FindingLevel::kWarning, "losetup --direct-io=on /dev/nvme0n1");
  expect_of_directory([](Facts& facts) { facts.is_rotational = true; }, "device",
                      FindingLevel::kWarning, "queue/rotational");
  MachineFacts facts = good_facts();
  facts.directory->is_rotational = true;
  facts.directory->block_device = "vda";  // Says so whatever is below.
  EXPECT_EQ(find(diagnose(facts), "device").level, FindingLevel::kGood);
  facts.directory->has_store = true;
  facts.directory->free_bytes = 10 * kGiB;
  EXPECT_EQ(find(diagnose(facts), "free_space").level, FindingLevel::kGood);
  facts.directory.reset();
  EXPECT_EQ(diagnose(facts).size(), 6U);
}

TEST(DoctorTest, ADirectoryIsLookedAtAndNothingIsLeftInIt) {
  const testing::TemporaryDirectory directory;
  const MachineFacts facts = gather_facts(directory.path());
  EXPECT_FALSE(facts.kernel.empty());
  EXPECT_GT(facts.open_files, 0U);
  EXPECT_FALSE(facts.checksum.empty());
  ASSERT_TRUE(facts.directory.has_value());
  EXPECT_TRUE(facts.directory->exists && facts.directory->is_directory);
  EXPECT_TRUE(facts.directory->is_writable);
  EXPECT_FALSE(facts.directory->has_store);
  EXPECT_EQ(facts.directory->foreign_file, "");
  EXPECT_FALSE(facts.directory->file_system.empty());
  EXPECT_EQ(facts.directory->allocate_error, "");
  EXPECT_GT(facts.directory->free_bytes, 0U);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(DoctorTest, ADirectoryToComeIsJudgedByTheOneAboveIt) {
  const testing::TemporaryDirectory directory;
  const MachineFacts facts = gather_facts(directory.path() + "/a/b");
  ASSERT_TRUE(facts.directory.has_value());
  EXPECT_FALSE(facts.directory->exists);
  EXPECT_EQ(facts.directory->probed, std::filesystem::canonical(directory.path()));
  const Finding access = find(diagnose(facts), "directory");
  EXPECT_EQ(access.level, FindingLevel::kGood);
  EXPECT_NE(access.what.find("does not exist yet"), std::string::npos) << access.what;
}

TEST(DoctorTest, AFileInTheWayAndForeignFilesAreSeen) {
  const testing::TemporaryDirectory directory;
  std::ofstream{directory.path() + "/notes"} << "mine";
  EXPECT_EQ(gather_facts(directory.path()).directory->foreign_file, "notes");
  const MachineFacts facts = gather_facts(directory.path() + "/notes");
  EXPECT_FALSE(facts.directory->is_directory);
  EXPECT_FALSE(is_healthy(diagnose(facts)));
  std::ofstream{directory.path() + "/superblock"} << "";
  EXPECT_TRUE(gather_facts(directory.path()).directory->has_store);
}

TEST(DoctorTest, TheLimitsAreThoseOfThisProcess) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{200, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  const MachineFacts facts = gather_facts("");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(facts.open_files, 200U);
  EXPECT_EQ(find(diagnose(facts), "nofile").level, FindingLevel::kProblem);
}

TEST(DoctorTest, TextAndJsonTellTheSame) {
  MachineFacts facts = good_facts();
  facts.huge_pages = "never";
  facts.directory->file_system = "tmpfs";
  const std::vector<Finding> findings = diagnose(facts);
  const std::string text = to_text(findings);
  EXPECT_NE(text.find("10 good, 1 warning, 1 problem"), std::string::npos) << text;
  EXPECT_NE(text.find("mend: echo madvise"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(to_json(findings), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["findings"].size(), findings.size());
  EXPECT_EQ(json["findings"][5]["level"], "warning");
}

}  // namespace
}  // namespace larder::tools
