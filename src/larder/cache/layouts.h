#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/ids.h"

namespace larder::cache {

/// Layers that share a window and a shape.
struct GroupSpec {
  std::uint64_t cell_bytes = 0;     ///< 0: each value has its own size (`tiered:`).
  std::uint32_t window_chunks = 0;  ///< 0: full attention.
  std::uint32_t planes = 0;         ///< Compared only.
  std::uint32_t dtype = 0;          ///< Compared only; the driver's number.

  friend bool operator==(const GroupSpec&, const GroupSpec&) = default;
};

/// Cells of one chunk, ranks times object groups, that a layout may have.
inline constexpr std::uint32_t kRowsMax = 4096;

/// A worker's registration: how the chunks of its model are cut into cells.
struct LayoutSpec {
  std::string model;
  std::uint32_t world_size = 1;  ///< Ranks.
  std::vector<GroupSpec> groups;

  friend bool operator==(const LayoutSpec&, const LayoutSpec&) = default;
};

struct Layout {
  LayoutSpec spec;
  std::uint32_t registrations = 0;  ///< 0: kept for the columns that were made under it.

  Row groups() const noexcept { return static_cast<Row>(spec.groups.size()); }
  Row rows() const noexcept { return static_cast<Row>(spec.world_size * spec.groups.size()); }
  Row row_of(std::uint32_t rank, std::uint32_t group) const noexcept {
    return static_cast<Row>(rank * groups() + group);
  }
  std::uint32_t group_of(Row row) const noexcept { return row % groups(); }
  std::uint32_t rank_of(Row row) const noexcept { return row / groups(); }
  const GroupSpec& group(Row row) const noexcept { return spec.groups[group_of(row)]; }
  /// The first of `chunks` chunks that a prefix or range of that length needs in this row (E8,
  /// E10).
  std::uint32_t first_needed(Row row, std::uint32_t chunks) const noexcept {
    const std::uint32_t window = group(row).window_chunks;
    return window == 0 || window >= chunks ? 0 : chunks - window;
  }
};

struct Space {
  std::uint32_t model = 0;  ///< Index of (model, world size).
  SaltId salt{};
};

/// E4. Layouts by (model, world size), counted by registrations, and the spaces that use them.
///
/// While one layout of a model is alive, another one is refused. After its last registration has
/// ended another may come; the columns of the first then belong to another layout: misses.
/// A space is kept for ever, because L1 keeps its columns; models and salts are few.
/// Threads: the engine's.
class Layouts {
 public:
  Result<LayoutId> add(const LayoutSpec& spec);
  void drop(LayoutId layout) noexcept;
  SpaceId add_space(LayoutId layout, SaltId salt);

  const Layout& operator[](LayoutId layout) const noexcept { return layouts_[index_of(layout)]; }
  bool is_known(LayoutId layout) const noexcept { return index_of(layout) < layouts_.size(); }
  bool is_known(SpaceId space) const noexcept { return index_of(space) < spaces_.size(); }
  /// Under which a space's columns are read and written now: the latest that was registered.
  LayoutId current(SpaceId space) const noexcept {
    return models_[spaces_[index_of(space)].model].layout;
  }
  SaltId salt(SpaceId space) const noexcept { return spaces_[index_of(space)].salt; }
  /// The most object groups that a layout of the space's model ever had.
  std::uint32_t groups_max(SpaceId space) const noexcept {
    return models_[spaces_[index_of(space)].model].groups_max;
  }
  bool is_same_model(SpaceId space, LayoutId layout) const noexcept;

 private:
  struct Model {
    std::string name;
    std::uint32_t world_size = 0;
    LayoutId layout{};
    std::uint32_t groups_max = 0;
  };
  std::uint32_t model_of(const LayoutSpec& spec) const noexcept;

  std::vector<Layout> layouts_;
  std::vector<Model> models_;
  std::vector<Space> spaces_;
  /// By model and salt. Looked up only, never walked.
  std::unordered_map<std::uint64_t, SpaceId> by_model_and_salt_;
};

}  // namespace larder::cache
