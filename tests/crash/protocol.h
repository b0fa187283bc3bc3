#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/connector.h"

/// What the writer, which is killed, and the test that judges it agree on.
namespace larder::crash {

// Descriptors that a writer is started with.
inline constexpr int kReportFd = 3;  ///< The end of a pipe for Messages.
inline constexpr int kPageFd = 4;    ///< Of the SharedPage.

enum class Kind : std::uint8_t {
  kOpened = 1,  ///< The store is open.
  kFound,       ///< What one key is, read before anything was written in this life.
  kAllFound,    ///< All keys were told; the load begins.
  kInvoked,     ///< Written before the operation is submitted.
  kEnded,       ///< Written after the operation came back.
  kClosed,      ///< The store was stopped cleanly.
};

/// One line of a writer's report. Whole in the pipe or not at all, and in the order of time.
struct Message {
  Kind kind = Kind::kOpened;
  Op op = Op::kGet;
  Outcome outcome = Outcome::kPending;
  bool existed = false;
  std::uint32_t key = 0;
  std::uint64_t operation = 0;  ///< Unique in the writer's life; those of one batch differ by less
                                ///< than kOperationsPerBatch.
  std::uint64_t version = 0;    ///< Of a Set's value, or of the value that a Get found.
};
static_assert(sizeof(Message) == 24);
inline constexpr std::uint64_t kOperationsPerBatch = 16;

/// What the store was doing when the writer last looked: it outlives the writer.
struct SharedPage {
  std::atomic<std::uint32_t> segments_sealing = 0;
  std::atomic<std::uint32_t> segments_reclaiming = 0;
};

/// The keys and values of a run. Version V of key K has always the same bytes, and no other version
/// of any key has them: they begin with both numbers, and length and rest follow from them.
struct Content {
  std::uint32_t hot_keys = 24;  ///< Written again and again, so that they are never near the tail.
  std::uint32_t filler_keys = 200;
  std::uint64_t value_bytes_min = 16;
  std::uint64_t value_bytes_max = 0;

  std::uint32_t keys() const noexcept { return hot_keys + filler_keys; }
  std::string key(std::uint32_t number) const;
  std::uint64_t value_bytes(std::uint32_t key, std::uint64_t version) const noexcept;
  /// Fills `out`, which is as long as value_bytes() says.
  static void fill_value(std::uint32_t key, std::uint64_t version, std::span<std::byte> out);
  /// The version of which these are the bytes, every single one; nothing when they are none's.
  std::optional<std::uint64_t> version_of(std::uint32_t key,
                                          std::span<const std::byte> value) const;
};

}  // namespace larder::crash
