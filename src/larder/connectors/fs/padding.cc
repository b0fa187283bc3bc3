#include "larder/connectors/fs/padding.h"

#include <endian.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "larder/base/hash.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
constexpr std::string_view kMagic = "\xF1larder padded\r\n";
static_assert(kMagic.size() == 16);

struct Words {
  std::array<char, kMagic.size()> magic{};
  std::uint64_t value_bytes = 0;
  std::uint64_t hash = 0;
};
static_assert(sizeof(Words) == kTrailerBytes);

std::uint64_t hash_of(const Words& words) noexcept {
  return hash64(std::as_bytes(std::span{&words, 1}).first(sizeof(Words) - sizeof(words.hash)));
}

/// A block that direct I/O can take.
struct alignas(kPaddingGrain) Block {
  std::array<std::byte, kPaddingGrain> bytes{};
};

/// If the file system needs another alignment than 4096 bytes.
bool drop_direct(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0 && ::fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

template <class Transfer>
ssize_t transfer(int fd, const Transfer& once) noexcept {
  for (;;) {
    const ssize_t bytes = once();
    if (bytes >= 0) return bytes;
    if (errno == EINTR || (errno == EINVAL && drop_direct(fd))) continue;
    return -1;
  }
}

}  // namespace

Trailer trailer_of(std::uint64_t value_bytes) noexcept {
  Words words;
  std::ranges::copy(kMagic, words.magic.begin());
  words.value_bytes = htole64(value_bytes);
  words.hash = htole64(hash_of(words));
  Trailer trailer;
  std::memcpy(trailer.data(), &words, sizeof(words));
  return trailer;
}

std::optional<std::uint64_t> parse_trailer(std::span<const std::byte, kTrailerBytes> bytes,
                                           std::uint64_t file_bytes) noexcept {
  Words words;
  std::memcpy(&words, bytes.data(), sizeof(words));
  const std::uint64_t value_bytes = le64toh(words.value_bytes);
  if (std::string_view{words.magic.data(), words.magic.size()} != kMagic) return std::nullopt;
  if (le64toh(words.hash) != hash_of(words)) return std::nullopt;
  if (!may_have_trailer(file_bytes) || value_bytes > file_bytes - kTrailerBytes)
    return std::nullopt;
  return value_bytes;
}

Result<std::uint64_t> value_bytes_in(int fd, std::uint64_t file_bytes) noexcept {
  if (!may_have_trailer(file_bytes)) return file_bytes;
  Block block;
  const auto at = static_cast<off_t>(file_bytes - kTrailerBytes);
  const ssize_t bytes =
      transfer(fd, [&] { return ::pread(fd, block.bytes.data(), block.bytes.size(), at); });
  if (bytes < 0) return Error::from_errno(errno, kWhere, "reading the end of a file");
  if (bytes != kTrailerBytes) return file_bytes;  // It was cut or grew: no file of larder's.
  return parse_trailer(std::span{block.bytes}.first<kTrailerBytes>(), file_bytes)
      .value_or(file_bytes);
}

Status write_padding(int fd, std::uint64_t value_bytes, std::uint64_t padded_bytes) noexcept {
  Block block;
  std::ranges::copy(trailer_of(value_bytes), block.bytes.begin());
  const auto at = static_cast<off_t>(padded_bytes);
  const ssize_t bytes =
      transfer(fd, [&] { return ::pwrite(fd, block.bytes.data(), block.bytes.size(), at); });
  if (bytes < 0) return Error::from_errno(errno, kWhere, "padding a file");
  if (bytes < static_cast<ssize_t>(kTrailerBytes)) {
    return Error::from_errno(ENOSPC, kWhere, "padding a file");
  }
  if (::ftruncate(fd, at + static_cast<off_t>(kTrailerBytes)) != 0) {
    return Error::from_errno(errno, kWhere, "cutting a file to its length");
  }
  return {};
}

}  // namespace larder::fs
