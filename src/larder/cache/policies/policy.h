#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder::cache {

/// Index into the engine's slab of columns; used again after erase().
using ColumnId = std::uint32_t;

/// Why a column leaves its policy.
enum class Removal : std::uint8_t {
  kEvicted = 0,  ///< For room: a policy with ghosts remembers it.
  kDeleted,      ///< Deleted, cleared, or moved to another partition: says nothing about its use.
};

/// The policies' data on each column, indexed by ColumnId. A column is in one policy at a time, so
/// the partitions of one engine share one table; with a table each, every salt would need room for
/// the largest ColumnId of all.
class ColumnRecords;
std::shared_ptr<ColumnRecords> make_column_records();

struct PolicyOptions {
  /// The bytes that its columns may take: ARC's c, and the size that S3-FIFO divides.
  std::uint64_t capacity_bytes = 0;
  /// Null: the policy's own.
  std::shared_ptr<ColumnRecords> records = nullptr;
  /// For randomised policies: `prefix`.
  std::uint64_t seed = 0;
  /// The most that a policy remembers of columns that were evicted (48 bytes each). The papers'
  /// own bound, in bytes of the columns, holds beside it.
  std::size_t ghosts_max = std::size_t{1} << 20;
};

/// Announces a request's uses of a prefix, before they come one by one.
struct ChainUse {
  std::uint32_t chunks = 0;    ///< Chunks of the request, as far as is known.
  std::uint32_t resident = 0;  ///< Of these, the leading ones without a hole: its hit.
  std::uint32_t end = 0;       ///< The first use that follows is of chunk end - 1, or one before.
};

/// The order in which resident columns leave (E18, E21). One Policy orders the columns of one
/// partition: of all salts, or of one.
///
/// Stamps: the caller numbers its touches; a stamp is the number of the last one. They never
///   decrease from call to call, begin at 1, and are one sequence for all partitions, so that the
///   coldest columns of two partitions can be compared.
/// Uses: insert() is a column's first use, and touch() is another one. A request that brings a
///   column inserts it and does not touch it. Within a request the last chunk comes first (E20).
/// Hidden columns have pins: they count, keep their place while they are hidden, can be touched,
///   and are no victims. They cost coldest() nothing.
/// Cooled columns are the first victims whatever the policy, the one that was cooled first before
///   the others, until they are touched. They leave no ghost.
/// Misuse (an unknown column, one that is in a policy already, hiding a hidden one) aborts.
/// Determinism: the same calls give the same answers. It uses neither a clock nor the order of a
/// hash table.
/// Threads: the engine's. Cost: O(1) except coldest(), whose cost each class states. Only insert()
///   and erase() allocate: when the number of columns, or of ghosts, has doubled.
class Policy {
 public:
  Policy() = default;
  virtual ~Policy() = default;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  /// A column became resident, and is visible. `fingerprint` names it also after erase(): for
  /// ghosts.
  virtual void insert(ColumnId column, std::uint64_t fingerprint, std::uint64_t bytes,
                      std::uint64_t stamp) = 0;
  /// More of its cells became resident, or fewer. Not a use.
  virtual void resize(ColumnId column, std::uint64_t bytes) = 0;
  /// The uses that follow, up to the next call, are of one request. Without it, a use belongs to
  /// the request of the previous one.
  virtual void begin_chain(const ChainUse& /*chain*/) {}
  virtual void touch(ColumnId column, std::uint64_t stamp) = 0;
  virtual void hide(ColumnId column) = 0;  ///< It got its first pin.
  virtual void show(ColumnId column) = 0;  ///< It lost its last pin. Not a use.
  virtual void cool(ColumnId column) = 0;  ///< To the cold end (E20). Hidden ones may be cooled.
  virtual void erase(ColumnId column, Removal why) = 0;

  /// The next victims, the coldest first: as many as fit, or as there are visible ones. The order
  /// is the one in which the policy would evict them all, one after another. Not const: a policy
  /// may give columns on the way the second chance of its paper's eviction.
  virtual std::size_t coldest(std::span<ColumnId> out) = 0;

  /// The stamp of the column that coldest() would name first; 0 if it was cooled; kNoVictim if no
  /// column is visible. The policy with the lowest has the coldest column. `prefix`, whose victims
  /// may have been used a moment ago, gives the stamp of the column with the oldest use.
  static constexpr std::uint64_t kNoVictim = std::numeric_limits<std::uint64_t>::max();
  virtual std::uint64_t coldest_stamp() = 0;

  virtual std::size_t columns() const noexcept = 0;  ///< Hidden ones, too.
  virtual std::uint64_t bytes() const noexcept = 0;  ///< Of all of them.

  /// Columns and words of the index that coldest() has looked at so far: a measure of cost that
  /// does not depend on the machine.
  virtual std::uint64_t steps() const noexcept = 0;
};

/// A policy that the user can name.
struct PolicyKind {
  std::string_view name;     ///< The name in options and reports.
  std::string_view summary;  ///< For help texts.
  /// Each salt is a partition of its own, with its own Policy; otherwise all salts share one.
  bool is_partitioned_by_salt = false;
  std::unique_ptr<Policy> (*make)(const PolicyOptions&) = nullptr;
};

/// In the order in which help texts list them: the default first.
std::span<const PolicyKind> policy_kinds() noexcept;
/// "lru, arc, ...", for people.
std::string policy_names();

/// By name, in any case and with or without its hyphen. An unknown one: kInvalidArgument, with the
/// nearest valid name and the list.
SetupResult<const PolicyKind*> find_policy(std::string_view name);

}  // namespace larder::cache
