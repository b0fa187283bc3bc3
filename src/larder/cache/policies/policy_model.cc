#include "larder/cache/policies/policy_model.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

namespace larder::cache::testing {

void PolicyModel::insert(ColumnId id, std::uint64_t fingerprint, std::uint64_t bytes,
                         std::uint64_t stamp) {
  place_new({.id = id, .fingerprint = fingerprint, .bytes = bytes, .stamp = stamp});
  note_change();
}

void PolicyModel::resize(ColumnId id, std::uint64_t bytes) {
  find(id).bytes = bytes;
  note_change();
}

void PolicyModel::touch(ColumnId id, std::uint64_t stamp) {
  ModelColumn& touched = find(id);
  touched.stamp = stamp;
  touched.uses += 1;
  const bool is_cooled =
      std::ranges::any_of(cooled_, [id](const ModelColumn& c) { return c.id == id; });
  if (is_cooled || moves_when_used()) {
    int from = 0;
    const ModelColumn column = take(id, from);
    place_used(column, from);
  }
  note_change();
}

void PolicyModel::cool(ColumnId id) {
  int from = 0;
  ModelColumn column = take(id, from);
  column.uses = 0;
  cooled_.push_back(column);
  note_change();
}

void PolicyModel::erase(ColumnId id, Removal why) {
  int from = 0;
  const ModelColumn column = take(id, from);
  if (why == Removal::kEvicted && from != 0) note_evicted(column, from);
  note_change();
}

std::vector<ColumnId> PolicyModel::coldest(std::size_t count) {
  std::vector<ColumnId> all = cooled(count);
  const std::vector<ColumnId> others = victims(count - all.size());
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

std::vector<ColumnId> PolicyModel::cooled(std::size_t count) const {
  std::vector<ColumnId> first;
  for (const ModelColumn& column : cooled_) {
    if (!column.is_hidden && first.size() < count) first.push_back(column.id);
  }
  return first;
}

std::uint64_t PolicyModel::coldest_stamp() {
  const std::vector<ColumnId> first = coldest(1);
  if (first.empty()) return Policy::kNoVictim;
  const bool is_cooled =
      std::ranges::any_of(cooled_, [&](const ModelColumn& c) { return c.id == first[0]; });
  return is_cooled ? 0 : find(first[0]).stamp;
}

std::size_t PolicyModel::columns() const {
  std::size_t count = cooled_.size();
  for (const auto& [number, queue] : queues_) count += queue.size();
  return count;
}

std::uint64_t PolicyModel::bytes() const {
  std::uint64_t sum = bytes_of(cooled_);
  for (const auto& [number, queue] : queues_) sum += bytes_of(queue);
  return sum;
}

std::uint64_t PolicyModel::bytes_of(const Queue& queue) {
  std::uint64_t sum = 0;
  for (const ModelColumn& column : queue) sum += column.bytes;
  return sum;
}

bool PolicyModel::forget(Ghosts& ghosts, std::uint64_t fingerprint) {
  return std::erase_if(ghosts, [=](const ModelColumn& g) { return g.fingerprint == fingerprint; }) >
         0;
}

ModelColumn& PolicyModel::find(ColumnId id) {
  for (ModelColumn& column : cooled_) {
    if (column.id == id) return column;
  }
  for (auto& [number, queue] : queues_) {
    for (ModelColumn& column : queue) {
      if (column.id == id) return column;
    }
  }
  throw std::logic_error("the history names a column that is not there");
}

ModelColumn PolicyModel::take(ColumnId id, int& from) {
  const ModelColumn taken = find(id);
  const auto is_it = [id](const ModelColumn& column) { return column.id == id; };
  from = 0;
  if (std::erase_if(cooled_, is_it) > 0) return taken;
  for (auto& [number, queue] : queues_) {
    if (std::erase_if(queue, is_it) > 0) from = number;
  }
  return taken;
}

namespace {

/// All columns in one queue; victims are chosen by their number of use.
class LruModel : public PolicyModel {
  void place_new(ModelColumn column) override { queues_[1].push_front(number(column)); }
  void place_used(ModelColumn column, int /*from*/) override {
    queues_[1].push_front(number(column));
  }
  std::vector<ColumnId> victims(std::size_t count) override {
    std::vector<std::pair<unsigned, ColumnId>> by_use;
    for (const ModelColumn& column : queues_[1]) {
      if (!column.is_hidden) by_use.emplace_back(column.uses, column.id);
    }
    std::ranges::sort(by_use);
    std::vector<ColumnId> first;
    for (const auto& [use, id] : by_use) {
      if (first.size() < count) first.push_back(id);
    }
    return first;
  }
  ModelColumn number(ModelColumn column) {
    column.uses = ++use_;
    return column;
  }

  unsigned use_ = 0;
};

/// Any order of the visible columns after the cooled ones; tests of hits judge its quality. Its
/// stamp is LRU's.
class PrefixModel final : public LruModel {
 public:
  bool allows(const std::vector<ColumnId>& answer, std::size_t count) override {
    const std::vector<ColumnId> first = cooled(count);
    if (answer.size() != coldest(count).size()) return false;
    if (!std::equal(first.begin(), first.end(), answer.begin())) return false;
    const std::vector<ColumnId> all = coldest(columns());
    const std::set<ColumnId> visible{all.begin(), all.end()};
    const std::set<ColumnId> named{answer.begin(), answer.end()};
    return named.size() == answer.size() && std::ranges::includes(visible, named);
  }
};

class NoopModel final : public PolicyModel {
  void place_new(ModelColumn column) override { queues_[1].push_back(column); }
  void place_used(ModelColumn column, int /*from*/) override { queues_[1].push_back(column); }
  std::vector<ColumnId> victims(std::size_t /*count*/) override { return {}; }
};

/// In the paper's letters.
class ArcModel final : public PolicyModel {
 public:
  ArcModel(std::uint64_t c, std::size_t ghosts_max) : c_(c), ghosts_max_(ghosts_max) {}

 private:
  static constexpr int kT1 = 1;
  static constexpr int kT2 = 2;

  void place_new(ModelColumn x) override {
    const long double b1 = static_cast<long double>(bytes_of(b1_));
    const long double b2 = static_cast<long double>(bytes_of(b2_));
    const auto delta = [&](long double other, long double hit) {
      if (other <= hit) return x.bytes;
      if (hit == 0) return ~std::uint64_t{0};
      return static_cast<std::uint64_t>(static_cast<long double>(x.bytes) * other / hit);
    };
    if (forget(b1_, x.fingerprint)) {
      const std::uint64_t by = delta(b2, b1);
      p_ = by > c_ - p_ ? c_ : p_ + by;
      queues_[kT2].push_back(x);
    } else if (forget(b2_, x.fingerprint)) {
      const std::uint64_t by = delta(b1, b2);
      p_ = by > p_ ? 0 : p_ - by;
      queues_[kT2].push_back(x);
    } else {
      queues_[kT1].push_back(x);
    }
  }
  void place_used(ModelColumn x, int /*from*/) override { queues_[kT2].push_back(x); }
  void note_evicted(const ModelColumn& x, int from) override {
    Ghosts& ghosts = from == kT1 ? b1_ : b2_;
    forget(ghosts, x.fingerprint);
    ghosts.push_back(x);
    if (ghosts.size() > ghosts_max_) ghosts.pop_front();
  }
  void note_change() override {
    while (!b1_.empty() && bytes_of(queues_[kT1]) + bytes_of(b1_) > c_) b1_.pop_front();
    while (!b2_.empty() && bytes() + bytes_of(b1_) + bytes_of(b2_) > 2 * c_) b2_.pop_front();
  }
  std::vector<ColumnId> victims(std::size_t count) override {
    std::vector<ColumnId> out;
    Queue t1 = queues_[kT1];
    Queue t2 = queues_[kT2];
    const auto first_visible = [](Queue& queue) {
      return std::ranges::find(queue, false, &ModelColumn::is_hidden);
    };
    while (out.size() < count) {
      const auto x1 = first_visible(t1);
      const auto x2 = first_visible(t2);
      if (x1 == t1.end() && x2 == t2.end()) break;
      if (x1 != t1.end() && (bytes_of(t1) > p_ || x2 == t2.end())) {
        out.push_back(x1->id);
        t1.erase(x1);
      } else {
        out.push_back(x2->id);
        t2.erase(x2);
      }
    }
    return out;
  }

  const std::uint64_t c_;
  const std::size_t ghosts_max_;
  std::uint64_t p_ = 0;
  Ghosts b1_;
  Ghosts b2_;
};

/// In the paper's letters.
class S3FifoModel final : public PolicyModel {
 public:
  S3FifoModel(std::uint64_t capacity, std::size_t ghosts_max)
      : capacity_(capacity), ghosts_max_(ghosts_max) {}

 private:
  static constexpr int kS = 1;
  static constexpr int kM = 2;

  void place_new(ModelColumn x) override {
    queues_[forget(g_, x.fingerprint) ? kM : kS].push_back(x);
  }
  void place_used(ModelColumn x, int /*from*/) override { queues_[kS].push_back(x); }
  bool moves_when_used() const override { return false; }
  void note_evicted(const ModelColumn& x, int from) override {
    if (from != kS) return;
    forget(g_, x.fingerprint);
    g_.push_back(x);
    if (g_.size() > ghosts_max_) g_.pop_front();
  }
  void note_change() override {
    while (!g_.empty() && bytes_of(g_) > capacity_ - capacity_ / 10) g_.pop_front();
  }
  static unsigned freq(const ModelColumn& x) { return std::min(x.uses, 3U); }

  std::vector<ColumnId> victims(std::size_t count) override {
    std::vector<ColumnId> out;
    std::set<ColumnId> gone;
    Queue& s = queues_[kS];
    Queue& m = queues_[kM];
    const auto tail = [&](Queue& queue) {
      return std::ranges::find_if(
          queue, [&](const ModelColumn& x) { return !x.is_hidden && !gone.contains(x.id); });
    };
    while (out.size() < count) {
      std::uint64_t s_bytes = 0;
      for (const ModelColumn& x : s) s_bytes += gone.contains(x.id) ? 0 : x.bytes;
      const auto of_s = tail(s);
      const auto of_m = tail(m);
      const bool evict_s = of_s != s.end() && (s_bytes * 10 >= capacity_ || of_m == m.end());
      if (!evict_s && of_m == m.end()) break;
      ModelColumn t = evict_s ? *of_s : *of_m;
      if (evict_s && freq(t) > 1) {
        s.erase(of_s);
        t.uses = 0;
        m.push_back(t);
      } else if (!evict_s && freq(t) > 0) {
        m.erase(of_m);
        t.uses = freq(t) - 1;
        m.push_back(t);
      } else {
        gone.insert(t.id);
        out.push_back(t.id);
      }
    }
    return out;
  }

  const std::uint64_t capacity_;
  const std::size_t ghosts_max_;
  Ghosts g_;
};

}  // namespace

std::unique_ptr<PolicyModel> make_model(std::string_view name, std::uint64_t capacity_bytes,
                                        std::size_t ghosts_max) {
  if (name == "LRU" || name == "IsolatedLRU") return std::make_unique<LruModel>();
  if (name == "ARC") return std::make_unique<ArcModel>(capacity_bytes, ghosts_max);
  if (name == "S3-FIFO") return std::make_unique<S3FifoModel>(capacity_bytes, ghosts_max);
  if (name == "prefix") return std::make_unique<PrefixModel>();
  if (name == "noop") return std::make_unique<NoopModel>();
  return nullptr;
}

}  // namespace larder::cache::testing
