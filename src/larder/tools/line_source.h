#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder::tools {

/// The lines of a file, plain or compressed with zstd or gzip, as its first bytes tell; "-" is
/// standard input. Compressed files may be several frames or members, one after the other,
/// including skippable frames of zstd.
///
/// Bounded: a line above kLineBytesMax is an error, whatever the file says. One thread at a time.
class LineSource {
 public:
  static constexpr std::size_t kLineBytesMax = std::size_t{32} << 20;

  /// Once `stop` is set, from a signal handler say, whatever waits for the file ends with
  /// kCancelled. It must outlive the source.
  static SetupResult<std::unique_ptr<LineSource>> open(const std::string& path,
                                                       const std::atomic<bool>& stop);

  virtual ~LineSource() = default;
  LineSource(const LineSource&) = delete;
  LineSource& operator=(const LineSource&) = delete;

  /// The next line without its end, valid until the next call; empty at the end of the file.
  virtual SetupResult<std::optional<std::string_view>> next() = 0;

 protected:
  LineSource() = default;
};

}  // namespace larder::tools
