#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "larder/base/unique_fd.h"
#include "larder/connectors/builtin.h"
#include "tests/conformance/places.h"
#include "tests/conformance/subjects.h"

namespace larder::conformance {
namespace {

constexpr std::size_t kGrain = 4096;
constexpr std::size_t kKeyInHeader = 96;  // docs/format_log.md: the record header.

/// The last record of the key in any segment: one bit of its value is turned over.
bool damage(Connector& connector, std::string_view key) {
  bool damaged = false;
  std::array<char, kGrain> grain{};
  for (const auto& file : std::filesystem::directory_iterator{connector.report().where}) {
    if (!file.path().filename().string().starts_with("segment-")) continue;
    const UniqueFd fd{::open(file.path().c_str(), O_RDWR | O_CLOEXEC)};
    const auto bytes = static_cast<off_t>(file.file_size());
    for (off_t at = kGrain; at + static_cast<off_t>(2 * kGrain) <= bytes; at += kGrain) {
      if (::pread(fd.get(), grain.data(), grain.size(), at) != kGrain) return false;
      if (std::string_view{grain.data() + 16, 4} != "LREC") continue;
      if (!std::string_view{grain.data() + kKeyInHeader, kGrain - kKeyInHeader}.starts_with(key)) {
        continue;
      }
      char byte = 0;
      if (::pread(fd.get(), &byte, 1, at + static_cast<off_t>(kGrain)) != 1) return false;
      byte = static_cast<char>(byte ^ 1);
      damaged = ::pwrite(fd.get(), &byte, 1, at + static_cast<off_t>(kGrain)) == 1;
    }
    ::fsync(fd.get());
  }
  return damaged;
}

Subject log_subject(std::string name, const PlaceMaker& place, const char* io) {
  const auto open_with = [place, io](std::string parameters, bool is_fresh) -> Open {
    return [place, io, parameters = std::move(parameters),
            is_fresh]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Place> at, place());
      const auto path_of = [&](int store) { return at->path + "/store-" + std::to_string(store); };
      if (is_fresh) {
        std::filesystem::remove_all(path_of(at->stores));
        ++at->stores;
      }
      if (io != nullptr) ::setenv("LARDER_IO", io, 1);
      auto connector =
          builtin_registry().open("log:" + path_of(at->stores) + "?min_free=0&" + parameters);
      if (io != nullptr) ::unsetenv("LARDER_IO");
      return connector;
    };
  };
  // Transfers of 256 KiB at most, so that values of more are several.
  const std::string roomy =
      "capacity=512MiB&segment=16MiB&max_value=4MiB&io_bytes=256KiB&events=65536";
  Subject subject;
  subject.name = std::move(name);
  subject.open = open_with(roomy, true);
  subject.reopen = open_with(roomy, false);
  subject.open_small = open_with("capacity=32MiB&max_value=512KiB&segment=1MiB", true);
  subject.open_limited = open_with(roomy + "&batches_max=" + std::to_string(kLimitedBatches) +
                                       "&in_flight=" + std::to_string(kLimitedBytes),
                                   true);
  subject.damage = damage;
  return subject;
}

}  // namespace

std::vector<Subject> log_subjects() {
  const char* const forced = std::getenv("LARDER_IO");
  const bool is_uring_forbidden = forced != nullptr && std::string_view{forced} == "threads";
  std::vector<Subject> subjects;
  const PlaceMaker temporary = once(temporary_place);
  if (!is_uring_forbidden) {
    subjects.push_back(log_subject("log_uring", temporary, "uring"));
    subjects.push_back(log_subject("log_ext4_direct", once(loop_place("ext4", 512)), nullptr));
    subjects.push_back(log_subject("log_xfs_direct_4k", once(loop_place("xfs", 4096)), nullptr));
    subjects.push_back(log_subject("log_tmpfs", once(tmpfs_place), nullptr));
  }
  subjects.push_back(log_subject("log_threads", temporary, "threads"));
  return subjects;
}

}  // namespace larder::conformance
