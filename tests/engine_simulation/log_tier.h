#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/connector.h"
#include "tests/simulation/store_under_test.h"

namespace larder::cache::simulation {

/// The log store's machine over a simulated device (tests/simulation), as a connector whose time
/// moves with pump(). Its disk has no faults here; it is slow, full and evicts.
///
/// Oracle: a store that was acknowledged is found until the machine says that it was evicted.
/// Threads: one.
class LogTier final : public Connector {
 public:
  LogTier(std::uint64_t seed, std::uint64_t value_bytes_max, std::uint64_t now_ns);
  ~LogTier() override;

  Status submit(Batch& batch) noexcept override;
  std::size_t reap(std::span<Batch*> done) noexcept override;
  int event_fd() const noexcept override { return -1; }
  void cancel(Batch& batch) noexcept override;
  bool probe(std::span<Item> items) const noexcept override;
  Capabilities capabilities() const noexcept override;
  Report report() const override { return {}; }
  /// Scans take time: start_scan().
  Result<ScanPage> scan(ScanCursor, std::size_t) override {
    return Error{ErrorCode::kUnimplemented, "log tier", "no scan"};
  }
  Status stop(std::uint64_t) noexcept override { return {}; }

  /// The machine runs until its clock shows `now_ns`.
  void pump(std::uint64_t now_ns);
  /// The owner closes the store and opens it again. Nothing is in flight.
  void reopen();

  /// Lists a page of keys while time passes. No two have one number.
  void start_scan(std::uint64_t number, ScanCursor from, std::size_t keys_max);
  /// Nothing: it is not there yet.
  std::optional<Result<ScanPage>> take_scan(std::uint64_t number);

  bool has(std::span<const std::byte> key) const;
  /// What the machine broke; empty: nothing.
  std::string failure() const { return failure_; }
  std::uint64_t stored() const noexcept { return stored_; }
  std::uint64_t hits() const noexcept { return hits_; }
  std::uint64_t evicted() const noexcept { return evicted_; }

 private:
  void on_batch(Batch& batch);
  void read_events();
  bool must_be_found(const Item& item, std::uint64_t since) const;
  void fail() const;
  void check_found(const Item& item, std::uint64_t since) const;

  mutable ::larder::simulation::StoreUnderTest store_;  ///< A probe changes nothing in it.
  std::vector<Batch*> done_;
  std::uint64_t moments_ = 0;  ///< Acknowledgements and removals so far.
  /// When it was acknowledged; what was evicted since is not in it.
  std::map<std::string, std::uint64_t, std::less<>> acknowledged_;
  std::map<std::string, std::uint64_t, std::less<>> removed_;  ///< When the log last said so.
  std::map<const Batch*, std::uint64_t> submitted_;            ///< When; what is in flight.
  EventCursor events_from_{};
  struct Scan {
    std::uint64_t number = 0;
    bool is_done = false;
    log_store::ScanTask task;
  };
  std::list<Scan> scans_;            ///< The store knows their places.
  std::vector<std::string> missed_;  ///< In this turn, of what was acknowledged.
  mutable std::string failure_;
  std::uint64_t stored_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t evicted_ = 0;
};

}  // namespace larder::cache::simulation
