#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/corruption/golden_image.h"
#include "tests/corruption/open_image.h"

namespace larder::corruption {

/// A copy of a golden store to do anything to, and what must hold whatever was done.
///
/// A key whose last record, value or delete, is in a segment that nobody touched is exactly as
/// before. Of the others, a hit is the bytes of some record of that key, and a failed load says
/// corruption, or another size where a table lied about it, and is a miss from then on. The store
/// can be listed, and goes on: it is filled until every segment was used again, closed, and opened
/// without a flaw.
class Survival {
 public:
  explicit Survival(std::shared_ptr<const GoldenImage> golden);

  const StoreMap& map() const noexcept { return golden_->map; }
  const StoreImage& intact() const noexcept { return golden_->image; }
  /// The store's file for one of map().segments(), to be damaged: it counts as touched.
  StoreImage& touch(std::size_t segment);
  /// For files that are not the store's.
  StoreImage& image() noexcept { return image_; }
  std::uint64_t segment_bytes() const noexcept { return map().superblock().segment_bytes; }

  /// Makes the trailer's MAC, and with `body` those of entries and keys, right and writes them.
  void forge_table(std::size_t segment, log_store::TableTrailer trailer,
                   const std::vector<log_store::TableEntry>& entries, const std::string& keys);
  log_store::Identity identity(std::size_t segment) const;

  /// Opens the store and compares; with `to_the_end` it also fills, closes and opens it again.
  /// Each of `reasons` must stand in the report. Empty, or what is wrong.
  std::string check(const std::vector<std::string>& reasons, bool to_the_end);

 private:
  std::string compare(OpenImage& store);
  std::string go_on(OpenImage& store);

  const std::shared_ptr<const GoldenImage> golden_;
  const Expected expected_;
  const std::vector<std::string> keys_;
  StoreImage image_;
  std::set<std::size_t> touched_;
  std::vector<std::byte> memory_;
};

}  // namespace larder::corruption
