#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "larder/connector/connector.h"
#include "larder/connector/registry.h"
#include "larder/connector/worker_pool.h"

namespace larder::example {

/// One file for each value in one directory, by plain system calls that block. The files are named
/// by their keys in hexadecimal, so that no two keys share one. A value is written under another
/// name first, and so is there as a whole or not at all, also after a crash.
///
/// A WorkerPool's backend: a connection, and one call for each operation. The calls come from many
/// threads at once, also for one key; the file system keeps them apart, and a mutex keeps the
/// counts true to it. One process at a time may have the directory.
class ShelfBackend {
 public:
  struct Connection {};  ///< A client of a server would have its socket here.

  static SetupResult<ShelfBackend> open(std::string directory);

  Result<Connection> connect() { return Connection{}; }
  Status get(Connection& connection, Item& item, const CallOptions& options);
  Status set(Connection& connection, Item& item, const CallOptions& options);
  Status exists(Connection& connection, Item& item, const CallOptions& options);
  Status remove(Connection& connection, Item& item, const CallOptions& options);
  Status touch(Connection& connection, Item& item, const CallOptions& options);

  void append_report(Report& report) const;

 private:
  struct State;  // Shared with nobody; a pointer, because a backend is moved into its pool.

  explicit ShelfBackend(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// Where the value of a key is, whether or not it is there.
  std::string path_of(std::span<const std::byte> key) const;
  /// Writes the value into a file that has no reader yet; its path.
  Result<std::string> write_draft(std::span<const Slice> value);

  std::shared_ptr<State> state_;
};

/// The connector around it: everything but the backend is the pool's.
class ShelfConnector final : public PooledConnector<ShelfBackend> {
 public:
  static SetupResult<std::unique_ptr<Connector>> open(const std::string& directory,
                                                      const BatchLimitOptions& limits);

  Capabilities capabilities() const noexcept override;
  Report report() const override;
  Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) override {
    return Error{ErrorCode::kUnimplemented, "shelf", "keys are not listed by this connector"};
  }

 private:
  explicit ShelfConnector(std::unique_ptr<WorkerPool<ShelfBackend>> pool)
      : PooledConnector(std::move(pool)) {}
};

/// `shelf:DIRECTORY`, for a Registry.
const ConnectorType& shelf_connector_type();

}  // namespace larder::example
