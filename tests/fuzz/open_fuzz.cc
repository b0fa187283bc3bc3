// Opens a small store in which bytes were changed, here and there signed again, reads every key,
// goes on and opens it once more.
#include <map>
#include <optional>
#include <set>

#include "larder/base/logging.h"
#include "larder/base/random.h"
#include "larder/connectors/log/format/file_names.h"
#include "tests/corruption/open_image.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using corruption::Found;
using corruption::OpenImage;
using corruption::StoreImage;

constexpr std::uint64_t kSegmentShare = 256U << 10;
constexpr std::uint64_t kValueMax = 24U << 10;
constexpr int kKeys = 24;
constexpr std::uint32_t kGrain = 4096;

/// What an edit's grain is signed as afterwards.
enum class Signed : std::uint8_t {
  kNot = 0,
  kSegmentHeader,
  kRecordHeader,
  kTableTrailer,
  kSuperblock
};
constexpr unsigned kSignedCount = 5;

struct Pristine {
  StoreImage image;
  log_store::Superblock superblock;
  std::vector<std::string> keys;
  std::map<std::string, std::set<Bytes>> values;  ///< Everything that was ever stored.
};

log_store::PathOptions options() {
  log_store::PathOptions options = OpenImage::options(8 * kSegmentShare, kValueMax);
  options.segment_bytes = kSegmentShare;
  options.segments_min = 4;
  options.id_seed = 5;
  return options;
}

Bytes value_of(const std::string& key, std::uint64_t version) {
  Random random{hash64(std::as_bytes(std::span{key}), version)};
  Bytes value(random.below(kValueMax));
  random.fill(value);
  return value;
}

/// A sealed segment, one that a clean close or a kill left open, replaced keys.
Pristine make_pristine(bool is_clean) {
  Pristine store;
  auto opened = OpenImage::open(store.image, options());
  LARDER_CHECK(opened.has_value());
  for (std::uint64_t version = 1; version <= 2; ++version) {
    for (int i = 0; i < kKeys; ++i) {
      if (version == 2 && i % 3 != 0) continue;
      const std::string key = "key-" + std::to_string(i);
      const Bytes value = value_of(key, version);
      LARDER_CHECK((*opened)->set(key, value) == Outcome::kDone);
      store.values[key].insert(value);
    }
  }
  if (is_clean) LARDER_CHECK((*opened)->close().has_value());
  opened->reset();
  for (const auto& [key, values] : store.values) store.keys.push_back(key);
  std::uint32_t major = 0;
  const auto superblock = log_store::decode_superblock(
      store.image.read(log_store::kSuperblockFileName, 0, kGrain), major);
  LARDER_CHECK(superblock.has_value());
  store.superblock = *superblock;
  return store;
}

const Pristine& pristine(bool is_clean) {
  static const Pristine clean = make_pristine(true);
  static const Pristine killed = make_pristine(false);
  return is_clean ? clean : killed;
}

void sign_as(Signed kind, std::span<std::byte> grain, const log_store::Superblock& superblock) {
  const MacKey& secret = superblock.secret;
  switch (kind) {
    case Signed::kNot:
      return;
    case Signed::kSegmentHeader:
      return sign(grain, log_store::kSegmentHeaderUsedBytes, secret);
    case Signed::kRecordHeader: {
      const std::size_t payload = get<std::uint16_t>(grain, 22);
      const std::size_t used = log_store::kRecordHeaderFixedBytes + payload;
      return sign(grain, std::min(used, grain.size()), secret);
    }
    case Signed::kTableTrailer:
      return sign(grain, log_store::kTableTrailerUsedBytes, secret);
    case Signed::kSuperblock:
      return sign(grain, log_store::kSuperblockUsedBytes, get<MacKey>(grain, 64));
  }
}

/// The MACs that a trailer has of what stands before it, made right.
void sign_body(const StoreImage& image, const std::string& file, std::span<std::byte> trailer,
               const log_store::Superblock& superblock) {
  const auto at = get<std::uint64_t>(trailer, 64);
  const auto entries = get<std::uint64_t>(trailer, 72) % 4096 * log_store::kTableEntryBytes;
  const auto keys = get<std::uint64_t>(trailer, 80) % 65536;
  const std::uint64_t keys_at = at + log_store::round_up(entries, kGrain);
  if (at > superblock.segment_bytes || keys_at > superblock.segment_bytes) return;
  put(trailer, 96, mac128(superblock.secret, image.read(file, at, entries)));
  put(trailer, 112, mac128(superblock.secret, image.read(file, keys_at, keys)));
}

/// Applies the input's edits. Whether one of them was signed, so that anything may be told.
bool edit(Input& input, const Pristine& store, StoreImage& image) {
  std::vector<std::string> files;
  for (const auto& [name, file] : store.image.files()) files.push_back(name);
  bool is_signed = false;
  for (int edits = 0; edits < 16 && !input.empty(); ++edits) {
    const std::string& file = files[input.take<std::uint8_t>() % files.size()];
    const std::uint64_t grains = store.image.files().at(file).bytes / kGrain;
    const std::uint64_t at = input.take<std::uint8_t>() % grains * kGrain;
    Bytes grain = image.read(file, at, kGrain);
    const std::size_t within = input.take<std::uint16_t>() % kGrain;
    const auto bytes = input.take_bytes(input.take<std::uint8_t>());
    std::copy_n(bytes.begin(), std::min(bytes.size(), kGrain - within),
                grain.begin() + static_cast<std::ptrdiff_t>(within));
    const auto kind = static_cast<Signed>(input.take<std::uint8_t>() % kSignedCount);
    if (kind == Signed::kTableTrailer) sign_body(image, file, grain, store.superblock);
    sign_as(kind, grain, store.superblock);
    is_signed = is_signed || kind != Signed::kNot;
    image.write(file, at, grain);
  }
  return is_signed;
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  static const bool is_quiet = (set_log_level(LogLevel::kOff), true);
  static_cast<void>(is_quiet);
  Input input{bytes};
  const Pristine& store = pristine(input.take<std::uint8_t>() % 2 == 0);
  StoreImage image = store.image;
  const bool is_signed = edit(input, store, image);
  static std::vector<std::byte> memory;
  for (int opens = 0; opens < 2; ++opens) {
    auto opened = OpenImage::open(image, options());
    if (!opened) {
      LARDER_CHECK(!opened.error().text.empty());
      return;
    }
    const std::vector<Found> found = (*opened)->read(store.keys, memory);
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i].outcome != Outcome::kHit || is_signed) continue;
      LARDER_CHECK(store.values.at(store.keys[i])
                       .contains(Bytes{found[i].value.begin(), found[i].value.end()}));
    }
    (*opened)->scan();
    const Bytes value = value_of("new", 1);
    LARDER_CHECK((*opened)->set("new", value) == Outcome::kDone);
    const std::vector<std::string> new_key = {"new"};
    const Found again = (*opened)->read(new_key, memory)[0];
    LARDER_CHECK(again.outcome == Outcome::kHit && std::ranges::equal(again.value, value));
    if (opens == 0) LARDER_CHECK((*opened)->close().has_value());
  }
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const unsigned is_killed : {0U, 1U}) {
    all.push_back({static_cast<std::byte>(is_killed)});
    for (unsigned file = 0; file < 4; ++file) {
      for (const unsigned grain : {0U, 1U, 16U, 47U}) {
        for (unsigned kind = 0; kind < kSignedCount; ++kind) {
          Bytes input = seed(is_killed, {});
          for (const unsigned byte : {file, grain, 40U, 0U, 1U, 7U, kind}) {
            input.push_back(static_cast<std::byte>(byte));
          }
          all.push_back(input);
        }
      }
    }
  }
  return all;
}

}  // namespace larder::fuzz
