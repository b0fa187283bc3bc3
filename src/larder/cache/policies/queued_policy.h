#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/cache/policies/column_order.h"
#include "larder/cache/policies/column_records.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache {

/// The common part of policies that keep their columns in queues: the records, hiding, cooling, and
/// the checks of misuse. A policy says which queue a column enters, where a touch moves it, and in
/// which order the queues are emptied.
///
/// Queue 0 holds the cooled columns, in the order in which they were cooled; its columns are the
/// first victims of every policy.
/// Invariant: a column of this policy is in exactly one queue.
class QueuedPolicy : public Policy {
 public:
  ~QueuedPolicy() override;
  QueuedPolicy(const QueuedPolicy&) = delete;
  QueuedPolicy& operator=(const QueuedPolicy&) = delete;

  void insert(ColumnId column, std::uint64_t fingerprint, std::uint64_t bytes,
              std::uint64_t stamp) final;
  void resize(ColumnId column, std::uint64_t bytes) final;
  void touch(ColumnId column, std::uint64_t stamp) final;
  void hide(ColumnId column) final;
  void show(ColumnId column) final;
  void cool(ColumnId column) final;
  void erase(ColumnId column, Removal why) final;
  std::size_t coldest(std::span<ColumnId> out) final;
  std::uint64_t coldest_stamp() final;
  std::size_t columns() const noexcept final { return columns_; }
  std::uint64_t bytes() const noexcept final { return bytes_; }
  std::uint64_t steps() const noexcept final;

 protected:
  using Queue = std::uint8_t;
  using Place = ColumnOrder::Place;
  static constexpr Queue kCooled = 0;

  /// `queues` with the cooled one.
  QueuedPolicy(const PolicyOptions& options, std::size_t queues);

  /// A new column, which is in no queue yet: where it goes, at the hot end.
  virtual Queue enter(ColumnId column, ColumnRecord& record) = 0;
  /// A use of a column in `record.queue`, perhaps the cooled one: returns the queue whose hot end
  /// it moves to, which may be its own. kStay: it keeps its position.
  virtual Queue use(ColumnId column, ColumnRecord& record) = 0;
  /// A column leaves its queue, which is not the cooled one: it is cooled, deleted or evicted.
  virtual void on_leaving(ColumnId /*column*/, ColumnRecord& /*record*/) {}
  /// A column was deleted, or cooled: says nothing about its use.
  virtual void on_deleted(const ColumnRecord& /*record*/) {}
  /// A column was evicted from its queue, which is not the cooled one.
  virtual void on_evicted(const ColumnRecord& /*record*/) {}
  /// Victims behind the cooled ones; returns how many.
  virtual std::size_t choose(std::span<ColumnId> out) = 0;
  /// Bytes came to a queue, or went.
  virtual void on_changed() {}
  /// The stamp by which this policy's victims are compared with those of others; `first` is the one
  /// that coldest() names first, and not a cooled one.
  virtual std::uint64_t stamp_of_coldest(const ColumnRecord& first) { return first.stamp; }

  static constexpr Queue kStay = 0xFF;

  ColumnOrder& queue(Queue queue) noexcept { return queues_[queue]; }
  const ColumnOrder& queue(Queue queue) const noexcept { return queues_[queue]; }
  ColumnRecord& record(ColumnId column) noexcept { return (*records_)[column]; }
  const ColumnRecord& record(ColumnId column) const noexcept { return (*records_)[column]; }
  ColumnRecords& records() noexcept { return *records_; }
  /// To the hot end of the queue.
  void move(ColumnId column, Queue to) noexcept;
  /// The visible columns of one queue, the coldest first.
  std::size_t list(Queue queue, std::span<ColumnId> out) const noexcept;

 private:
  ColumnRecord& own(ColumnId column) noexcept;

  std::shared_ptr<ColumnRecords> records_;
  std::vector<ColumnOrder> queues_;
  std::size_t columns_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace larder::cache
