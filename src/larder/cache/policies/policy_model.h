#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "larder/cache/policies/policy.h"

namespace larder::cache::testing {

/// A column as the models see it.
struct ModelColumn {
  ColumnId id = 0;
  std::uint64_t fingerprint = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stamp = 0;
  unsigned uses = 0;
  bool is_hidden = false;
};

/// The required answers of a policy, from lists that are walked. The models share no code with the
/// policies, and are slow.
class PolicyModel {
 public:
  virtual ~PolicyModel() = default;

  void insert(ColumnId id, std::uint64_t fingerprint, std::uint64_t bytes, std::uint64_t stamp);
  void resize(ColumnId id, std::uint64_t bytes);
  void touch(ColumnId id, std::uint64_t stamp);
  void hide(ColumnId id) { find(id).is_hidden = true; }
  void show(ColumnId id) { find(id).is_hidden = false; }
  void cool(ColumnId id);
  void erase(ColumnId id, Removal why);
  std::vector<ColumnId> coldest(std::size_t count);
  /// Whether the policy may give this answer when it is asked for so many victims.
  virtual bool allows(const std::vector<ColumnId>& answer, std::size_t count) {
    return answer == coldest(count);
  }
  std::uint64_t coldest_stamp();
  std::size_t columns() const;
  std::uint64_t bytes() const;

 protected:
  std::vector<ColumnId> cooled(std::size_t count) const;

  using Queue = std::list<ModelColumn>;  ///< The coldest first.
  using Ghosts = std::list<ModelColumn>;

  /// Queues of the policy's own, without the cooled one.
  std::map<int, Queue> queues_;

  virtual void place_new(ModelColumn column) = 0;
  /// The column was taken out of `from` (0: cooled).
  virtual void place_used(ModelColumn column, int from) = 0;
  /// False: a use leaves a column where it is; it is counted in `uses`.
  virtual bool moves_when_used() const { return true; }
  virtual void note_evicted(const ModelColumn& /*column*/, int /*from*/) {}
  virtual void note_change() {}
  virtual std::vector<ColumnId> victims(std::size_t count) = 0;

  static std::uint64_t bytes_of(const Queue& queue);
  static bool forget(Ghosts& ghosts, std::uint64_t fingerprint);

 private:
  ModelColumn& find(ColumnId id);
  ModelColumn take(ColumnId id, int& from);

  Queue cooled_;
};

/// By the name of the kind; null: it has no model.
std::unique_ptr<PolicyModel> make_model(std::string_view name, std::uint64_t capacity_bytes,
                                        std::size_t ghosts_max);

}  // namespace larder::cache::testing
