#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "tests/support/odd_names.h"

namespace larder::testing {

/// What a FaultyDirectory can be made to refuse; a sum of these.
enum Operations : std::uint32_t {
  kReads = 1U << 0,
  kWrites = 1U << 1,
  kSyncs = 1U << 2,      ///< Of files and of the directory.
  kAllocates = 1U << 3,  ///< fallocate().
  kCreates = 1U << 4,
  kRemoves = 1U << 5,
  kSpace = 1U << 6,      ///< statfs().
  kOpens = 1U << 7,      ///< Of files that are there, and looking for them.
  kRenames = 1U << 8,    ///< A part of kCreates.
  kFileOpens = 1U << 9,  ///< A part of kOpens: files are still found, with their sizes.
  kTransfers = kReads | kWrites | kSyncs,
  kChanges = kWrites | kSyncs | kAllocates | kCreates | kRemoves,
  kEverything = kTransfers | kChanges | kSpace | kOpens,
};

/// A mounted directory of plain files whose operations fail or stall on command: a file system of
/// our own (FUSE), which passes everything on to a real directory. An image in it is a disk that
/// fails or stalls (LoopMountOptions::image_directory).
///
/// It is served by a process of its own, which dies with this one: a process cannot end while it
/// waits for itself. Threads: any; made before there are others (fork). The destructor lets
/// everything go on, unmounts, and waits for the serving process.
class FaultyDirectory {
 public:
  /// kUnimplemented where this cannot be had at all (not root, no FUSE): skip the test then.
  static SetupResult<std::unique_ptr<FaultyDirectory>> create(const OddNames& names = {});
  ~FaultyDirectory();
  FaultyDirectory(const FaultyDirectory&) = delete;
  FaultyDirectory& operator=(const FaultyDirectory&) = delete;

  const std::string& path() const noexcept;
  /// The same files as the file system below sees them: without faults, with its own names.
  std::string real_path() const;

  /// From now on these fail so. Replaces what was asked for before.
  void fail(std::uint32_t operations, int sys_errno);
  /// From now on these have no answer until heal().
  void stall(std::uint32_t operations);
  /// From now on everything works, but what has waited for an answer goes on waiting until heal().
  void let_others_through();
  /// From now on everything works, and what has waited for an answer gets it.
  void heal();
  /// How many requests failed or were held so far: a test shows with it that its fault came.
  std::uint64_t faults() const;

 private:
  class Server;
  explicit FaultyDirectory(std::unique_ptr<Server> server);

  std::unique_ptr<Server> server_;
};

}  // namespace larder::testing
