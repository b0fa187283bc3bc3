#include "larder/tools/disk_stats.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <vector>

#include "larder/base/unique_fd.h"

namespace larder::tools {
namespace {

/// Of /proc/diskstats, whatever the device's own sectors are.
constexpr std::uint64_t kSectorBytes = 512;

std::vector<std::string> words_of(std::string_view line) {
  std::istringstream stream{std::string{line}};
  return {std::istream_iterator<std::string>{stream}, std::istream_iterator<std::string>{}};
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// mountinfo writes space, tab, line end and backslash as \040 and the like.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool is_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

std::optional<Mount> parse_mount_line(std::string_view line) {
  const std::vector<std::string> words = words_of(line);
  std::size_t separator = 6;  // Any number of optional fields stands before it.
  while (separator < words.size() && words[separator] != "-") ++separator;
  if (separator + 3 >= words.size()) return std::nullopt;
  const std::string& device = words[2];
  const std::size_t colon = device.find(':');
  if (colon == std::string::npos) return std::nullopt;
  const auto device_major = number<std::uint32_t>(std::string_view{device}.substr(0, colon));
  const auto device_minor = number<std::uint32_t>(std::string_view{device}.substr(colon + 1));
  if (!device_major || !device_minor) return std::nullopt;
  Mount mount;
  mount.point = unescape(words[4]);
  mount.file_system = words[separator + 1];
  mount.source = unescape(words[separator + 2]);
  mount.options = words[5] + "," + words[separator + 3];
  mount.device_major = *device_major;
  mount.device_minor = *device_minor;
  return mount;
}

}  // namespace

std::optional<Mount> parse_mount_info(std::string_view mount_info, std::string_view path) {
  std::optional<Mount> best;
  while (!mount_info.empty()) {
    const std::size_t end = mount_info.find('\n');
    auto mount = parse_mount_line(mount_info.substr(0, end));
    if (mount && is_below(path, mount->point) &&
        (!best || mount->point.size() >= best->point.size())) {
      best = std::move(mount);
    }
    mount_info.remove_prefix(end == std::string_view::npos ? mount_info.size() : end + 1);
  }
  return best;
}

std::optional<DiskCounts> parse_disk_stats(std::string_view disk_stats, std::uint32_t device_major,
                                           std::uint32_t device_minor) {
  while (!disk_stats.empty()) {
    const std::size_t end = disk_stats.find('\n');
    const std::vector<std::string> words = words_of(disk_stats.substr(0, end));
    if (words.size() >= 10 && number<std::uint32_t>(words[0]) == device_major &&
        number<std::uint32_t>(words[1]) == device_minor) {
      const auto read = number<std::uint64_t>(words[5]);
      const auto written = number<std::uint64_t>(words[9]);
      if (!read || !written) return std::nullopt;
      return DiskCounts{*read * kSectorBytes, *written * kSectorBytes};
    }
    disk_stats.remove_prefix(end == std::string_view::npos ? disk_stats.size() : end + 1);
  }
  return std::nullopt;
}

std::optional<Disk> Disk::behind(const std::string& directory) {
  struct stat status{};
  if (::stat(directory.c_str(), &status) != 0) return std::nullopt;
  std::uint32_t device_major = major(status.st_dev);
  std::uint32_t device_minor = minor(status.st_dev);
  if (device_major == 0) {
    // btrfs and the like number their files by themselves; the mount's source is the device.
    std::error_code error;
    const std::string path = std::filesystem::canonical(directory, error).string();
    const auto mount = parse_mount_info(read_small_file("/proc/self/mountinfo"), path);
    if (!mount || ::stat(mount->source.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) {
      return std::nullopt;
    }
    device_major = major(status.st_rdev);
    device_minor = minor(status.st_rdev);
  }
  const Disk disk{device_major, device_minor};
  if (!disk.counts()) return std::nullopt;
  return disk;
}

std::optional<DiskCounts> Disk::counts() const {
  return parse_disk_stats(read_small_file("/proc/diskstats"), major_, minor_);
}

std::string Disk::attribute(std::string_view name) const {
  const std::string folder =
      "/sys/dev/block/" + std::to_string(major_) + ":" + std::to_string(minor_) + "/";
  for (const char* const base : {"", "../"}) {  // A partition has no queue; its disk has.
    std::string text = read_small_file(folder + base + std::string{name});
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    if (!text.empty()) return text;
  }
  return {};
}

std::string Disk::name() const {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(
      "/sys/dev/block/" + std::to_string(major_) + ":" + std::to_string(minor_), error);
  if (error) return std::to_string(major_) + ":" + std::to_string(minor_);
  return target.filename().string();
}

std::string Disk::description() const {
  std::string text = name();
  const std::string model = attribute("device/model");
  if (!model.empty()) text += ", " + model;
  const std::string rotational = attribute("queue/rotational");
  if (!rotational.empty()) text += rotational == "0" ? ", not rotating" : ", rotating";
  const std::string scheduler = attribute("queue/scheduler");
  const std::size_t open = scheduler.find('[');
  const std::size_t close = scheduler.find(']');
  if (open != std::string::npos && close != std::string::npos) {
    text += ", scheduler " + scheduler.substr(open + 1, close - open - 1);
  }
  return text;
}

bool Disk::is_rotational() const {
  return attribute("queue/rotational") == "1";
}

bool Disk::is_buffered_loop() const {
  constexpr std::uint32_t kLoopMajor = 7;
  return major_ == kLoopMajor && attribute("loop/dio") != "1";
}

void drop_cached_pages(const std::string& directory) {
  std::error_code error;
  std::filesystem::recursive_directory_iterator file{
      directory, std::filesystem::directory_options::skip_permission_denied, error};
  for (; !error && file != std::filesystem::recursive_directory_iterator{}; file.increment(error)) {
    if (!file->is_regular_file(error) || file->is_symlink(error)) continue;
    const UniqueFd fd{::open(file->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (!fd) continue;
    ::fdatasync(fd.get());
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

std::string read_small_file(const std::string& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

}  // namespace larder::tools
