#include "larder/tools/line_source.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::tools {
namespace {

constexpr std::array<char, 4> kZstdMagic = {'\x28', '\xB5', '\x2F', '\xFD'};

/// How often a wait for a pipe looks whether it is still wanted.
constexpr int kStopLookMs = 200;

/// Whether a read would not wait, after at most `timeout_ms`. Files never do; an error is the
/// read's to tell.
bool is_readable(int fd, int timeout_ms) noexcept {
  pollfd entry{fd, POLLIN, 0};
  const int ready = ::poll(&entry, 1, timeout_ms);
  return ready > 0 || (ready < 0 && errno != EINTR);
}

struct ZstdDeleter {
  void operator()(ZSTD_DStream* stream) const noexcept { ZSTD_freeDStream(stream); }
};

class FileLines final : public LineSource {
 public:
  FileLines(std::string path, UniqueFd fd, bool is_stdin, const std::atomic<bool>& stop)
      : path_(std::move(path)),
        stop_(stop),
        owned_(std::move(fd)),
        fd_(is_stdin ? STDIN_FILENO : owned_.get()) {}

  /// Reads the first bytes and finds out what kind of file this is.
  SetupStatus start() {
    while (raw_.size() < kZstdMagic.size() && !raw_ended_) LARDER_TRY(read_raw());
    if (raw_.size() >= kZstdMagic.size() &&
        std::memcmp(raw_.data(), kZstdMagic.data(), kZstdMagic.size()) == 0) {
      zstd_.reset(ZSTD_createDStream());
      if (!zstd_) return failed("no memory for decompression");
    }
    return {};
  }

  SetupResult<std::optional<std::string_view>> next() override {
    text_.erase(0, consumed_);
    consumed_ = 0;
    std::size_t searched = 0;
    for (;;) {
      const std::size_t end = text_.find('\n', searched);
      if (end != std::string::npos) {
        consumed_ = end + 1;
        return std::optional{std::string_view{text_}.substr(0, end)};
      }
      searched = text_.size();
      if (searched > kLineBytesMax) return failed("a line of more than 32 MiB");
      LARDER_ASSIGN(const bool more, read_text());
      if (more) continue;
      if (text_.empty()) return std::optional<std::string_view>{};
      consumed_ = text_.size();
      return std::optional{std::string_view{text_}};
    }
  }

 private:
  SetupError failed(const std::string& what) const {
    return SetupError{ErrorCode::kInvalidArgument, path_ + ": " + what};
  }

  /// Appends to raw_, or sets raw_ended_.
  SetupStatus read_raw() {
    constexpr std::size_t kChunk = std::size_t{256} << 10;
    const std::size_t old_size = raw_.size();
    raw_.resize(old_size + kChunk);
    ssize_t count = 0;
    do {
      // Whoever writes into a pipe may leave us waiting for ever.
      while (!stop_ && !is_readable(fd_, kStopLookMs)) {
      }
      if (stop_) return SetupError{ErrorCode::kCancelled, path_ + ": interrupted while reading"};
      count = ::read(fd_, raw_.data() + old_size, kChunk);
    } while (count < 0 && errno == EINTR);
    const int error = errno;
    raw_.resize(old_size + (count > 0 ? static_cast<std::size_t>(count) : 0));
    if (count < 0) return failed("cannot be read: " + errno_text(error));
    raw_ended_ = count == 0;
    return {};
  }

  /// Appends to text_; false at the end.
  SetupResult<bool> read_text() {
    for (;;) {
      if (raw_.empty()) {
        if (!raw_ended_) LARDER_TRY(read_raw());
        if (raw_.empty()) {
          if (zstd_ && frame_open_) return failed("ends in the middle of its zstd data");
          return false;
        }
      }
      if (!zstd_) {
        text_ += raw_;
        raw_.clear();
        return true;
      }
      LARDER_ASSIGN(const bool produced, decompress());
      if (produced) return true;
    }
  }

  SetupResult<bool> decompress() {
    std::array<char, std::size_t{128} << 10> out_buffer;
    ZSTD_inBuffer in{raw_.data(), raw_.size(), 0};
    ZSTD_outBuffer out{out_buffer.data(), out_buffer.size(), 0};
    const std::size_t hint = ZSTD_decompressStream(zstd_.get(), &out, &in);
    if (ZSTD_isError(hint) != 0) {
      return failed(std::string{"damaged zstd data: "} + ZSTD_getErrorName(hint));
    }
    frame_open_ = hint != 0;
    text_.append(out_buffer.data(), out.pos);
    raw_.erase(0, in.pos);
    return out.pos > 0;
  }

  const std::string path_;
  const std::atomic<bool>& stop_;
  const UniqueFd owned_;
  const int fd_;
  std::string raw_;  ///< Read, not yet decompressed.
  bool raw_ended_ = false;
  bool frame_open_ = false;  ///< Inside a zstd frame.
  std::unique_ptr<ZSTD_DStream, ZstdDeleter> zstd_;
  std::string text_;          ///< Begins with the line that was handed out last.
  std::size_t consumed_ = 0;  ///< Its length, with its end.
};

}  // namespace

SetupResult<std::unique_ptr<LineSource>> LineSource::open(const std::string& path,
                                                          const std::atomic<bool>& stop) {
  const bool is_stdin = path == "-";
  UniqueFd fd{is_stdin ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!is_stdin && !fd) {
    return SetupError{ErrorCode::kInvalidArgument,
                      path + ": cannot be opened: " + errno_text(errno)};
  }
  auto lines = std::make_unique<FileLines>(path, std::move(fd), is_stdin, stop);
  LARDER_TRY(lines->start());
  return SetupResult<std::unique_ptr<LineSource>>{std::move(lines)};
}

}  // namespace larder::tools
