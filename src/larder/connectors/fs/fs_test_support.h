#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/fs/fs_connector.h"
#include "tests/support/eventually.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/temporary_directory.h"

namespace larder::fs {

using Bytes = std::vector<std::byte>;

inline Bytes value_of(std::uint64_t seed, std::size_t bytes = 10'000) {
  Bytes value(bytes);
  Random{seed}.fill(value);
  return value;
}

inline const std::string kKey = "org/model@02010100@0@00010203aabb";
inline const std::string kFile = "org-SEP-model@0x02010100@0@00010203aabb.data";

inline Bytes content_of(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

inline void write_file(const std::string& path, const Bytes& value) {
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  file.write(reinterpret_cast<const char*>(value.data()),
             static_cast<std::streamsize>(value.size()));
  ASSERT_TRUE(file.good()) << path;
}

/// Makes a file look as if it had been written this many seconds ago.
inline void make_older(const std::string& path, std::int64_t seconds) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  now.tv_sec -= seconds;
  const std::array<timespec, 2> times{now, now};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0) << path;
}

inline std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{path}) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

using testing::eventually;

inline std::string property_of(const Report& report, std::string_view name) {
  for (const auto& [property, value] : report.properties) {
    if (property == name) return value;
  }
  return {};
}

/// An open connector and a client that waits for it.
class OpenFs {
 public:
  explicit OpenFs(const std::string& path, const std::string& parameters = "") {
    registry_.add(connector_type());
    auto opened =
        registry_.open("fs:" + path + "?min_free=0" + (parameters.empty() ? "" : "&" + parameters));
    if (!opened) {
      ADD_FAILURE() << opened.error().text;
      return;
    }
    connector = std::move(*opened);
    client.emplace(*connector);
    EXPECT_TRUE(eventually([&] { return property_of(connector->report(), "counted") == "yes"; }));
  }
  ~OpenFs() { close(); }
  OpenFs(const OpenFs&) = delete;
  OpenFs& operator=(const OpenFs&) = delete;

  void close() {
    if (!connector) return;
    EXPECT_TRUE(connector->stop(RealClock::instance().now_ns() + 30'000'000'000).has_value());
    client.reset();
    connector.reset();
  }

  void set(const std::string& key, const Bytes& value, SetMode mode = SetMode::kIfAbsent,
           bool existed = false) {
    const auto stored = client->set(key, value, mode);
    ASSERT_TRUE(stored.has_value()) << key << ": " << stored.error().to_string();
    EXPECT_EQ(stored->existed, existed) << key;
  }
  /// Both lookup and load.
  bool has(const std::string& key, const Bytes& value) {
    const auto size = client->exists(key);
    if (!size || !*size || **size != value.size()) return false;
    const auto found = client->get(key);
    return found && *found && **found == value;
  }
  bool is_miss(const std::string& key) {
    Bytes buffer(100);
    const auto size = client->exists(key);
    const auto found = client->get_into(key, buffer);
    return size && !*size && found && !*found;
  }
  std::uint64_t counter(std::string_view name) const {
    const auto value = metric_value(connector->report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }

  std::unique_ptr<Connector> connector;
  std::optional<BlockingClient> client;

 private:
  Registry registry_;
};

/// Null, with the reason in `skipped`, where this user may not mount one.
inline std::unique_ptr<testing::FaultyDirectory> faulty(std::string& skipped,
                                                        const testing::OddNames& names = {}) {
  auto made = testing::FaultyDirectory::create(names);
  if (made) return std::move(*made);
  skipped = made.error().text;
  return nullptr;
}

/// A tmpfs of this size. Absent: this user may not mount one.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& size)
      : is_mounted_(::mount("larder-test", directory_.path().c_str(), "tmpfs", 0,
                            ("size=" + size).c_str()) == 0) {}
  ~SmallDisk() {
    if (is_mounted_) ::umount2(directory_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool is_mounted() const noexcept { return is_mounted_; }
  const std::string& path() const noexcept { return directory_.path(); }
  void remount(bool read_only) {
    ASSERT_EQ(::mount("larder-test", path().c_str(), nullptr,
                      MS_REMOUNT | (read_only ? std::uint64_t{MS_RDONLY} : 0), nullptr),
              0);
  }

 private:
  testing::TemporaryDirectory directory_;
  bool is_mounted_ = false;
};

}  // namespace larder::fs
