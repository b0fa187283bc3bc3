#include "larder/tools/machine_info.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <string_view>
#include <thread>

#include "larder/base/size_text.h"
#include "larder/base/system_files.h"
#include "larder/tools/disk_stats.h"
#include "larder_commit.h"

namespace larder::tools {
namespace {

std::string processor_name() {
  const std::string text = read_small_file("/proc/cpuinfo");
  constexpr std::string_view kField = "model name";
  const std::size_t field = text.find(kField);
  if (field == std::string::npos) return "unknown processor";
  const std::size_t begin = text.find(": ", field);
  const std::size_t end = text.find('\n', field);
  if (begin == std::string::npos || begin > end) return "unknown processor";
  return text.substr(begin + 2, end - begin - 2);
}

std::uint64_t last_level_cache_bytes() {
  for (int index = 4; index >= 0; --index) {
    std::string text = read_small_file("/sys/devices/system/cpu/cpu0/cache/index" +
                                       std::to_string(index) + "/size");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (text.empty()) continue;
    if (text.back() == 'K' || text.back() == 'M') text += "iB";  // The kernel writes "32768K".
    const auto bytes = parse_bytes(text);
    if (bytes && *bytes > 0) return *bytes;
  }
  return 0;
}

}  // namespace

MachineInfo describe_machine(const std::string& directory) {
  MachineInfo info;
  info.commit = build_commit();
  utsname names{};
  if (::uname(&names) == 0) info.kernel = std::string{names.sysname} + " " + names.release;
  info.processor = processor_name();
  info.processors = std::thread::hardware_concurrency();
  info.cache_bytes = last_level_cache_bytes();
  info.memory_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (directory.empty()) return info;
  if (const auto mount = mount_of(directory)) {
    info.file_system = mount->file_system;
    info.mount_options = mount->options;
  }
  if (const auto disk = Disk::behind(directory)) {
    info.device = disk->description();
    info.is_page_cache = disk->is_buffered_loop();
  } else {
    info.device = "no block device that the kernel counts for";
  }
  return info;
}

std::string build_commit() {
  return LARDER_COMMIT;
}

}  // namespace larder::tools
