#include "larder/server/copy/segments.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "larder/base/key_text.h"
#include "larder/base/unique_fd.h"

namespace larder::server {
namespace {

constexpr std::string_view kPrefix = "/lmcache_kv_";

bool are_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_segment_name(std::string_view name) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  const std::size_t middle = name.find('_');
  return middle != std::string_view::npos && are_digits(name.substr(0, middle)) &&
         are_digits(name.substr(middle + 1));
}

SetupError error_of(const std::string& name, ErrorCode code, const std::string& text) {
  return {code, "the shared memory \"" + printable(name) + "\" " + text};
}

SetupStatus check_file(const std::string& name, const struct ::stat& file, std::uint64_t bytes) {
  if (!S_ISREG(file.st_mode)) {
    return error_of(name, ErrorCode::kInvalidArgument, "is no file");
  }
  if (file.st_uid != ::geteuid() && file.st_uid != 0) {
    return error_of(name, ErrorCode::kInvalidArgument,
                    "belongs to user " + std::to_string(file.st_uid) + "; it must belong to user " +
                        std::to_string(::geteuid()) +
                        ", whose this server is: run worker and server as the same user");
  }
  if (static_cast<std::uint64_t>(file.st_size) < bytes) {
    return error_of(name, ErrorCode::kInvalidArgument,
                    "has " + std::to_string(file.st_size) + " bytes; it must have the " +
                        std::to_string(bytes) + " that the worker registered");
  }
  return {};
}

SetupResult<UniqueFd> open_segment(const std::string& directory, const std::string& name) {
  UniqueFd fd{::open((directory + name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (fd) return fd;
  const int error = errno;
  std::string text = "cannot be opened: " + errno_text(error);
  if (error == ENOENT) {
    text +=
        "; worker and server must share one /dev/shm (in containers: --ipc, or a common volume)";
  } else if (error == EACCES) {
    text += "; run worker and server as the same user";
  }
  return error_of(name, ErrorCode::kIo, text);
}

}  // namespace

Segment::~Segment() {
  ::munmap(memory_.data(), memory_.size());
}

SetupResult<std::shared_ptr<const Segment>> Segments::map(const std::string& name,
                                                          std::uint64_t bytes) {
  if (!is_segment_name(name)) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "the shared memory is called \"" + printable(name.substr(0, 80)) +
                          "\"; it must be called /lmcache_kv_ and two numbers, as LMCache's "
                          "clients call it"};
  }
  if (bytes == 0) {
    return error_of(name, ErrorCode::kInvalidArgument, "is empty; it must have a byte at least");
  }
  LARDER_ASSIGN(const UniqueFd fd, open_segment(directory_, name));
  struct ::stat file{};
  if (::fstat(fd.get(), &file) != 0) {
    return error_of(name, ErrorCode::kIo, "has no size: " + errno_text(errno));
  }
  LARDER_TRY(check_file(name, file, bytes));

  const FileId id{file.st_dev, file.st_ino};
  const MutexLock lock{mutex_};
  std::erase_if(mapped_, [](const auto& each) { return each.second.expired(); });
  const auto found = mapped_.find(id);
  if (found != mapped_.end()) {
    auto segment = found->second.lock();
    if (segment != nullptr && segment->memory().size() >= bytes) return segment;
  }
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) {
    return error_of(name, ErrorCode::kResourceExhausted, "cannot be mapped: " + errno_text(errno));
  }
  // From here on no allocation of our own fails without the mapping's owner.
  std::shared_ptr<const Segment> segment{
      new Segment{std::span{static_cast<std::byte*>(memory), bytes}}};
  mapped_[id] = segment;
  return segment;
}

std::size_t Segments::mapped() const {
  const MutexLock lock{mutex_};
  return static_cast<std::size_t>(
      std::ranges::count_if(mapped_, [](const auto& each) { return !each.second.expired(); }));
}

}  // namespace larder::server
