#include "larder/base/system_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace larder {
namespace {

constexpr const char* kHugePages = "/sys/kernel/mm/transparent_hugepage/";

/// The sector size of /proc/diskstats, whatever the device's own is.
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
  std::size_t separator = 6;  // Any number of optional fields stands before the separator.
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

/// "madvise" of "always [madvise] never".
std::string chosen_word(std::string_view text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return "";
  return std::string{text.substr(open + 1, close - open - 1)};
}

/// The value of "name=value" among options with commas between; the last one counts.
std::string option_in(std::string_view options, std::string_view name) {
  std::string value;
  while (!options.empty()) {
    const std::string_view option = options.substr(0, options.find(','));
    if (option.starts_with(name) && option.substr(name.size()).starts_with('=')) {
      value = option.substr(name.size() + 1);
    }
    options.remove_prefix(std::min(option.size() + 1, options.size()));
  }
  return value;
}

}  // namespace

std::string read_small_file(const std::string& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

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

std::optional<Mount> mount_of(const std::string& path) {
  std::error_code error;
  const std::string plain = std::filesystem::canonical(path, error).string();
  if (error) return std::nullopt;
  return parse_mount_info(read_small_file("/proc/self/mountinfo"), plain);
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

std::string huge_pages_of_memory() {
  return chosen_word(read_small_file(std::string{kHugePages} + "enabled"));
}

std::string huge_pages_of_tmpfs(const Mount& mount, std::string_view shmem_enabled) {
  const std::string overruling = chosen_word(shmem_enabled);
  if (overruling == "deny") return "never";
  if (overruling == "force") return "always";
  const std::string of_mount = option_in(mount.options, "huge");
  return of_mount.empty() ? "never" : of_mount;
}

std::string huge_pages_of_tmpfs(const std::string& directory) {
  const std::string setting = read_small_file(std::string{kHugePages} + "shmem_enabled");
  const auto mount = mount_of(directory);
  if (setting.empty() || !mount || mount->file_system != "tmpfs") return "";
  return huge_pages_of_tmpfs(*mount, setting);
}

}  // namespace larder
