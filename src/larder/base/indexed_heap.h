#pragma once

#include <cstddef>
#include <vector>

#include "larder/base/check.h"

namespace larder {

/// A binary heap of things that live elsewhere, each of which knows its place in it, so that any of
/// them can be taken out.
///
/// `Order` says by static functions which of two comes first, and where a thing keeps its place:
///   bool is_before(const T&, const T&), std::size_t place(const T&), void set_place(T&, size_t)
/// The caller synchronises. Cost: O(log n) to add and to remove; add() allocates beyond reserve().
template <class T, class Order>
class IndexedHeap {
 public:
  bool empty() const noexcept { return things_.empty(); }
  std::size_t size() const noexcept { return things_.size(); }
  std::size_t capacity() const noexcept { return things_.capacity(); }
  void reserve(std::size_t count) { things_.reserve(count); }
  T& first() const noexcept { return *things_.front(); }

  void add(T& thing) {
    things_.push_back(&thing);
    move_up(things_.size() - 1);
  }

  void remove(T& thing) noexcept {
    const std::size_t index = Order::place(thing);
    LARDER_CHECK(index < things_.size() && things_[index] == &thing);
    T& last = *things_.back();
    things_.pop_back();
    if (&last == &thing) return;
    put(index, last);
    move_up(index);
    move_down(Order::place(last));
  }

 private:
  void put(std::size_t index, T& thing) noexcept {
    things_[index] = &thing;
    Order::set_place(thing, index);
  }

  void move_up(std::size_t index) noexcept {
    T& thing = *things_[index];
    while (index > 0) {
      const std::size_t parent = (index - 1) / 2;
      if (!Order::is_before(thing, *things_[parent])) break;
      put(index, *things_[parent]);
      index = parent;
    }
    put(index, thing);
  }

  void move_down(std::size_t index) noexcept {
    T& thing = *things_[index];
    for (;;) {
      std::size_t child = 2 * index + 1;
      if (child >= things_.size()) break;
      if (child + 1 < things_.size() && Order::is_before(*things_[child + 1], *things_[child])) {
        ++child;
      }
      if (!Order::is_before(*things_[child], thing)) break;
      put(index, *things_[child]);
      index = child;
    }
    put(index, thing);
  }

  std::vector<T*> things_;
};

}  // namespace larder
