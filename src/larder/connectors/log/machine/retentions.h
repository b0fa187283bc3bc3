#pragma once

#include <cstdint>
#include <unordered_map>

#include "larder/connectors/log/format/fingerprint.h"

namespace larder::log_store {

/// Keys whose values the reclaimer carries over before all others (a Touch with Hint::kRetain).
///
/// In memory only: a store that is opened again knows of none.
/// Bounds: a budget of value bytes, of which each key takes kBytesMin at least, so that the keys
/// are
///   bounded, too.
/// Threads: the path's. Cost: O(1); add() looks at all of them where the budget is used up.
class Retentions {
 public:
  static constexpr std::uint64_t kBytesMin = 4096;

  explicit Retentions(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  /// A key that is retained already stays so to the later of the two. False: over the budget.
  bool add(const Fingerprint& key, std::uint64_t value_bytes, std::uint64_t until_ns,
           std::uint64_t now_ns);
  bool has(const Fingerprint& key, std::uint64_t now_ns) const noexcept;
  /// Whether it was retained still.
  bool end(const Fingerprint& key, std::uint64_t now_ns) noexcept;

  /// Those included whose time is over and which nobody has looked at since.
  std::uint64_t keys() const noexcept { return held_.size(); }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct Held {
    std::uint64_t until_ns = 0;
    std::uint64_t bytes = 0;
  };
  struct Hash {
    std::size_t operator()(const Fingerprint& key) const noexcept { return key.low; }
  };

  bool has_room(std::uint64_t bytes) const noexcept {
    return bytes_ <= budget_bytes_ && bytes <= budget_bytes_ - bytes_;
  }
  void drop_expired(std::uint64_t now_ns) noexcept;

  const std::uint64_t budget_bytes_;
  std::unordered_map<Fingerprint, Held, Hash> held_;
  std::uint64_t bytes_ = 0;
};

}  // namespace larder::log_store
