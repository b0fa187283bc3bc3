#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/loads.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/reclaimer.h"

namespace larder::log_store {

/// Works off the intake: takes Get, Set, Delete and Touch items as transfers become free, starts a
/// load or an append for each, and ends the item with its result.
///
/// Invariant: an item that has to wait stays the first of its queue, so that items of one kind
///   start in their order.
/// Threads: the path's one. Cost: tasks are pooled; no allocation in steady state.
class ItemRunner final : public LoadSink, public StoreSink {
 public:
  ItemRunner(PathState& state, Loads& loads, Appender& appender, Reclaimer& reclaimer)
      : state_(state), loads_(loads), appender_(appender), reclaimer_(reclaimer) {}

  /// Starts items while there are transfers for them.
  void turn() noexcept;

  void on_load(LoadTask& load) noexcept override;
  void on_store(StoreTask& store) noexcept override;
  void on_delete(DeleteTask& erase) noexcept override;
  bool on_written(StoreTask& store) noexcept override;

 private:
  struct Owner {
    Batch* batch = nullptr;
    Item* item = nullptr;
  };
  struct GetTask {
    LoadTask load;
    Owner owner;
  };
  struct SetTask {
    StoreTask store;
    Owner owner;
  };
  struct EraseTask {
    DeleteTask erase;
    Owner owner;
  };
  /// Tasks by value, reused; a deque keeps their addresses.
  template <class Task>
  struct Pool {
    std::deque<Task> all;
    std::vector<Task*> free;
    Task& take();
    void give(Task& task) { free.push_back(&task); }
  };
  enum class Start : std::uint8_t { kStarted, kBlocked };
  /// The waiting item of each queue: it is taken again, and its uses are noted already.
  struct Waiting {
    const Batch* batch = nullptr;
    std::uint64_t submitted_ns = 0;  ///< The same memory may hold another batch by now.
    std::size_t number = 0;
    friend bool operator==(const Waiting&, const Waiting&) = default;
  };

  /// Tells the ledger of the keys from number `first` on that are used together.
  void note_uses(Batch& batch, std::size_t first) noexcept;
  Start start(Batch& batch, Item& item) noexcept;
  Start start_get(Batch& batch, Item& item) noexcept;
  Start start_set(Batch& batch, Item& item) noexcept;
  Start start_delete(Batch& batch, Item& item) noexcept;
  void touch(Batch& batch, Item& item) noexcept;
  bool retain(const Batch& batch, const Fingerprint& fingerprint, const IndexEntry& entry) noexcept;
  void end(const Owner& owner, Outcome outcome) noexcept;
  void end(const Owner& owner, const Error& error, bool says_of_key = true) noexcept;
  /// Of a batch's stores, those that wait for a sync.
  static std::uint64_t& unsynced(Batch& batch) noexcept {
    return batch.items[0].connector_words[0];
  }

  /// note_uses() leaves start_set()'s input here: the note, and whether the item is worth a write.
  static std::uint64_t& note_word(Item& item) noexcept { return item.connector_words[1]; }

  PathState& state_;
  Loads& loads_;
  Appender& appender_;
  Reclaimer& reclaimer_;
  Pool<GetTask> gets_;
  Pool<SetTask> sets_;
  Pool<EraseTask> erases_;
  std::array<Waiting, kQueueCount> waiting_{};
};

}  // namespace larder::log_store
