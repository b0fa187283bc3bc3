// How long a store of many keys takes to open, and what a key costs in memory.
//
//   larder_open_benchmark DIR KEYS
//
// Makes a store in DIR (which must not exist) as a long run would have left it: sealed segments
// with real tables of 110-byte keys for values of 64 KiB. Of the values only the first of each
// segment is written, the others are holes: opening reads tables, not values. Then, in a process of
// its own and with cold caches, opens it as any program would and loads one key, which is verified.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/hash.h"
#include "larder/base/random.h"
#include "larder/connectors/builtin.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/fingerprint.h"
#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/format/table.h"
#include "larder/connectors/log/machine/superblock_file.h"
#include "larder/io/device.h"

namespace {

using namespace larder;
using namespace larder::log_store;

constexpr std::uint64_t kValueBytes = 64U << 10;
constexpr std::uint64_t kValueBytesMax = 4U << 20;
constexpr std::size_t kKeyBytes = 110;
constexpr std::uint64_t kWithinNs = 60'000'000'000;

/// Like LMCache's: a model, then the number, padded.
std::string key_of(std::uint64_t number) {
  return fmt::format("{:x<98}{:012x}", "meta-llama/Llama-3.1-70B-Instruct@8@0@", number);
}

void fill_value(std::uint64_t number, std::span<std::byte> value) {
  Random random{number + 1};
  for (std::size_t at = 0; at < value.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    std::memcpy(value.data() + at, &word, sizeof word);
  }
}

std::string spec_of(const std::string& directory, std::uint64_t keys) {
  // A tenth more than the records take, so that opening evicts nothing.
  const std::uint64_t capacity = std::max<std::uint64_t>(
      keys * record_bytes(kValueBytes, kGrainBytesMin) / 10 * 11, std::uint64_t{4} << 30);
  return fmt::format("log:{}?capacity={}&max_value={}", directory, capacity, kValueBytesMax);
}

void write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  LARDER_CHECK(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
               static_cast<ssize_t>(bytes.size()));
}

/// One sealed segment with keys from `first` on, at most `keys`; returns how many.
std::uint64_t make_segment(const std::string& directory, const Superblock& superblock,
                           const Geometry& geometry, std::uint32_t number, std::uint64_t first,
                           std::uint64_t keys) {
  const Identity identity{
      .path_id = superblock.path_id, .segment = number, .generation = (1ULL << 32) | number};
  const std::string path = directory + "/" + segment_file_name(number);
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  LARDER_CHECK(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(geometry.segment_bytes)) == 0);
  std::vector<std::byte> grain(geometry.grain_bytes);
  encode_segment_header(identity, 0, superblock.secret, grain);
  write_at(fd, grain, 0);
  TableBuilder table;
  std::uint64_t offset = geometry.grain_bytes;
  std::uint64_t count = 0;
  const std::uint64_t bytes = record_bytes(kValueBytes, geometry.grain_bytes);
  while (count < keys && offset + bytes + table.bytes_with(1, kKeyBytes, geometry.grain_bytes) <=
                             geometry.segment_bytes) {
    const std::string key = key_of(first + count);
    const Fingerprint fingerprint =
        fingerprint_of(std::as_bytes(std::span{key}), superblock.fingerprint_seed);
    if (count == 0) {
      std::vector<std::byte> value(kValueBytes);
      fill_value(first, value);
      const RecordHeader header{.offset = offset,
                                .value_bytes = kValueBytes,
                                .checksum = hash128(value, 0),
                                .payload = std::as_bytes(std::span{key})};
      encode_record_header(header, identity, superblock.secret, grain);
      write_at(fd, grain, offset);
      write_at(fd, value, offset + geometry.grain_bytes);
    }
    table.reserve(1, kKeyBytes);
    table.add({.fingerprint_low = fingerprint.low,
               .fingerprint_high = fingerprint.high,
               .grain = static_cast<std::uint32_t>(offset / geometry.grain_bytes),
               .value_bytes = kValueBytes,
               .key_bytes = kKeyBytes},
              key);
    offset += bytes;
    ++count;
  }
  const auto encoded = table.encode(TableKind::kSealed, identity, superblock.open_count, offset,
                                    geometry, superblock.secret);
  LARDER_CHECK(encoded);
  write_at(fd, encoded->span(), geometry.segment_bytes - encoded->size());
  LARDER_CHECK(::fsync(fd) == 0 && ::close(fd) == 0);
  return count;
}

/// Returns how many segments it has.
std::uint32_t make_store(const std::string& directory, std::uint64_t keys) {
  LARDER_CHECK(std::filesystem::create_directory(directory));
  {
    // A store as any program makes it, so that geometry and identities are the real ones.
    auto store = builtin_registry().open(spec_of(directory, keys));
    LARDER_CHECK(store);
    LARDER_CHECK((*store)->stop(RealClock::instance().now_ns() + kWithinNs));
  }
  auto device = io::open_device({.directory = directory});
  LARDER_CHECK(device);
  SuperblockFile file{*device->directory, *device->queue, RealClock::instance(), directory};
  const auto superblock = file.open(0);
  LARDER_CHECK(superblock);
  const Geometry geometry{.grain_bytes = superblock->grain_bytes,
                          .segment_count = superblock->segment_count,
                          .slot_bytes = superblock->slot_bytes,
                          .segment_bytes = superblock->segment_bytes};
  std::uint32_t segment = 0;
  for (std::uint64_t made = 0; made < keys; ++segment) {
    made += make_segment(directory, *superblock, geometry, segment, made, keys - made);
  }
  return segment;
}

std::uint64_t resident_bytes() {
  std::ifstream statm{"/proc/self/statm"};
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t bytes_read_from_disk() {
  std::ifstream counters{"/proc/self/io"};
  std::string name;
  std::uint64_t value = 0;
  while (counters >> name >> value) {
    if (name == "read_bytes:") return value;
  }
  return 0;
}

void reap_all(Connector& store) {
  std::array<Batch*, 1> done{};
  while (store.reap(done) == 0) std::this_thread::yield();
}

/// In its own process: opens, loads key 0 and prints.
int measure(const std::string& directory, std::uint64_t keys) {
  const std::uint64_t resident_before = resident_bytes();
  const std::uint64_t begin_ns = RealClock::instance().now_ns();
  auto store = builtin_registry().open(spec_of(directory, keys));
  if (!store) {
    std::cerr << store.error().text << '\n';
    return 1;
  }
  const std::uint64_t opened_ns = RealClock::instance().now_ns();
  auto value = AlignedBuffer::create(kValueBytes, kGrainBytesMin);
  LARDER_CHECK(value);
  const std::string key = key_of(0);
  Slice slice{value->data(), kValueBytes};
  Item item;
  item.key = std::as_bytes(std::span{key});
  item.value = {&slice, 1};
  Batch batch;
  batch.op = Op::kGet;
  batch.items = {&item, 1};
  batch.deadline_ns = opened_ns + kWithinNs;
  LARDER_CHECK((*store)->submit(batch));
  reap_all(**store);
  const std::uint64_t loaded_ns = RealClock::instance().now_ns();
  std::vector<std::byte> expected(kValueBytes);
  fill_value(0, expected);
  const bool is_right = item.outcome == Outcome::kHit &&
                        std::memcmp(expected.data(), value->data(), kValueBytes) == 0;
  const std::uint64_t held = (*store)->report().keys;
  std::cout << fmt::format(
      "{} keys: open {:.3f} s, with the first verified load {:.3f} s; {:.0f} MB read from disk; "
      "resident +{} bytes, {:.1f} a key; {}\n",
      held, static_cast<double>(opened_ns - begin_ns) / 1e9,
      static_cast<double>(loaded_ns - begin_ns) / 1e9,
      static_cast<double>(bytes_read_from_disk()) / 1e6, resident_bytes() - resident_before,
      static_cast<double>(resident_bytes() - resident_before) /
          static_cast<double>(std::max<std::uint64_t>(held, 1)),
      is_right ? "the value is right" : "WRONG");
  LARDER_CHECK((*store)->stop(RealClock::instance().now_ns() + kWithinNs));
  return is_right && held == keys ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments{argv + 1, argv + argc};
  if (arguments.size() == 3 && arguments[2] == "--measure") {
    return measure(arguments[0], std::stoull(arguments[1]));
  }
  if (arguments.size() != 2) {
    std::cerr << "usage: larder_open_benchmark DIR KEYS\n";
    return 2;
  }
  make_store(arguments[0], std::stoull(arguments[1]));
  ::sync();
  std::ofstream{"/proc/sys/vm/drop_caches"}
      << "3\n";  // Root only; tables are read directly anyway.
  const std::string command =
      fmt::format("{} {} {} --measure", std::filesystem::read_symlink("/proc/self/exe").string(),
                  arguments[0], arguments[1]);
  for (int i = 0; i < 3; ++i) {
    if (const int status = std::system(command.c_str()); status != 0) return 1;
    std::ofstream{"/proc/sys/vm/drop_caches"} << "3\n";
  }
  std::filesystem::remove_all(arguments[0]);
  return 0;
}
