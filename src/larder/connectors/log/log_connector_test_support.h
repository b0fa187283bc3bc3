#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/logging.h"
#include "larder/base/random.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/log_connector.h"
#include "tests/support/temporary_directory.h"

/// The common parts of the log store's tests on real directories.
namespace larder::log_store {
namespace fs = std::filesystem;

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
/// 16 grains with its header: 14 records a segment.
inline constexpr std::size_t kValueBytes = 61'000;
inline constexpr ::uid_t kNobody = 65534;

inline const Registry& registry() {
  static const Registry registry = [] {
    Registry made;
    made.add(connector_type());
    return made;
  }();
  return registry;
}

inline std::vector<std::byte> value_of(const std::string& key, std::size_t bytes = kValueBytes) {
  std::vector<std::byte> value(bytes);
  Random{hash64(std::as_bytes(std::span{key}))}.fill(value);
  return value;
}

inline std::string key_of(int number) {
  return "key-" + std::to_string(number);
}

/// An open store; closed by the destructor, as a process that ends well does.
class Store {
 public:
  explicit Store(std::unique_ptr<Connector> connector)
      : connector_(std::move(connector)), client_(*connector_) {}
  ~Store() { EXPECT_TRUE(connector_->stop(kNever).has_value()); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  void set(const std::string& key, std::size_t bytes = kValueBytes) {
    const auto stored = client_.set(key, value_of(key, bytes));
    ASSERT_TRUE(stored.has_value()) << key << ": " << stored.error().to_string();
  }
  void fill(int from, int to) {
    for (int i = from; i < to; ++i) set(key_of(i));
  }
  /// True for a hit with the right bytes; anything but a hit or a miss fails the test.
  bool has(const std::string& key, std::size_t bytes = kValueBytes) {
    const auto value = client_.get(key);
    EXPECT_TRUE(value.has_value()) << key << ": " << value.error().to_string();
    if (!value || !*value) return false;
    EXPECT_EQ(**value, value_of(key, bytes)) << key;
    return true;
  }
  std::vector<int> present(int from, int to) {
    std::vector<int> numbers;
    for (int i = from; i < to; ++i) {
      if (has(key_of(i))) numbers.push_back(i);
    }
    return numbers;
  }
  BlockingClient& client() { return client_; }
  Report report() const { return connector_->report(); }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) {
    return connector_->scan(from, keys_max);
  }
  Capabilities capabilities() const { return connector_->capabilities(); }
  std::uint64_t counter(const std::string& name) const {
    const Report now = report();
    const auto value = metric_value(now, name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }
  std::string reasons() const {
    std::string text;
    for (const std::string& reason : report().reasons) text += reason + "\n";
    return text;
  }

 private:
  std::unique_ptr<Connector> connector_;
  BlockingClient client_;
};

/// Runs `work` in its own process; returns its text.
inline std::string in_child(const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    const std::string text = work();
    const bool written = ::write(ends[1], text.data(), text.size()) >= 0;
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t bytes = 0; (bytes = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return text;
}

inline bool become_nobody() {
  return ::geteuid() != 0 || (::setresgid(kNobody, kNobody, kNobody) == 0 &&
                              ::setresuid(kNobody, kNobody, kNobody) == 0);
}

class LogConnectorTest : public ::testing::Test {
 protected:
  LogConnectorTest() { set_log_level(LogLevel::kError); }

  std::string spec(const std::string& capacity = "32MiB", const std::string& more = "") const {
    return "log:" + path_ + "?capacity=" + capacity + "&segment=1MiB&max_value=64KiB&min_free=0" +
           more;
  }
  static std::unique_ptr<Store> open(const std::string& text) {
    auto connector = registry().open(text);
    if (!connector) ADD_FAILURE() << connector.error().text;
    return connector ? std::make_unique<Store>(std::move(*connector)) : nullptr;
  }
  static SetupError refusal(const std::string& text) {
    auto connector = registry().open(text);
    if (connector) {
      ADD_FAILURE() << text << " was opened";
      return {};
    }
    return connector.error();
  }
  /// A session that ends by kill -9 after `work`.
  static void run_and_kill(const std::string& text, const std::function<void(Store&)>& work) {
    const ::pid_t child = ::fork();
    if (child == 0) {
      auto store = open(text);
      if (store == nullptr) ::_exit(1);
      work(*store);
      if (HasFailure()) ::_exit(1);
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the session ended before its time";
  }

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string segment(std::uint32_t number) const { return file(segment_file_name(number)); }
  /// Blocks of all files and of the directory, in bytes.
  std::uint64_t disk_usage() const {
    const auto blocks_of = [](const std::string& name) -> std::uint64_t {
      struct stat status{};
      return ::lstat(name.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) : 0;
    };
    std::uint64_t blocks = blocks_of(path_);
    for (const auto& entry : fs::directory_iterator{path_}) blocks += blocks_of(entry.path());
    return blocks * 512;
  }
  /// Names and content of everything in the directory.
  std::map<std::string, std::pair<std::uint64_t, Hash128>> content() const {
    std::map<std::string, std::pair<std::uint64_t, Hash128>> found;
    for (const auto& entry : fs::directory_iterator{path_}) {
      std::ifstream in{entry.path(), std::ios::binary};
      const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
      found[entry.path().filename()] = {bytes.size(), hash128(std::as_bytes(std::span{bytes}))};
    }
    return found;
  }
  static void overwrite(const std::string& name, std::uint64_t offset, std::string_view bytes) {
    std::fstream out{name, std::ios::binary | std::ios::in | std::ios::out};
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    ASSERT_TRUE(out.good()) << name;
  }
  static std::string garbage(std::size_t bytes) {
    std::string text(bytes, '\0');
    Random{7}.fill(std::as_writable_bytes(std::span{text}));
    return text;
  }
  /// A store of `keys` keys that was closed well.
  void make_store(int keys, const std::string& capacity = "32MiB") const {
    const auto store = open(spec(capacity));
    ASSERT_NE(store, nullptr);
    store->fill(0, keys);
  }
  static void expect_names(const SetupError& error, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      EXPECT_NE(error.text.find(part), std::string::npos) << "'" << part << "' in: " << error.text;
    }
  }

  testing::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/store";
};

inline std::vector<int> numbers(int from, int to) {
  std::vector<int> all;
  for (int i = from; i < to; ++i) all.push_back(i);
  return all;
}

}  // namespace larder::log_store
