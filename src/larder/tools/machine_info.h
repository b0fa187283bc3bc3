#pragma once

#include <cstdint>
#include <string>

namespace larder::tools {

/// The machine on which a figure was measured; printed with each.
struct MachineInfo {
  std::string commit;  ///< From `git describe` at build time.
  std::string kernel;
  std::string processor;
  std::uint32_t processors = 0;
  std::uint64_t cache_bytes = 0;  ///< Last-level cache of the first processor; 0: unknown.
  std::uint64_t memory_bytes = 0;
  std::string file_system;  ///< Empty without a directory.
  std::string mount_options;
  std::string device;
  bool is_page_cache = false;  ///< A loop device without direct I/O: figures show no disk.
};

/// `directory`: where the values are; empty when they are in no directory.
MachineInfo describe_machine(const std::string& directory);

/// The text of `larder --version` after the version: `git describe` at build time, or "unknown".
std::string build_commit();

}  // namespace larder::tools
