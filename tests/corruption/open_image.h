#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "larder/connectors/log/machine/path.h"
#include "tests/corruption/image_device.h"

namespace larder::corruption {

/// What one Get came to.
struct Found {
  Outcome outcome = Outcome::kPending;
  ErrorCode error = ErrorCode::kNone;
  std::span<const std::byte> value;  ///< Of a hit. In the read's memory.
};

/// A LogPath over an image: the store's own code from open to close, without threads.
///
/// Ownership: the image outlives it. It is destroyed as a killed process is, unless close() was
/// called. One thread.
class OpenImage final {
 public:
  /// `options` of a store of `capacity_bytes` with values up to `value_bytes_max`, in line.
  static log_store::PathOptions options(std::uint64_t capacity_bytes,
                                        std::uint64_t value_bytes_max);
  static SetupResult<std::unique_ptr<OpenImage>> open(StoreImage& image,
                                                      const log_store::PathOptions& options);

  /// A Get of every key in one batch, with room for values of up to value_bytes_max, into `memory`,
  /// which grows as it must and is best used again. A batch that does not come back aborts.
  std::vector<Found> read(std::span<const std::string> keys, std::vector<std::byte>& memory);
  /// Outcome of a Set (kReplace).
  Outcome set(const std::string& key, std::span<const std::byte> value);
  /// Every key that a scan lists, page by page. A scan that does not end aborts.
  std::vector<std::string> scan();
  Status close();

  const log_store::LogPath& path() const noexcept { return *path_; }

 private:
  explicit OpenImage(StoreImage& image) : device_(image, clock_) {}

  void run(Batch& batch);
  template <class Condition>
  void turn_until(Condition&& is_done);

  ManualClock clock_;
  ImageDevice device_;
  std::unique_ptr<log_store::LogPath> path_;
  std::uint64_t value_bytes_max_ = 0;
};

}  // namespace larder::corruption
