#include "larder/tools/baseline_policies.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "larder/cache/policies/queued_policy.h"

namespace larder::tools {
namespace {

class FifoPolicy final : public cache::QueuedPolicy {
 public:
  explicit FifoPolicy(const cache::PolicyOptions& options) : QueuedPolicy(options, 2) {}

 private:
  static constexpr Queue kInserted = 1;

  Queue enter(cache::ColumnId /*column*/, cache::ColumnRecord& /*record*/) override {
    return kInserted;
  }
  Queue use(cache::ColumnId /*column*/, cache::ColumnRecord& record) override {
    return record.queue == kInserted ? kStay : kInserted;
  }
  std::size_t choose(std::span<cache::ColumnId> out) override { return list(kInserted, out); }
};

class ClockPolicy final : public cache::QueuedPolicy {
 public:
  explicit ClockPolicy(const cache::PolicyOptions& options) : QueuedPolicy(options, 2) {}

 private:
  static constexpr Queue kCircle = 1;

  Queue enter(cache::ColumnId /*column*/, cache::ColumnRecord& /*record*/) override {
    return kCircle;
  }
  Queue use(cache::ColumnId /*column*/, cache::ColumnRecord& record) override {
    if (record.queue != kCircle) return kCircle;
    record.uses = 1;
    return kStay;
  }

  /// The hand passes over used columns, which then are behind it: at the hot end.
  std::size_t choose(std::span<cache::ColumnId> out) override {
    std::size_t count = 0;
    Place place = 0;
    while (count < out.size() &&
           (place = queue(kCircle).visible_from(place)) != cache::ColumnOrder::kEnd) {
      const cache::ColumnId column = queue(kCircle).at(place);
      if (record(column).uses > 0) {
        record(column).uses = 0;
        move(column, kCircle);
        // The move may have changed the places of the victims, too.
        place = count == 0 ? 0 : record(out[count - 1]).place + 1;
      } else {
        out[count++] = column;
        ++place;
      }
    }
    return count;
  }
};

template <class P>
std::unique_ptr<cache::Policy> make(const cache::PolicyOptions& options) {
  return std::make_unique<P>(options);
}

constexpr std::array<cache::PolicyKind, 2> kKinds = {{
    {.name = "FIFO", .summary = "what came first goes first", .make = make<FifoPolicy>},
    {.name = "CLOCK",
     .summary = "what came first goes first, unless it was used",
     .make = make<ClockPolicy>},
}};

bool is_same_name(std::string_view one, std::string_view other) {
  return std::ranges::equal(one, other, [](char a, char b) {
    const auto small = [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return small(a) == small(b);
  });
}

}  // namespace

std::span<const cache::PolicyKind> baseline_policies() noexcept {
  return kKinds;
}

SetupResult<const cache::PolicyKind*> find_simulated_policy(std::string_view name) {
  for (const cache::PolicyKind& kind : kKinds) {
    if (is_same_name(kind.name, name)) return &kind;
  }
  auto found = cache::find_policy(name);
  if (found) return found;
  return SetupError{found.error().code, found.error().text + " Simulated only: FIFO, CLOCK."};
}

}  // namespace larder::tools
