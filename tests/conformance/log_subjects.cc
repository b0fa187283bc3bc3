#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
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
constexpr std::size_t kPayload = 96;  // docs/format_log.md: the record header.

/// Where the key's value begins, of a header grain at `at`; 0: it is another key's.
off_t value_at(std::string_view header, off_t at, std::string_view key) {
  constexpr std::size_t kKind = 20;
  constexpr std::size_t kPayloadBytes = 22;
  constexpr std::size_t kLineBytes = 22;  // Before a packed value's key.
  constexpr char kPack = 3;
  const auto number = [&header](std::size_t offset, std::size_t bytes) {
    std::uint32_t value = 0;
    std::memcpy(&value, header.data() + offset, bytes);
    return value;
  };
  off_t value = at + static_cast<off_t>(kGrain);
  if (header[kKind] != kPack) return header.substr(kPayload).starts_with(key) ? value : 0;
  const std::size_t end = kPayload + number(kPayloadBytes, 2);
  for (std::size_t line = kPayload; line + kLineBytes < end;) {
    const std::size_t key_bytes = number(line, 2);
    const std::size_t grains = (number(line + 2, 4) + kGrain - 1) / kGrain;
    if (header.substr(line + kLineBytes, key_bytes) == key) return value;
    line += kLineBytes + key_bytes;
    value += static_cast<off_t>(grains * kGrain);
  }
  return 0;
}

/// The last value of the key in any segment: one bit of it is turned over.
bool damage(Connector& connector, std::string_view key) {
  bool damaged = false;
  std::array<char, kGrain> grain{};
  for (const auto& file : std::filesystem::directory_iterator{connector.report().where}) {
    if (!file.path().filename().string().starts_with("segment-")) continue;
    const UniqueFd fd{::open(file.path().c_str(), O_RDWR | O_CLOEXEC)};
    const auto bytes = static_cast<off_t>(file.file_size());
    for (off_t at = kGrain; at + static_cast<off_t>(2 * kGrain) <= bytes; at += kGrain) {
      if (::pread(fd.get(), grain.data(), grain.size(), at) != kGrain) return false;
      const std::string_view header{grain.data(), grain.size()};
      if (header.substr(16, 4) != "LREC") continue;
      const off_t value = value_at(header, at, key);
      if (value == 0) continue;
      char byte = 0;
      if (::pread(fd.get(), &byte, 1, value) != 1) return false;
      byte = static_cast<char>(byte ^ 1);
      damaged = ::pwrite(fd.get(), &byte, 1, value) == 1;
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
