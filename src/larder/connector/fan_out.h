#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/connector/connector.h"

namespace larder {

/// One batch on its way through inner connectors: copies of its items in parts, one for each
/// connector and set mode. It stays where it is while is_out(); its memory serves the next batch.
class Split {
 public:
  Split() = default;
  Split(const Split&) = delete;
  Split& operator=(const Split&) = delete;

  Batch& outer() const noexcept { return *outer_; }
  /// Some inner connector has items of it.
  bool is_out() const noexcept { return parts_out_ > 0; }

 private:
  friend class FanOut;
  struct Part {
    Split* split = nullptr;
    std::size_t inner = 0;
    Batch batch;
    std::vector<Item> items;
    std::vector<std::uint32_t> places;  ///< Positions of the items in the outer batch.
    bool is_out = false;
  };

  Batch* outer_ = nullptr;
  std::vector<std::unique_ptr<Part>> parts_;  ///< The first parts_used_ are this batch's.
  std::size_t parts_used_ = 0;
  std::size_t parts_out_ = 0;
};

/// Sends the items of a batch to inner connectors, and returns their results: for connectors on top
/// of others.
///
/// Items keep the outer batch's deadline, urgency and way of comparing sizes; keys and slices are
/// the outer batch's own, so no value is copied. Parts wait for room; an item whose part is refused
/// nevertheless, by a stopped connector, fails with that error.
/// Ownership: the inner connectors outlive it. Threads: one.
/// Cost: a copy of each item, and no allocation once a split has had a batch of that size.
class FanOut {
 public:
  explicit FanOut(std::vector<Connector*> inner) : inner_(std::move(inner)) {}

  /// Begins to split a batch, no part of which may be in flight any more.
  void begin(Split& split, Batch& outer) noexcept;
  /// The outer item at `place` goes to this connector. Throws std::bad_alloc.
  void add(Split& split, std::size_t inner, std::uint32_t place, SetMode set_mode);
  /// Sends everything that was added.
  void submit(Split& split) noexcept;
  void cancel(Split& split) noexcept;
  /// Collects what the inner connectors have finished: a split has ended when its outer items have
  /// outcome, error, value_bytes and existed. Never waits.
  void reap() noexcept;

 private:
  static void copy_back(Split::Part& part) noexcept;

  const std::vector<Connector*> inner_;
};

}  // namespace larder
