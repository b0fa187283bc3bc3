#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/engine_options.h"
#include "larder/cache/ids.h"
#include "larder/connector/connector.h"

namespace larder::cache {

enum class L2Kind : std::uint8_t { kExists = 0, kLoad, kStore, kGet, kDelete, kTouch };
inline constexpr std::size_t kL2Kinds = 6;

/// A cell of an operation.
struct L2Cell {
  SlotId slot = kNone;       ///< Whose I/O pin the operation holds.
  std::uint32_t number = 0;  ///< The cell's name where the operation comes from.
};

/// One batch on its way through a connector, with all the memory that it points to. It stays where
/// it is until the connector has given the batch back, and serves the next one then.
class L2Operation {
 public:
  L2Operation() = default;
  L2Operation(const L2Operation&) = delete;
  L2Operation& operator=(const L2Operation&) = delete;

  /// Adds an item whose key is written here, and whose value, if it has bytes, is `memory`.
  void add(const KeyNames& names, const CellName& name, Slice memory, L2Cell cell);
  /// Adds an item whose key is the caller's.
  void add(std::span<const std::byte> key, Slice memory, L2Cell cell);
  /// Adds an item whose key and slices are the caller's.
  void add(std::span<const std::byte> key, std::span<const Slice> value, L2Cell cell);
  /// Points the items to their keys and slices; no item may be added after it.
  void seal() noexcept;
  void reset(L2Kind kind_of, TierId tier_of) noexcept;
  /// Every item fails with the error, as if the connector had returned it.
  void fail(const Error& error) noexcept;

  std::span<Item> items() noexcept { return items_; }
  std::span<const L2Cell> cells() const noexcept { return cells_; }
  std::size_t size() const noexcept { return cells_.size(); }

  Batch batch;
  L2Kind kind = L2Kind::kExists;
  TierId tier = 0;
  std::uint32_t id = 0;
  std::uint64_t serial = 0;    ///< Incremented by every operation that is made.
  std::uint64_t bytes = 0;     ///< Bytes of the values.
  std::uint64_t begun_ns = 0;  ///< When the connector accepted it.
  std::uint64_t source = 0;    ///< The handle of the fetch, get or purge that it serves.
  std::uint32_t piece = 0;     ///< kExists: which part of the question.
  bool is_submitted = false;
  bool is_cancelled = false;
  bool keeps = false;  ///< kLoad: its cells are promoted; no fetch waits.

 private:
  struct OwnKey {
    std::uint32_t begin = 0;
    std::uint32_t size = 0;     ///< 0: the key is the caller's.
    bool has_own_slice = true;  ///< No: the slices are the caller's.
  };

  std::vector<Item> items_;
  std::vector<Slice> slices_;  ///< One an item; not used where the caller has some.
  std::vector<std::byte> keys_;
  std::vector<OwnKey> own_keys_;
  std::vector<L2Cell> cells_;
};

}  // namespace larder::cache
