#pragma once

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/random.h"
#include "larder/connector/connector.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/store_under_test.h"

namespace larder::simulation {

/// One key of a batch on its way, with its memory.
struct Operation {
  std::size_t key = 0;
  std::uint64_t version = 0;  ///< Set and Delete: the oracle's.
  std::uint64_t invoked = 0;
  std::uint64_t place_generation = 0;  ///< Where the index had the key when it was submitted.
  std::uint64_t place_offset = 0;
  AlignedBuffer memory;
  std::array<Slice, 3> slices{};
  std::size_t slice_count = 0;
};

/// A batch on its way.
struct Submission {
  Batch batch;
  std::vector<Item> items;
  std::vector<Operation> operations;
  bool is_out = false;
  bool was_cancelled = false;
  bool path_was_down = false;  ///< At some time since it was submitted.
  bool is_risky = false;       ///< A Get that may fail.
};

/// Submits random batches to a store, tells the oracle, and checks what comes back.
///
/// Threads: one. Ownership: store, oracle and coverage outlive it.
class Caller {
 public:
  Caller(const Plan& plan, Random& random, StoreUnderTest& store, Oracle& oracle,
         Coverage& coverage, bool trace);

  /// Chooses the keys, once a store exists that gives them fingerprints.
  void name_keys();
  /// Another key may have the same fingerprint: then they overwrite and lose each other's records.
  bool is_shared(std::size_t key) const noexcept {
    return plan_.all_collide || std::ranges::find(kTwins, key) != std::end(kTwins);
  }

  /// How many keys the index takes for this one, itself included.
  std::uint64_t keys_like(std::size_t key) const;

  /// One random batch, probe or cancellation.
  void act();
  /// A Get of every key.
  void read_all();
  /// Lookups of every key, answered from memory.
  void probe_all();

  void on_batch(Batch& batch);
  /// Called before what came back is judged: it may tell the oracle what happened meanwhile.
  void before_checks(std::function<void()> look) { look_ = std::move(look); }
  /// The owner died: what is out will never come back.
  void forget_all();
  void note_path_is_down();
  void note_stopping() noexcept { is_stopping_ = true; }
  /// What the intake holds back: no more is let in than the limits allow (C5), and nothing stays
  /// queued that was cancelled, or while the store stops or is down (C8, P4).
  void check_queues();
  /// A batch that is queued when the store is stopped right after it.
  void touch_one();
  /// After begin_stop().
  void check_refuses();

  std::size_t outstanding() const noexcept { return outstanding_; }
  std::uint64_t operations() const noexcept { return operations_; }
  std::span<const std::byte> key(std::size_t index) const;

  /// What may have happened to the files: then a Get may find it.
  void allow_corruption() noexcept { corruption_allowed_ = true; }
  /// The highest generation in use: what is acknowledged now stands no later.
  void set_newest_generation(std::uint64_t generation) noexcept { newest_generation_ = generation; }
  std::uint64_t newest_generation() const noexcept { return newest_generation_; }

  const std::string& failure() const noexcept { return failure_; }
  void violation(std::string what);
  void trace(const char* format, ...) __attribute__((format(printf, 2, 3)));
  std::uint64_t hash() const noexcept { return hash_; }

 private:
  std::uint64_t keys_like(const log_store::Fingerprint& fingerprint) const;
  Submission& take();
  void submit(Submission& submission);
  void note_refused(Submission& submission, const Error& error);
  std::size_t choose_key();
  std::size_t choose_key_to_set();
  std::uint64_t choose_value_bytes();
  void submit_sets();
  void submit_gets();
  void submit_keys_only(Op op);
  void probe(std::size_t key_index);
  void cancel_one();
  void prepare(Submission& submission, std::size_t count, Op op);
  Submission& prepare_touch();
  void set_key(Submission& submission, std::size_t at, std::size_t key_index);
  void lay_out(Operation& operation, std::uint64_t bytes);

  void end_risks(Submission& submission);
  void end(Submission& submission, Item& item, Operation& operation);
  void end_get(const Submission& submission, const Item& item, const Operation& operation);
  void end_failed_get(const Submission& submission, const Item& item, const Operation& operation);
  void end_set(const Submission& submission, const Item& item, const Operation& operation);
  void end_delete(const Item& item, const Operation& operation);
  void check_error(const Submission& submission, const Item& item, const Operation& operation);
  void check_miss_after_failure(const Operation& operation, bool is_lasting);
  void check_late_key_is_replaced(const Operation& operation);

  const Plan& plan_;
  Random& random_;
  StoreUnderTest& store_;
  Oracle& oracle_;
  Coverage& coverage_;
  const bool trace_;
  std::vector<std::string> keys_;  ///< Empty until name_keys().
  std::vector<log_store::Fingerprint> fingerprints_;
  std::vector<std::unique_ptr<Submission>> submissions_;
  std::vector<std::byte> scratch_;
  /// Of keys whose Get was late, in this life: its steps (it failed between them), and until when
  /// no Set may keep the value (C6).
  struct Late {
    std::uint64_t invoked = 0;
    std::uint64_t returned = 0;
    std::uint64_t until_ns = 0;
  };
  std::map<std::size_t, Late> late_;
  std::size_t outstanding_ = 0;
  std::uint64_t operations_ = 0;
  std::uint64_t newest_generation_ = 0;
  std::uint64_t hash_ = 0;
  bool corruption_allowed_ = false;
  bool is_stopping_ = false;
  std::function<void()> look_;
  std::string failure_;
};

}  // namespace larder::simulation
