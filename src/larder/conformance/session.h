#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <source_location>
#include <string>
#include <unordered_set>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/mutex.h"
#include "larder/conformance/conformance.h"
#include "larder/connector/connector.h"

namespace larder::conformance {

using Bytes = std::vector<std::byte>;

/// Incompressible bytes that are a function of `seed`.
Bytes random_bytes(std::uint64_t seed, std::size_t bytes);
/// "key-000042": of one length, so that no key is another one's prefix.
std::string numbered_key(std::uint64_t number);
/// A key as a person can read it in a message.
std::string printable(std::string_view key);

/// How a value lies in memory.
struct Layout {
  std::vector<std::size_t> slice_bytes = {};  ///< Empty: one slice for all.
  std::size_t offset = 0;  ///< Of the first slice from an address that is aligned to 4 KiB.
  std::size_t gap = 0;     ///< Between slices.
};

/// A batch together with the memory it points to. Filled by one thread before it is submitted.
class Request {
 public:
  explicit Request(Op op) { batch_.op = op; }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Request& add(std::string key);
  Request& add_set(std::string key, const Bytes& value, const Layout& layout = {});
  /// Its memory is full of a mark, so that is_untouched() can tell.
  Request& add_get(std::string key, std::size_t bytes, const Layout& layout = {});
  /// A value of any slices whose memory the caller keeps.
  Request& add_slices(std::string key, std::vector<Slice> slices);

  Batch& batch() noexcept { return batch_; }
  /// Points the batch at the items, which are as new. Session::submit() does it.
  void prepare();
  std::size_t size() const noexcept { return slots_.size(); }
  std::vector<Item>& items() noexcept { return items_; }
  const Item& item(std::size_t index) const { return items_.at(index); }
  const std::string& key(std::size_t index) const { return slots_.at(index).key; }

  /// The slices' bytes, joined, the first `bytes` of them.
  Bytes value(std::size_t index, std::size_t bytes) const;
  /// A hit of exactly `expected`, with nothing written beside the slices.
  bool is_hit_of(std::size_t index, const Bytes& expected) const;
  bool is_untouched(std::size_t index) const;

 private:
  struct Slot {
    std::string key;
    AlignedBuffer memory;
    std::vector<Slice> slices;
  };
  Slot& add_slot(std::string key, std::size_t bytes, const Layout& layout);
  bool is_outside_untouched(const Slot& slot) const;

  std::deque<Slot> slots_;
  std::vector<Item> items_;
  Batch batch_;
};

/// One open connector: submits, reaps, and checks with every batch what holds for every batch: that
/// it comes back once (C1), that a refused one is untouched, that each item has a legal outcome
/// (P2), that the event fd told (C7). Closing it stops the connector and reaps what is left.
///
/// Ownership: the connector and every Request. When something never comes back both are kept for
/// ever, because the connector may still write to the memory.
/// Threads: submit() and make() from any; everything that reaps from one at a time.
class Session {
 public:
  /// Null, with a failure noted, when it does not open.
  static std::unique_ptr<Session> open(
      Context& context, const Open& open,
      std::source_location where = std::source_location::current());
  Session(Context& context, std::unique_ptr<Connector> connector);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Connector& connector() noexcept { return *connector_; }
  Context& context() noexcept { return context_; }

  Request& make(Op op) LARDER_EXCLUDES(mutex_);
  /// Frees the requests; only while nothing is in flight.
  void recycle() LARDER_EXCLUDES(mutex_);

  Status submit(Request& request) LARDER_EXCLUDES(mutex_);
  /// Submits what the connector has no reason to refuse.
  bool must_submit(Request& request, std::source_location where = std::source_location::current());
  /// Reaps once, without waiting. The number of batches.
  std::size_t reap(std::size_t at_most = 16) LARDER_EXCLUDES(mutex_);
  bool is_back(const Request& request) const LARDER_EXCLUDES(mutex_);
  std::size_t in_flight() const LARDER_EXCLUDES(mutex_);
  /// Waits at the event fd until the request, or everything, is back. False with a failure noted
  /// when that takes longer than the subject's patience.
  bool wait(const Request& request);
  bool wait_all();
  /// must_submit() and wait().
  bool run(Request& request, std::source_location where = std::source_location::current());

  // One key at a time, with its check.
  bool set(const std::string& key, const Bytes& value, SetMode mode = SetMode::kReplace,
           std::source_location where = std::source_location::current());
  bool expect_hit(const std::string& key, const Bytes& value,
                  std::source_location where = std::source_location::current());
  /// Both Get and Exists say that it is not there.
  bool expect_miss(const std::string& key,
                   std::source_location where = std::source_location::current());
  bool remove(const std::string& key, Outcome expected = Outcome::kDone,
              std::source_location where = std::source_location::current());

  /// Stops, reaps, and destroys the connector. False when something did not come back.
  bool close();

 private:
  template <class Condition>
  bool wait_until(const Condition& is_met);
  void check_returned(const Batch& batch);

  Context& context_;
  std::unique_ptr<Connector> connector_;
  bool is_stuck_ = false;
  mutable Mutex mutex_;
  std::deque<std::unique_ptr<Request>> requests_ LARDER_GUARDED_BY(mutex_);
  std::unordered_set<const Batch*> outstanding_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::conformance
