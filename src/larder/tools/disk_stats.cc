#include "larder/tools/disk_stats.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "larder/base/system_files.h"
#include "larder/base/unique_fd.h"

namespace larder::tools {
std::optional<Disk> Disk::behind(const std::string& directory) {
  struct stat status{};
  if (::stat(directory.c_str(), &status) != 0) return std::nullopt;
  std::uint32_t device_major = major(status.st_dev);
  std::uint32_t device_minor = minor(status.st_dev);
  if (device_major == 0) {
    // btrfs and the like number their files by themselves; the mount's source is the device.
    const auto mount = mount_of(directory);
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

}  // namespace larder::tools
