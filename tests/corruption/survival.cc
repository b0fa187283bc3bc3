#include "tests/corruption/survival.h"

#include <algorithm>
#include <cstring>

#include "larder/base/random.h"
#include "tests/corruption/crash_note.h"

namespace larder::corruption {
namespace {

constexpr std::uint64_t kNewValueBytes = 120'000;
/// More than the store holds, so that every segment is used again.
constexpr int kNewKeys = static_cast<int>(kGoldenCapacity / kNewValueBytes) + 100;
/// The last ones, far from the tail.
constexpr int kNewKeysKept = 60;

std::string new_key(int number) {
  return "new-" + std::to_string(number);
}

std::vector<std::byte> new_value(int number) {
  std::vector<std::byte> value(kNewValueBytes);
  Random{static_cast<std::uint64_t>(number)}.fill(value);
  return value;
}

}  // namespace

Survival::Survival(std::shared_ptr<const GoldenImage> golden)
    : golden_(std::move(golden)),
      expected_(golden_->map.intact()),
      keys_(golden_->map.keys()),
      image_(golden_->image) {}

StoreImage& Survival::touch(std::size_t segment) {
  touched_.insert(segment);
  return image_;
}

log_store::Identity Survival::identity(std::size_t segment) const {
  const SegmentInMap& found = map().segments()[segment];
  return {.path_id = map().superblock().path_id,
          .segment = found.number,
          .generation = found.generation};
}

void Survival::forge_table(std::size_t segment, log_store::TableTrailer trailer,
                           const std::vector<log_store::TableEntry>& entries,
                           const std::string& keys) {
  const log_store::Superblock& superblock = map().superblock();
  const std::string& file = map().segments()[segment].file;
  StoreImage& image = touch(segment);
  const auto entry_bytes = std::as_bytes(std::span{entries});
  const auto key_bytes = std::as_bytes(std::span{keys});
  trailer.entries_mac = mac128(superblock.secret, entry_bytes);
  trailer.keys_mac = mac128(superblock.secret, key_bytes);
  if (trailer.entries_offset < segment_bytes() - superblock.grain_bytes) {
    image.write(file, trailer.entries_offset, entry_bytes);
    image.write(
        file,
        trailer.entries_offset + log_store::round_up(entry_bytes.size(), superblock.grain_bytes),
        key_bytes);
  }
  std::vector<std::byte> grain(superblock.grain_bytes);
  log_store::encode_table_trailer(trailer, identity(segment), superblock.secret, grain);
  image.write(file, segment_bytes() - superblock.grain_bytes, grain);
}

std::string Survival::check(const std::vector<std::string>& reasons, bool to_the_end) {
  const auto options = OpenImage::options(kGoldenCapacity, kGoldenValueMax);
  auto store = OpenImage::open(image_, options);
  if (!store) return "not opened: " + store.error().text;
  std::string said;
  for (const std::string& reason : (*store)->path().health().snapshot().second) {
    said += reason + "\n";
  }
  for (const std::string& reason : reasons) {
    if (said.find(reason) == std::string::npos)
      return std::string{"nothing of '"}.append(reason).append("' in: ").append(said);
  }
  if (std::string wrong = compare(**store); !wrong.empty()) return wrong;
  if (!to_the_end) return {};
  if (std::string wrong = go_on(**store); !wrong.empty()) return wrong;
  if (!(*store)->close()) return "cannot be closed";
  store = OpenImage::open(image_, options);
  if (!store) return "not opened again: " + store.error().text;
  const auto [health, flaws] = (*store)->path().health().snapshot();
  if (!flaws.empty()) return "not healed: " + flaws.front();
  return go_on(**store);
}

std::string Survival::compare(OpenImage& store) {
  const std::vector<Found> found = store.read(keys_, memory_);
  std::vector<std::string> failed;
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const auto is_of_key = [&](const RecordInMap& record) {
      return std::ranges::find(record.keys, keys_[i]) != record.keys.end();
    };
    const auto is_found = [&](const RecordInMap& record) {
      return is_of_key(record) && record.kind != log_store::RecordKind::kTombstones &&
             record.value_bytes == found[i].value.size() &&
             hash128(found[i].value) == record.checksum;
    };
    const auto last =
        std::ranges::find_if(map().records().rbegin(), map().records().rend(), is_of_key);
    const bool is_untouched = !touched_.contains(last->segment);
    const Expected::Key& expected = expected_.keys.at(keys_[i]);
    switch (found[i].outcome) {
      case Outcome::kHit:
        if (std::ranges::none_of(map().records(), is_found))
          return "'" + keys_[i] + "': wrong bytes";
        if (is_untouched && (!expected.record || !is_found(map().records()[*expected.record]))) {
          return "'" + keys_[i] + "': not its last value, though nobody touched that";
        }
        break;
      case Outcome::kMiss:
        if (is_untouched && expected.record) return "'" + keys_[i] + "' is gone without a reason";
        break;
      default:
        // A table may lie about a length, too; a Get of another one leaves the entry (C6).
        if (is_untouched || (found[i].error != ErrorCode::kCorruption &&
                             found[i].error != ErrorCode::kSizeMismatch)) {
          return "'" + keys_[i] + "' failed: " + std::string{error_code_name(found[i].error)};
        }
        if (found[i].error == ErrorCode::kCorruption) failed.push_back(keys_[i]);
    }
  }
  for (const Found& again : store.read(failed, memory_)) {
    if (again.outcome != Outcome::kMiss) return "a key that failed was no miss afterwards";
  }
  store.scan();
  return {};
}

std::string Survival::go_on(OpenImage& store) {
  std::vector<std::string> newest;
  for (int i = 0; i < kNewKeys; ++i) {
    if (store.set(new_key(i), new_value(i)) != Outcome::kDone) {
      return "cannot store " + new_key(i) + " any more";
    }
    if (i >= kNewKeys - kNewKeysKept) newest.push_back(new_key(i));
  }
  const std::vector<Found> found = store.read(newest, memory_);
  for (int i = 0; i < kNewKeysKept; ++i) {
    const Found& one = found[static_cast<std::size_t>(i)];
    if (one.outcome != Outcome::kHit ||
        !std::ranges::equal(one.value, new_value(kNewKeys - kNewKeysKept + i))) {
      return "what was stored afterwards is not there: " + newest[static_cast<std::size_t>(i)];
    }
  }
  const std::vector<std::string> listed = store.scan();
  for (const std::string& key : newest) {
    if (std::ranges::count(listed, key) != 1) return "a scan does not list " + key + " once";
  }
  return {};
}

}  // namespace larder::corruption
