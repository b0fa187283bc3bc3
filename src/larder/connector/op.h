#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace larder {

enum class Op : std::uint8_t { kGet = 1, kSet, kExists, kDelete, kTouch };
inline constexpr std::size_t kOpCount = 5;
/// Index of this operation in arrays by operation.
constexpr std::size_t index_of(Op op) noexcept {
  return static_cast<std::size_t>(op) - 1;
}
/// By index_of(): the names in metrics and tables.
inline constexpr std::array<const char*, kOpCount> kOpNames{"load", "store", "lookup", "delete",
                                                            "touch"};

/// What a Touch asks for besides "it is used". See Connector, "Hints".
enum class Hint : std::uint8_t {
  kNone = 0,
  kPrefetch,  ///< Bring the value where it is loaded fastest.
  kPin,       ///< The same, and keep it there for Batch::hold_ns.
  kRetain,    ///< Do not evict it from where it is stored, for Batch::hold_ns.
  kRelease,   ///< End its pin and its retention.
};
inline constexpr std::size_t kHintCount = 5;
/// By Hint: the names in errors, metrics and the Python package.
inline constexpr std::array<const char*, kHintCount> kHintNames{"touch", "prefetch", "pin",
                                                                "retain", "release"};

/// A set of hints: bit_of() of each, joined by |.
using HintMask = std::uint8_t;
/// The set of this hint alone.
constexpr HintMask bit_of(Hint hint) noexcept {
  return static_cast<HintMask>(1U << static_cast<unsigned>(hint));
}
/// Hints that last for Batch::hold_ns.
constexpr bool is_held(Hint hint) noexcept {
  return hint == Hint::kPin || hint == Hint::kRetain;
}
/// The longest that a pin or a retention may last: a day.
inline constexpr std::uint64_t kHoldNsMax = std::uint64_t{86'400} * 1'000'000'000;

/// The groups of operations with a share each (C5): lookups (Exists, Touch), loads (Get), stores
/// (Set, Delete).
enum class BatchClass : std::uint8_t { kLookup = 0, kLoad, kStore };
inline constexpr std::size_t kBatchClassCount = 3;
constexpr std::size_t index_of(BatchClass batch_class) noexcept {
  return static_cast<std::size_t>(batch_class);
}
/// In the singular, by BatchClass: the names in counters, threads and parameters.
inline constexpr std::array<const char*, kBatchClassCount> kBatchClassNames{"lookup", "load",
                                                                            "store"};

/// The class whose share the operation counts in.
constexpr BatchClass class_of(Op op) noexcept {
  if (op == Op::kGet) return BatchClass::kLoad;
  return op == Op::kSet || op == Op::kDelete ? BatchClass::kStore : BatchClass::kLookup;
}

/// Whether it changes no value. A missing key is no failure of an operation that reads.
constexpr bool is_read(Op op) noexcept {
  return op == Op::kGet || op == Op::kExists || op == Op::kTouch;
}

/// Why a key was not found.
enum class MissReason : std::uint8_t {
  kAbsent = 0,    ///< It is not there.
  kFailedBefore,  ///< A Get of it failed, and it was not stored since (C6).
  kDown,          ///< Nothing was asked: the storage does not answer.
  kLate,          ///< A Get of it missed its deadline lately (C6).
  kOther,         ///< There is an object that is not a value for this caller: see the connector.
};
inline constexpr std::size_t kMissReasonCount = 5;
inline constexpr std::array<const char*, kMissReasonCount> kMissReasonNames{
    "absent", "failed_before", "down", "late", "other"};

}  // namespace larder
