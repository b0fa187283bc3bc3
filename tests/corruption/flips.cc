#include "tests/corruption/flips.h"

#include <algorithm>

#include "larder/connectors/log/format/file_names.h"
#include "tests/corruption/crash_note.h"

namespace larder::corruption {
namespace {

constexpr std::string_view kNewKey = "stored after the damage";

unsigned bit_for(const std::string& file, std::uint64_t offset, std::uint64_t seed) {
  const std::string place = file + ":" + std::to_string(offset);
  return static_cast<unsigned>(hash64(std::as_bytes(std::span{place}), seed) % 8);
}

std::string in_words(const Found& found) {
  switch (found.outcome) {
    case Outcome::kHit:
      return "a hit of " + std::to_string(found.value.size()) + " bytes";
    case Outcome::kMiss:
      return "a miss";
    default:
      return "failed: " + std::string{error_code_name(found.error)};
  }
}

}  // namespace

Flipper::Flipper(std::shared_ptr<const GoldenImage> golden)
    : golden_(std::move(golden)), keys_(golden_->map.keys()), intact_(golden_->map.intact()) {
  const StoreMap& map = golden_->map;
  for (const RecordInMap& record : map.records()) {
    values_.push_back(golden_->image.read(map.segments()[record.segment].file, record.value_at,
                                          static_cast<std::size_t>(record.value_bytes)));
  }
}

std::string Flipper::check_intact() {
  if (golden_->manifest.size() != keys_.size()) return "the manifest has other keys than the store";
  for (const auto& [key, value] : golden_->manifest) {
    const auto expected = intact_.keys.find(key);
    if (expected == intact_.keys.end()) return "no record names '" + key + "'";
    const std::optional<std::size_t> record = expected->second.record;
    if (record.has_value() != value.has_value()) return "'" + key + "' is not as the manifest says";
    if (record && values_[*record] != testing::golden_value(key, *value)) {
      return "'" + key + "' has another value than the manifest says";
    }
  }
  StoreImage image = golden_->image;
  return open_and_compare(image, intact_);
}

std::string Flipper::flip(const Range& range, std::uint64_t at, std::uint64_t seed) {
  const std::uint64_t offset = range.offset + at;
  const unsigned bit = bit_for(range.file, offset, seed);
  const std::string what = range.file + ", byte " + std::to_string(offset) + ", bit " +
                           std::to_string(bit) + " (" + std::string{name_of(range.part)} + ")";
  set_crash_note(what);
  StoreImage image = golden_->image;
  image.flip_bit(range.file, offset, bit);
  ++counts_.flips;
  const std::string wrong = open_and_compare(image, golden_->map.after_damage(range));
  return wrong.empty() ? "" : what + ": " + wrong;
}

std::string Flipper::open_and_compare(StoreImage& image, const Expected& expected) {
  auto store = OpenImage::open(image, OpenImage::options(kGoldenCapacity, kGoldenValueMax));
  if (!store) return "not opened: " + store.error().text;
  // Whatever copy it came from, both are whole again.
  for (const std::uint64_t copy : {std::uint64_t{0}, log_store::kSuperblockCopyStride}) {
    std::uint32_t major = 0;
    const auto bytes =
        image.read(log_store::kSuperblockFileName, copy, log_store::kSuperblockUsedBytes);
    if (!log_store::decode_superblock(bytes, major)) return "a superblock copy was not mended";
  }
  return compare(**store, expected);
}

std::string Flipper::compare(OpenImage& store, const Expected& expected) {
  const log_store::PathCounters& counters = store.path().counters();
  if (counters.segments_set_aside.value() != expected.segments_set_aside) {
    return std::to_string(counters.segments_set_aside.value()) + " segments set aside, not " +
           std::to_string(expected.segments_set_aside);
  }
  const auto [health, reasons] = store.path().health().snapshot();
  if (reasons.size() != expected.segments_set_aside ||
      (health == Health::kHealthy) != reasons.empty()) {
    return name_of(health) + " with " + std::to_string(reasons.size()) + " reasons";
  }
  if (counters.recovered_by_scan.value() != expected.recovered_by_scan) {
    return std::to_string(counters.recovered_by_scan.value()) + " recovered by scan, not " +
           std::to_string(expected.recovered_by_scan);
  }
  counts_.set_aside += expected.segments_set_aside;
  if (expected.recovered_by_scan > intact_.recovered_by_scan) ++counts_.scanned;

  const std::vector<Found> found = store.read(keys_, memory_);
  std::vector<std::string> damaged{std::string{kNewKey}};
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const Expected::Key& key = expected.keys.at(keys_[i]);
    std::string wrong = compare_key(keys_[i], key, found[i]);
    if (!wrong.empty()) return wrong;
    if (key.is_damaged) damaged.push_back(keys_[i]);
  }
  // The store goes on, and what failed is a miss from now on (C6).
  if (store.set(std::string{kNewKey}, std::as_bytes(std::span{kNewKey})) != Outcome::kDone) {
    return "nothing can be stored any more";
  }
  const std::vector<Found> again = store.read(damaged, memory_);
  if (again[0].outcome != Outcome::kHit ||
      !std::ranges::equal(again[0].value, std::as_bytes(std::span{kNewKey}))) {
    return "what was stored afterwards: " + in_words(again[0]);
  }
  for (std::size_t i = 1; i < damaged.size(); ++i) {
    if (again[i].outcome != Outcome::kMiss) {
      return "'" + damaged[i] + "' failed, and then: " + in_words(again[i]);
    }
  }
  return {};
}

std::string Flipper::compare_key(const std::string& key, const Expected::Key& expected,
                                 const Found& found) {
  const auto wrong = [&](const std::string& wanted) {
    return "'" + key + "': expected " + wanted + ", found " + in_words(found);
  };
  if (!expected.record) {
    if (found.outcome != Outcome::kMiss) return wrong("a miss");
    ++counts_.misses;
    return {};
  }
  if (expected.is_damaged) {
    if (found.outcome != Outcome::kFailed || found.error != ErrorCode::kCorruption) {
      return wrong("corruption");
    }
    ++counts_.failed_loads;
    return {};
  }
  const std::vector<std::byte>& value = values_[*expected.record];
  if (found.outcome != Outcome::kHit || !std::ranges::equal(found.value, value)) {
    return wrong("the " + std::to_string(value.size()) + " bytes of its record");
  }
  ++counts_.hits;
  if (expected != intact_.keys.at(key)) ++counts_.older_values;
  return {};
}

std::string Flipper::flip_both_superblocks(std::uint64_t at, std::uint64_t seed) {
  const std::string file{log_store::kSuperblockFileName};
  const unsigned bit = bit_for(file, at, seed);
  const std::string what =
      "both superblocks, byte " + std::to_string(at) + ", bit " + std::to_string(bit);
  set_crash_note(what);
  StoreImage image = golden_->image;
  std::uint32_t major = 0;
  for (const std::uint64_t copy : {std::uint64_t{0}, log_store::kSuperblockCopyStride}) {
    image.flip_bit(file, copy + at, bit);
    const auto bytes = image.read(file, copy, log_store::kSuperblockUsedBytes);
    if (log_store::decode_superblock(bytes, major)) return what + ": the copy counts all the same";
  }
  ++counts_.flips;
  const StoreImage before = image;
  const auto store = OpenImage::open(image, OpenImage::options(kGoldenCapacity, kGoldenValueMax));
  if (store) return what + ": was opened";
  const bool is_later = major > log_store::kFormatMajor;
  const ErrorCode wanted = is_later ? ErrorCode::kUnimplemented : ErrorCode::kCorruption;
  const std::string_view named =
      is_later ? "use a newer larder" : "neither copy of the superblock is intact";
  if (store.error().code != wanted || store.error().text.find(named) == std::string::npos) {
    return what + ": refused as " + std::string{error_code_name(store.error().code)} + ", " +
           store.error().text;
  }
  for (const auto& [name, unused] : before.files()) {
    if (image.files().size() != before.files().size() || image.read(name) != before.read(name)) {
      return std::string{what}.append(": ").append(name).append(" was touched");
    }
  }
  return {};
}

}  // namespace larder::corruption
