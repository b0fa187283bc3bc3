#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/connectors/fs/change_gate.h"
#include "larder/connectors/fs/counters.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/draft.h"
#include "larder/connectors/fs/file_name.h"
#include "larder/connectors/fs/file_system_facts.h"
#include "larder/connectors/fs/inventory.h"
#include "larder/connectors/fs/options.h"
#include "larder/connectors/fs/room.h"
#include "larder/connectors/fs/value_io.h"

namespace larder::fs {

/// Stores one value: makes a draft, which is a file that no lookup finds, then room for it, writes
/// it, and gives it the value's name in one step.
///
/// Ownership: none; its parts outlive it. Threads: any. Blocks.
class ValueWriter {
 public:
  ValueWriter(const FsOptions& options, const FileSystemFacts& facts, FsCounters& counters,
              Inventory& inventory, Room& room)
      : options_(options), facts_(facts), counters_(counters), inventory_(inventory), room_(room) {}

  /// Without `replace` an existing value stays, and item.existed is set.
  Status write(const Directory& directory, Item& item, const FileName& name, bool replace,
               StagingBuffer& staging, ChangeGate& gate);

 private:
  struct Stored {
    bool existed = false;
    std::optional<std::uint64_t> replaced_bytes;
  };

  Status write_and_publish(const Directory& directory, Draft& draft, Item& item,
                           const FileName& name, bool replace, std::uint64_t& reserved,
                           StagingBuffer& staging, ChangeGate& gate);
  Result<Draft> create_draft(const Directory& directory, std::uint64_t value_bytes);
  Status fill(Draft& draft, const Item& item, StagingBuffer& staging);
  Result<Stored> publish(const Directory& directory, const Folder& folder, Draft& draft,
                         const FileName& name, const Item& item, bool replace, ChangeGate& gate);
  Status keep_key_beside(const Directory& directory, int folder_fd, const FileName& name,
                         const Item& item, ChangeGate& gate);
  Status make_way(int folder_fd, const std::string& name) noexcept;
  std::uint64_t file_bytes_of(const Item& item) const noexcept;

  const FsOptions& options_;
  const FileSystemFacts& facts_;
  FsCounters& counters_;
  Inventory& inventory_;
  Room& room_;
};

}  // namespace larder::fs
