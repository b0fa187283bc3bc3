#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>

#include "larder/base/unique_fd.h"
#include "larder/conformance/spec_subject.h"
#include "larder/connectors/builtin.h"
#include "tests/conformance/places.h"
#include "tests/conformance/subjects.h"

namespace larder::conformance {
namespace {

/// One bit of the file of a key that has its name in escaped form.
bool damage(Connector& connector, std::string_view key) {
  const std::string path = connector.report().where + "/k-" + std::string{key} + ".data";
  const UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  char byte = 0;
  if (!fd || ::pread(fd.get(), &byte, 1, 0) != 1) return false;
  byte = static_cast<char>(byte ^ 1);
  return ::pwrite(fd.get(), &byte, 1, 0) == 1;
}

Subject fs_subject(std::string name, const PlaceMaker& place, const char* io,
                   const std::string& parameters, std::string small = "") {
  if (small.empty()) small = parameters + "&capacity=1MiB&min_free=0&exclusive=yes";
  const auto open_with = [place, io](const std::string& spec, bool is_fresh) -> Open {
    return [place, io, spec, is_fresh]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Place> at, place());
      const auto path_of = [&](int store) { return at->path + "/files-" + std::to_string(store); };
      if (is_fresh) {
        std::filesystem::remove_all(path_of(at->stores));
        ++at->stores;
      }
      if (io != nullptr) ::setenv("LARDER_IO", io, 1);
      auto connector = builtin_registry().open("fs:" + path_of(at->stores) + "?" + spec);
      if (io != nullptr) ::unsetenv("LARDER_IO");
      if (connector) wait_until_counted(**connector);
      return connector;
    };
  };
  Subject subject;
  subject.name = std::move(name);
  subject.open = open_with(parameters, true);
  subject.reopen = open_with(parameters, false);
  subject.open_small = open_with(small, true);
  subject.open_limited = open_with(parameters + "&batches_max=" + std::to_string(kLimitedBatches) +
                                       "&in_flight=" + std::to_string(kLimitedBytes),
                                   true);
  return subject;
}

}  // namespace

std::vector<Subject> fs_subjects() {
  const char* const forced = std::getenv("LARDER_IO");
  const bool is_uring_forbidden = forced != nullptr && std::string_view{forced} == "threads";
  std::vector<Subject> subjects;
  const PlaceMaker temporary = once(temporary_place);
  if (!is_uring_forbidden) {
    const PlaceMaker ext4 = once(loop_place("ext4", 512));
    const PlaceMaker xfs = once(loop_place("xfs", 4096));
    subjects.push_back(fs_subject("fs_ext4_buffered", ext4, nullptr, "read_ahead_size=64KiB"));
    subjects.push_back(fs_subject("fs_ext4_direct", ext4, nullptr, "use_odirect=yes&fsync=file"));
    subjects.push_back(fs_subject("fs_xfs_buffered", xfs, nullptr, "mode=0640"));
    subjects.push_back(
        fs_subject("fs_xfs_direct_4k", xfs, nullptr, "use_odirect=yes&relative_tmp_dir=tmp/new"));
    subjects.push_back(fs_subject("fs_tmpfs", once(tmpfs_place), nullptr, "num_workers=2"));
    subjects.push_back(fs_subject("fs_capacity", temporary, nullptr,
                                  "max_capacity_gb=0.5&min_free=0",
                                  "max_capacity_gb=0.001&min_free=0"));
    subjects.push_back(fs_subject("fs_shards", temporary, nullptr, "sharded_dirs=yes"));
  }
  subjects.push_back(fs_subject("fs_threads", temporary, "threads", "use_odirect=yes"));
  subjects.push_back(fs_subject("fs_staged", temporary, nullptr, "staged=yes&use_odirect=yes"));
  Subject checked = fs_subject("fs_checksum", temporary, nullptr, "checksum=xattr&fsync=dir");
  checked.damage = damage;
  subjects.push_back(std::move(checked));
  return subjects;
}

}  // namespace larder::conformance
