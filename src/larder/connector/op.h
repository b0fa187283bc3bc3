#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace larder {

enum class Op : std::uint8_t { kGet = 1, kSet, kExists, kDelete, kTouch };
inline constexpr std::size_t kOpCount = 5;
/// Where arrays by operation keep this one.
constexpr std::size_t index_of(Op op) noexcept {
  return static_cast<std::size_t>(op) - 1;
}
/// By index_of(): as metrics and tables name them.
inline constexpr std::array<const char*, kOpCount> kOpNames{"load", "store", "lookup", "delete",
                                                            "touch"};

/// The operations whose shares are kept apart (C5): lookups (Exists, Touch), loads (Get), stores
/// (Set, Delete).
enum class BatchClass : std::uint8_t { kLookup = 0, kLoad, kStore };
inline constexpr std::size_t kBatchClassCount = 3;
constexpr std::size_t index_of(BatchClass batch_class) noexcept {
  return static_cast<std::size_t>(batch_class);
}
/// In the singular, by BatchClass: as counters, threads and parameters name them.
inline constexpr std::array<const char*, kBatchClassCount> kBatchClassNames{"lookup", "load",
                                                                            "store"};

/// In whose share the operation counts.
constexpr BatchClass class_of(Op op) noexcept {
  if (op == Op::kGet) return BatchClass::kLoad;
  return op == Op::kSet || op == Op::kDelete ? BatchClass::kStore : BatchClass::kLookup;
}

/// Whether it changes no value. What is read may be missing, which is no failure.
constexpr bool is_read(Op op) noexcept {
  return op == Op::kGet || op == Op::kExists || op == Op::kTouch;
}

/// Why a key was not found.
enum class MissReason : std::uint8_t {
  kAbsent = 0,    ///< It is not there.
  kFailedBefore,  ///< A Get of it failed, and it was not stored since (C6).
  kDown,          ///< Nothing was asked: the storage does not answer.
  kLate,          ///< A Get of it missed its deadline lately (C6).
  kOther,         ///< Something is there that is no value for this caller: see the connector.
};
inline constexpr std::size_t kMissReasonCount = 5;
inline constexpr std::array<const char*, kMissReasonCount> kMissReasonNames{
    "absent", "failed_before", "down", "late", "other"};

}  // namespace larder
