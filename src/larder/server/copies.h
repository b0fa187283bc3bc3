#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/server/admin_command.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/instances.h"
#include "larder/server/message.h"
#include "larder/wire/operation.h"

namespace larder::server {

/// Whom an answer goes to that comes later.
struct Asker {
  ConnectionId connection{};
  wire::Bytes uid;
  wire::Bytes operation_frame;
  wire::Operation operation{};
};

/// A STORE or RETRIEVE whose bytes are being copied. Its address is stable: the job points into it.
struct Transfer {
  Asker asker;
  wire::Integer instance;
  std::uint32_t chunks = 0;
  wire::BlockIds blocks;
  wire::Bytes event;
  std::vector<JobCell> cells;
  CopyJob job;
  cache::WriteId write{};  ///< For a store.
  cache::ReadId read{};    ///< For a retrieve.
  /// Its worker may have given the blocks to other requests: such a store is not published (S15,
  /// S17).
  bool is_void = false;
};

/// A registration whose worker's memory is being mapped.
struct Mapping {
  Asker asker;
  Instances::Driven worker;
  CopyJob job;
  bool is_back = false;
  bool is_given_up = false;  ///< It was unregistered meanwhile.
};

/// A worker that ends when its copies have ended.
struct Ending {
  std::unique_ptr<Instance> instance;
  std::vector<Asker> askers;  ///< UNREGISTERs that wait for it.
  bool owes_false = false;    ///< S4: its next PING is answered false.
  CopyJob job;
};

/// Checksums that the admin HTTP asked for (S28). They come back even if that waits no more. Its
/// address is stable: the job points into it.
struct Checksums {
  ChecksumRequest request;
  std::uint32_t layers = 0;
  AdminDone done;
  CopyJob job;
};

/// The jobs that the service has given to the backend.
struct Copies {
  std::vector<std::unique_ptr<Transfer>> transfers;
  std::vector<std::unique_ptr<Mapping>> mappings;
  std::vector<std::unique_ptr<Ending>> endings;
  std::size_t block_ids = 0;  ///< Of all transfers.
  std::vector<std::unique_ptr<Checksums>> checksums;

  bool is_empty() const noexcept {
    return transfers.empty() && mappings.empty() && endings.empty() && checksums.empty();
  }
};

}  // namespace larder::server
