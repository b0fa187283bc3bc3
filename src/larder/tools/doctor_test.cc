#include "larder/tools/doctor.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "larder/connectors/builtin.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A machine and a directory without a fault.
MachineFacts good_facts() {
  DirectoryFacts directory;
  directory.directory = directory.probed = "/data/kv";
  directory.exists = directory.is_writable = directory.is_empty = true;
  directory.owner = "kv";
  directory.total_bytes = 1000 * kGiB;
  directory.file_system = "xfs";
  directory.mount_point = "/data";
  directory.free_bytes = 500 * kGiB;
  directory.direct = {true, "", {512, 4096}};
  directory.block_device = "nvme0n1";
  MachineFacts facts;
  facts.user = "kv";
  facts.is_root = false;
  facts.kernel = "6.1.0-18-amd64";
  facts.locked_memory_bytes = 8U << 20;
  facts.open_files = facts.open_files_hard = 1'048'576;
  facts.checksum = "avx2";
  facts.has_avx2 = true;
  facts.huge_pages = "madvise";
  facts.shared_huge_pages = "advise";
  facts.directory = directory;
  return facts;
}

Finding find(const std::vector<Finding>& findings, const std::string& name) {
  const auto found = std::ranges::find(findings, name, &Finding::name);
  EXPECT_NE(found, findings.end()) << name;
  return found == findings.end() ? Finding{} : *found;
}

/// Whether a shell accepts it unchanged, without a word to fill in first.
void expect_can_be_pasted(const Finding& finding) {
  if (finding.mend.empty()) return;
  for (const char* const shell : {"bash", "sh"}) {
    const bool has_bash_words = finding.mend.find("$'") != std::string::npos;
    if (has_bash_words && std::string{shell} == "sh") continue;
    const std::string check = std::string{shell} + " -n -c " + shell_word(finding.mend);
    EXPECT_EQ(std::system(("exec bash -c " + shell_word(check)).c_str()), 0) << finding.mend;
  }
  for (const char* const placeholder : {"DISK", "DIR", "PROFILE", "FILE", "...", "(", "reboot"}) {
    EXPECT_EQ(finding.mend.find(placeholder), std::string::npos) << finding.mend;
  }
  EXPECT_EQ(finding.mend.find('\n'), std::string::npos) << finding.mend;
}

/// The finding must have that level and its command, or its note, must contain `mend`; every other
/// one is good.
void expect_only(const MachineFacts& facts, const std::string& name, FindingLevel level,
                 const std::string& mend) {
  const std::vector<Finding> findings = diagnose(facts);
  const Finding one = find(findings, name);
  EXPECT_EQ(one.level, level) << name << ": " << one.what;
  EXPECT_NE((one.mend + "\n" + one.note).find(mend), std::string::npos)
      << "'" << mend << "' in: " << one.mend << " | " << one.note;
  expect_can_be_pasted(one);
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
  EXPECT_EQ(findings.size(), 13U);
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
  expect_only(facts, "io_uring", FindingLevel::kProblem,
              "sudo sysctl -w kernel.io_uring_disabled=0");
  facts.uring_disabled = 0;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "--security-opt seccomp=");
  facts.uring_errno = ENOSYS;
  facts.has_system_call_filter = false;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "CONFIG_IO_URING=y");
  facts.uring_errno = ENOMEM;
  expect_only(facts, "io_uring", FindingLevel::kProblem,
              "sudo prlimit --pid $$ --memlock=unlimited");
  facts.uring_errno = EMFILE;
  expect_only(facts, "io_uring", FindingLevel::kProblem, "sudo prlimit --pid $$ --nofile=65536");
  facts.uring_errno = 0;
  facts.forced_io = "threads";
  expect_only(facts, "io_uring", FindingLevel::kWarning, "unset LARDER_IO");
}

TEST(DoctorTest, EachFlawOfTheMachineIsNamedWithItsCommand) {
  MachineFacts facts = good_facts();
  facts.kernel = "5.15.0-101-generic";
  expect_only(facts, "kernel", FindingLevel::kWarning, "5.19 or later and boot it");
  facts.kernel = "5.19.0";
  EXPECT_EQ(find(diagnose(facts), "kernel").level, FindingLevel::kGood);
  facts = good_facts();
  facts.locked_memory_bytes = 65536;
  expect_only(facts, "memlock", FindingLevel::kWarning, "--memlock=unlimited");
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
  expect_only(facts, "huge_pages", FindingLevel::kWarning, "echo madvise | sudo tee /sys");
  facts = good_facts();
  facts.shared_huge_pages = "never";
  expect_only(facts, "shm_huge_pages", FindingLevel::kWarning,
              "sudo mount -o remount,huge=advise /dev/shm");
  facts.shared_huge_pages = "";
  EXPECT_EQ(find(diagnose(facts), "shm_huge_pages").level, FindingLevel::kGood);
}

TEST(DoctorTest, FileSystemsThatDoNotSuitAreNamedWithWhatToDo) {
  const std::tuple<const char*, FindingLevel, const char*> cases[] = {
      {"tmpfs", FindingLevel::kProblem, "df -hT"},
      {"overlay", FindingLevel::kWarning, "docker: -v /data/kv"},
      {"btrfs", FindingLevel::kWarning, "chattr +C '/data/kv'"},
      {"zfs", FindingLevel::kWarning, "ext4 or xfs"},
      {"nfs4", FindingLevel::kWarning, "on a disk of this machine"},
      {"fuse.sshfs", FindingLevel::kWarning, "on a disk of this machine"},
      {"ext3", FindingLevel::kProblem, "ext4 or xfs"},
      {"newfs", FindingLevel::kWarning, "ext4 or xfs"},
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
                      FindingLevel::kProblem,
                      "sudo chown 'kv' '/data/kv' && sudo chmod 0700 '/data/kv'");
  expect_of_directory([](Facts& facts) { facts.is_read_only = true; }, "directory",
                      FindingLevel::kProblem, "sudo mount -o remount,rw '/data'");
  expect_of_directory([](Facts& facts) { facts.is_directory = false; }, "directory",
                      FindingLevel::kProblem, "ls -ld");
  expect_of_directory([](Facts& facts) { facts.foreign_file = "notes.txt"; }, "directory",
                      FindingLevel::kProblem, "mkdir -m 0700 '/data/kv/larder'");
  expect_of_directory([](Facts& facts) { facts.direct = {false, "no O_DIRECT", {}}; }, "direct_io",
                      FindingLevel::kProblem, "ext4 or xfs");
  expect_of_directory([](Facts& facts) { facts.direct.alignment.offset = 1U << 20; }, "direct_io",
                      FindingLevel::kProblem, "ext4 or xfs");
  expect_of_directory([](Facts& facts) { facts.allocate_error = "not supported"; }, "fallocate",
                      FindingLevel::kProblem, "ext4 or xfs");
  expect_of_directory([](Facts& facts) { facts.free_bytes = kGiB; }, "free_space",
                      FindingLevel::kProblem, "du -xh --max-depth=2 '/data'");
  expect_of_directory([](Facts& facts) { facts.free_bytes = 5 * kGiB; }, "free_space",
                      FindingLevel::kWarning, "du -xh");
  expect_of_directory([](Facts& facts) { facts.is_buffered_loop = true; }, "device",
                      FindingLevel::kWarning, "sudo losetup --direct-io=on /dev/nvme0n1");
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
  EXPECT_EQ(diagnose(facts).size(), 7U);
}

TEST(DoctorTest, AnothersDirectoryIsNotTakenFromHim) {
  // The command's change, and its user.
  const auto mend_of = [](void (*change)(DirectoryFacts&)) {
    MachineFacts facts = good_facts();
    facts.directory->is_writable = false;
    facts.directory->owner = "redis";
    change(*facts.directory);
    const Finding one = find(diagnose(facts), "directory");
    EXPECT_EQ(one.level, FindingLevel::kProblem);
    expect_can_be_pasted(one);
    return one.mend;
  };
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) { facts.has_store = true; }),
            "sudo -u 'redis' larder doctor '/data/kv'");
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) {
              facts.is_closed = true;
              facts.is_empty = false;
            }),
            "sudo -u 'redis' larder doctor '/data/kv'");
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) {
              facts.is_closed = true;
              facts.is_empty = false;
              facts.owner = "kv";
            }),
            "sudo chown 'kv' '/data/kv' && sudo chmod 0700 '/data/kv'");
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) { facts.is_empty = false; }),
            "sudo install -d -m 0700 -o 'kv' '/data/kv/larder'");
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) { facts.exists = false; }),
            "sudo install -d -m 0700 -o 'kv' '/data/kv'");
  EXPECT_EQ(mend_of([](DirectoryFacts& facts) {
              facts.directory = "/data/it's here\n";
              facts.has_store = true;
            }),
            "sudo -u 'redis' larder doctor $'/data/it\\'s here\\x0a'");
  MachineFacts root = good_facts();
  root.is_root = true;
  root.user = "root";
  root.huge_pages = "never";
  EXPECT_EQ(find(diagnose(root), "huge_pages").mend,
            "echo madvise | tee /sys/kernel/mm/transparent_hugepage/enabled");
}

TEST(DoctorTest, ACapacityIsComparedWithTheDisk) {
  const auto capacity = [](std::uint64_t gib, void (*change)(DirectoryFacts&) = nullptr) {
    MachineFacts facts = good_facts();  // 500 GiB of 1000 are free.
    facts.directory->capacity_bytes = gib * kGiB;
    if (change != nullptr) change(*facts.directory);
    return find(diagnose(facts), "capacity");
  };
  EXPECT_EQ(capacity(499).level, FindingLevel::kGood);
  EXPECT_EQ(capacity(500).level, FindingLevel::kWarning);  // min_free is 1 GiB.
  EXPECT_NE(capacity(500).what.find("more than is free"), std::string::npos);
  EXPECT_EQ(capacity(700, [](DirectoryFacts& facts) { facts.store_bytes = 201 * kGiB; }).level,
            FindingLevel::kGood);
  EXPECT_NE(capacity(1001).what.find("more than the whole file system"), std::string::npos);
}

TEST(DoctorTest, ACapacityAndCreateOfEitherKindOfSpecCount) {
  const testing::TemporaryDirectory directory;
  const std::string missing = directory.path() + "/a/b";
  for (const std::string& spec :
       {"log:" + missing + "?capacity=900000GiB", "fs:" + missing + "?capacity=900000GiB",
        "fs_native:" + missing + "?max_capacity_gb=900000"}) {
    const auto findings = examine(spec);
    ASSERT_TRUE(findings.has_value()) << spec;
    EXPECT_NE(to_text(*findings).find("more than the whole file system"), std::string::npos)
        << spec << to_text(*findings);
  }
  EXPECT_FALSE(examine("fs:" + missing + "?max_capacity_gb=many").has_value());
  for (const std::string& spec :
       {"log:" + missing + "?create=no", "fs:" + missing + "?create=no"}) {
    const auto findings = examine(spec);
    ASSERT_TRUE(findings.has_value()) << spec;
    EXPECT_NE(to_text(*findings).find(missing + " does not exist, and create=no"),
              std::string::npos)
        << spec << to_text(*findings);
    EXPECT_FALSE(is_healthy(*findings)) << spec;
    // Of an existing path: for others findmnt prints nothing.
    EXPECT_NE(to_text(*findings).find("findmnt --target '" +
                                      std::filesystem::canonical(directory.path()).string() + "'"),
              std::string::npos)
        << spec << to_text(*findings);
  }
}

TEST(DoctorTest, ForFilesAnotherMachinesDiskAndOtherFilesAreWell) {
  MachineFacts facts = good_facts();
  facts.directory->kind = StoreKind::kFiles;
  facts.directory->file_system = "nfs4";
  facts.directory->foreign_file = "model@0x1@0@00.data";
  facts.directory->is_empty = false;
  for (const Finding& one : diagnose(facts)) {
    EXPECT_EQ(one.level, FindingLevel::kGood) << one.name << ": " << one.what;
    EXPECT_NE(one.name, "fallocate");
  }
}

TEST(DoctorTest, WhatASpecNamesIsLookedAt) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/kv";
  for (const std::string& spec :
       {"log:" + path + "?capacity=8EiB",
        R"({"type": "fs", "base_path": ")" + path + R"(", "capacity": "8EiB"})"}) {
    const auto findings = examine(spec);
    ASSERT_TRUE(findings.has_value()) << findings.error().text;
    EXPECT_NE(find(*findings, "directory").what.find(path + " does not exist yet"),
              std::string::npos)
        << find(*findings, "directory").what;
    EXPECT_EQ(find(*findings, "capacity").level, FindingLevel::kWarning);
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  const auto memory = examine("memory:?capacity=8EiB");
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(find(*memory, "memory").level, FindingLevel::kProblem);
  EXPECT_EQ(find(*examine("memory:?capacity=1MiB"), "memory").level, FindingLevel::kGood);
  for (const char* const refused :
       {"log:/x?capacty=1GiB", "lgo:/x", "log:", "fault:?inner=memory:", "mock:"}) {
    const auto findings = examine(refused);
    ASSERT_FALSE(findings.has_value()) << refused;
    EXPECT_EQ(findings.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(DoctorTest, AServerIsAskedAndNotADirectoryOfItsName) {
  const auto nobody = examine("redis://127.0.0.1:1?password=SECRET");
  ASSERT_TRUE(nobody.has_value()) << nobody.error().text;
  ASSERT_EQ(nobody->size(), 1U);
  EXPECT_EQ((*nobody)[0].level, FindingLevel::kProblem);
  EXPECT_NE((*nobody)[0].what.find("127.0.0.1:1: "), std::string::npos) << (*nobody)[0].what;
  EXPECT_EQ((*nobody)[0].mend, "redis-cli -h '127.0.0.1' -p '1' ping");
  EXPECT_EQ(to_text(*nobody).find("SECRET"), std::string::npos);
  auto server = testing::RedisServer::create();
  if (!server) GTEST_SKIP() << "SKIPPED (needs redis-server)";
  const auto findings = examine("redis://127.0.0.1:" + std::to_string((*server)->port()));
  ASSERT_TRUE(findings.has_value()) << findings.error().text;
  EXPECT_EQ((*findings)[0].level, FindingLevel::kGood) << (*findings)[0].what;
  EXPECT_NE((*findings)[0].what.find(" answers"), std::string::npos) << (*findings)[0].what;
}

TEST(DoctorTest, AnotherUserIsToldWhatHeMayNotAndTheSpaceAllTheSame) {
  if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED (needs root)";
  const testing::TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0711), 0);
  const std::string open = directory.path() + "/open";  // To enter, and not to list.
  const std::string locked = directory.path() + "/locked";
  for (const std::string& one : {open, locked}) std::filesystem::create_directory(one);
  ASSERT_EQ(::chmod(open.c_str(), 0711), 0);
  ASSERT_EQ(::chmod(locked.c_str(), 0700), 0);
  const std::string report = directory.path() + "/report";
  std::ofstream{report};
  ASSERT_EQ(::chmod(report.c_str(), 0666), 0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (::setresgid(kNobody, kNobody, kNobody) != 0 ||
        ::setresuid(kNobody, kNobody, kNobody) != 0) {
      ::_exit(99);
    }
    std::ofstream out{report};
    out << to_text(*examine(open)) << to_text(*examine(locked + "/kv"))
        << to_text(*examine(locked));
    out.close();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  std::ifstream in{report};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  EXPECT_NE(text.find(open + " cannot be written to by nobody"), std::string::npos) << text;
  EXPECT_EQ(text.find(" 0 B free"), std::string::npos) << text;
  EXPECT_NE(text.find("sudo install -d -m 0700 -o 'nobody' '" + open + "/larder'"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("sudo -u 'root' larder doctor '" + locked + "'\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find(locked + "/larder"), std::string::npos) << text;
  EXPECT_NE(text.find("nobody cannot look at " + locked + "/kv: Permission denied"),
            std::string::npos)
      << text;
}

TEST(DoctorTest, ADirectoryIsLookedAtAndNothingIsLeftInIt) {
  const testing::TemporaryDirectory directory;
  const MachineFacts facts = gather_facts(DirectoryRequest{.directory = directory.path()});
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
  const MachineFacts facts = gather_facts(DirectoryRequest{.directory = directory.path() + "/a/b"});
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
  EXPECT_EQ(gather_facts(DirectoryRequest{.directory = directory.path()}).directory->foreign_file,
            "notes");
  const MachineFacts facts =
      gather_facts(DirectoryRequest{.directory = directory.path() + "/notes"});
  EXPECT_FALSE(facts.directory->is_directory);
  EXPECT_FALSE(is_healthy(diagnose(facts)));
  std::ofstream{directory.path() + "/superblock"} << "";
  EXPECT_TRUE(gather_facts(DirectoryRequest{.directory = directory.path()}).directory->has_store);
}

/// The finding of the spec itself.
Finding spec_finding(const std::string& spec) {
  const auto findings = examine(spec);
  EXPECT_TRUE(findings) << spec << ": " << findings.error().text;
  return findings ? find(*findings, "spec") : Finding{};
}

TEST(DoctorTest, WhatAnOpenWouldRefuseIsAProblemInTheSameWordsAndNothingIsMade) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/made/store";
  const std::string log = "log:" + path + "?min_free=0";
  for (const std::string& spec :
       {log, log + "&capacity=64MiB", log + "&capacity=1GiB&max_value=128MiB",
        log + "&capacity=64MiB&segment=1MiB&max_value=1MiB", log + "&capacity=1GiB&segment=1KiB"}) {
    const Finding finding = spec_finding(spec);
    EXPECT_EQ(finding.level, FindingLevel::kProblem) << spec << ": " << finding.what;
    EXPECT_FALSE(std::filesystem::exists(directory.path() + "/made")) << spec;
    const auto opened = builtin_registry().open(spec);
    ASSERT_FALSE(opened) << spec;
    EXPECT_EQ(finding.what, opened.error().text);
  }
  const Finding good = spec_finding(log + "&capacity=64MiB&segment=1MiB&max_value=64KiB");
  EXPECT_EQ(good.level, FindingLevel::kGood) << good.what;
  EXPECT_NE(good.what.find("64KiB"), std::string::npos) << good.what;
  EXPECT_NE(good.what.find("64 segments of 1MiB"), std::string::npos) << good.what;
  EXPECT_NE(spec_finding(log + "&capacity=16GiB").what.find("127 segments of 131820KiB"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/made"));
  // Of the parameters alone.
  EXPECT_FALSE(examine("fs:" + path + "?mode=0777"));
}

TEST(DoctorTest, AStoreThatIsThereIsAskedWhatItAllows) {
  const testing::TemporaryDirectory directory;
  const std::string log = "log:" + directory.path() + "?min_free=0";
  auto connector = builtin_registry().open(log + "&capacity=64MiB&segment=1MiB&max_value=64KiB");
  ASSERT_TRUE(connector) << connector.error().text;
  const Finding in_use = spec_finding(log);
  EXPECT_EQ(in_use.level, FindingLevel::kWarning);
  EXPECT_NE(in_use.what.find("in use"), std::string::npos) << in_use.what;
  EXPECT_TRUE((*connector)->stop(kNever));
  connector->reset();
  EXPECT_EQ(spec_finding(log).level, FindingLevel::kGood);
  EXPECT_EQ(spec_finding(log + "&capacity=32MiB").level, FindingLevel::kGood);
  for (const char* const asked : {"&capacity=30MiB", "&max_value=2MiB"}) {
    const Finding finding = spec_finding(log + asked);
    EXPECT_EQ(finding.level, FindingLevel::kProblem) << asked << ": " << finding.what;
    const auto opened = builtin_registry().open(log + asked);
    ASSERT_FALSE(opened) << asked;
    EXPECT_EQ(finding.what, opened.error().text);
  }
  std::ofstream{directory.path() + "/superblock"} << std::string(200'000, 'x');
  EXPECT_EQ(spec_finding(log).level, FindingLevel::kProblem);
}

TEST(DoctorTest, TheLimitsAreThoseOfThisProcess) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{200, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  const MachineFacts facts = gather_facts(std::nullopt);
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
  EXPECT_NE(text.find("11 good, 1 warning, 1 problem"), std::string::npos) << text;
  EXPECT_NE(text.find("mend: echo madvise"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(to_json(findings), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["findings"].size(), findings.size());
  EXPECT_EQ(json["findings"][5]["level"], "warning");
}

}  // namespace
}  // namespace larder::tools
