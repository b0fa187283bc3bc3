#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "larder/connector/connector.h"

namespace larder {

/// One operation at a time on a connector, waited for: for tools and tests.
///
/// Ownership: refers to the connector. It is the only one that reaps it while it lives.
/// Threads: one at a time. Cost: a batch and a poll() per call.
/// A call waits until the connector returns the batch, because the memory is the caller's. The
/// time-out is the batch's deadline, so that is soon after it, unless the kernel or the peer holds
/// the I/O (P4).
class BlockingClient {
 public:
  static constexpr std::uint64_t kDefaultTimeoutNs = 30'000'000'000;

  explicit BlockingClient(Connector& connector,
                          std::uint64_t timeout_ns = kDefaultTimeoutNs) noexcept
      : connector_(connector), timeout_ns_(timeout_ns) {}

  struct Stored {
    bool existed = false;  ///< kIfAbsent: the key had a value, and nothing was written.
  };
  Result<Stored> set(std::string_view key, std::span<const std::byte> value,
                     SetMode mode = SetMode::kReplace) noexcept;

  /// The stored size when it is a hit; a miss leaves the buffer untouched. A value of another size
  /// than the buffer is kSizeMismatch, and stays (C6).
  Result<std::optional<std::uint64_t>> get_into(std::string_view key,
                                                std::span<std::byte> buffer) noexcept;
  /// Asks for the size first. Allocates.
  Result<std::optional<std::vector<std::byte>>> get(std::string_view key);
  /// The stored size when it is there.
  Result<std::optional<std::uint64_t>> exists(std::string_view key) noexcept;
  /// Whether it was there.
  Result<bool> remove(std::string_view key) noexcept;
  Result<bool> touch(std::string_view key) noexcept;

  /// Submits a batch and waits for it, with the deadline that it has. The items tell the rest.
  Status run(Batch& batch) noexcept;

 private:
  Status run_one(Op op, Item& item, SetMode mode = SetMode::kIfAbsent) noexcept;

  Connector& connector_;
  const std::uint64_t timeout_ns_;
};

}  // namespace larder
