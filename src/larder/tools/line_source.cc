#include "larder/tools/line_source.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::tools {
namespace {

constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";
constexpr std::string_view kSkippableMagic = "\x2A\x4D\x18";  ///< After a byte of 0x50 to 0x5F.
constexpr std::size_t kMagicBytes = 4;
constexpr int kZstdWindowLogMax = 31;  ///< Memory that `zstd --long=31 --ultra` needs: up to 2 GiB.

/// How often a wait for a pipe looks whether it is still wanted.
constexpr int kStopLookMs = 200;

/// Whether a read would not wait, after at most `timeout_ms`. Files never do; an error is the
/// read's to tell.
bool is_readable(int fd, int timeout_ms) noexcept {
  pollfd entry{fd, POLLIN, 0};
  const int ready = ::poll(&entry, 1, timeout_ms);
  return ready > 0 || (ready < 0 && errno != EINTR);
}

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// Turns the bytes of a file into text.
class Decoder {
 public:
  Decoder() = default;
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Takes bytes from the front of `raw` and writes to `out`; returns how many it wrote. Called
  /// again while `out` is full, also without input: more output may be waiting inside.
  virtual SetupResult<std::size_t> decode(std::string_view& raw, std::span<char> out) = 0;
  /// Null, or the error of a file that ends here.
  virtual const char* unfinished() const noexcept = 0;
};

class PlainDecoder final : public Decoder {
 public:
  SetupResult<std::size_t> decode(std::string_view& raw, std::span<char> out) override {
    const std::size_t count = raw.copy(out.data(), out.size());
    raw.remove_prefix(count);
    return count;
  }
  const char* unfinished() const noexcept override { return nullptr; }
};

class ZstdDecoder final : public Decoder {
 public:
  static SetupResult<std::unique_ptr<Decoder>> make() {
    auto decoder = std::make_unique<ZstdDecoder>();
    decoder->stream_.reset(ZSTD_createDStream());
    if (!decoder->stream_) return invalid("no memory for decompression");
    ZSTD_DCtx_setParameter(decoder->stream_.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
    return SetupResult<std::unique_ptr<Decoder>>{std::move(decoder)};
  }

  SetupResult<std::size_t> decode(std::string_view& raw, std::span<char> out_span) override {
    ZSTD_inBuffer in{raw.data(), raw.size(), 0};
    ZSTD_outBuffer out{out_span.data(), out_span.size(), 0};
    const std::size_t hint = ZSTD_decompressStream(stream_.get(), &out, &in);
    if (ZSTD_isError(hint) != 0) {
      return invalid(std::string{"damaged zstd data: "} + ZSTD_getErrorName(hint));
    }
    // Without progress, the hint is about the next frame.
    if (in.pos > 0 || out.pos > 0) is_in_frame_ = hint != 0;
    raw.remove_prefix(in.pos);
    return out.pos;
  }
  const char* unfinished() const noexcept override {
    return is_in_frame_ ? "ends in the middle of its zstd data" : nullptr;
  }

 private:
  struct Deleter {
    void operator()(ZSTD_DStream* stream) const noexcept { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<ZSTD_DStream, Deleter> stream_;
  bool is_in_frame_ = false;
};

class GzipDecoder final : public Decoder {
 public:
  static SetupResult<std::unique_ptr<Decoder>> make() {
    constexpr int kWindowBitsOfGzip = 15 + 16;
    auto decoder = std::make_unique<GzipDecoder>();
    decoder->is_open_ = inflateInit2(&decoder->stream_, kWindowBitsOfGzip) == Z_OK;
    if (!decoder->is_open_) return invalid("no memory for decompression");
    return SetupResult<std::unique_ptr<Decoder>>{std::move(decoder)};
  }
  ~GzipDecoder() override {
    if (is_open_) inflateEnd(&stream_);
  }

  SetupResult<std::size_t> decode(std::string_view& raw, std::span<char> out) override {
    if (!is_in_member_ && raw.empty()) return std::size_t{0};
    is_in_member_ = true;
    // The stream does not write to its input; its field is only declared so.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(raw.data()));
    stream_.avail_in = static_cast<uInt>(raw.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int code = inflate(&stream_, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      is_in_member_ = false;
      inflateReset(&stream_);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return invalid(std::string{"damaged gzip data: "} +
                     (stream_.msg != nullptr ? stream_.msg : zError(code)));
    }
    raw.remove_prefix(raw.size() - stream_.avail_in);
    return out.size() - stream_.avail_out;
  }
  const char* unfinished() const noexcept override {
    return is_in_member_ ? "ends in the middle of its gzip data" : nullptr;
  }

 private:
  z_stream stream_{};
  bool is_open_ = false;
  bool is_in_member_ = false;
};

SetupResult<std::unique_ptr<Decoder>> decoder_for(std::string_view first_bytes) {
  if (first_bytes.starts_with(kGzipMagic)) return GzipDecoder::make();
  const bool is_skippable = first_bytes.size() >= kMagicBytes &&
                            (static_cast<unsigned char>(first_bytes[0]) & 0xF0U) == 0x50U &&
                            first_bytes.substr(1).starts_with(kSkippableMagic);
  if (is_skippable || first_bytes.starts_with(kZstdMagic)) return ZstdDecoder::make();
  return SetupResult<std::unique_ptr<Decoder>>{std::make_unique<PlainDecoder>()};
}

class FileLines final : public LineSource {
 public:
  FileLines(std::string path, UniqueFd fd, bool is_stdin, const std::atomic<bool>& stop)
      : path_(std::move(path)),
        stop_(stop),
        owned_(std::move(fd)),
        fd_(is_stdin ? STDIN_FILENO : owned_.get()) {}

  /// Reads the first bytes and determines the kind of file.
  SetupStatus start() {
    while (raw_.size() < kMagicBytes && !raw_ended_) LARDER_TRY(read_raw());
    LARDER_ASSIGN(decoder_, decoder_for(raw_));
    return {};
  }

  SetupResult<std::optional<std::string_view>> next() override {
    std::size_t searched = begin_;
    for (;;) {
      const std::size_t end = text_.find('\n', searched);
      if (end != std::string::npos) {
        return std::optional{line_until(end, end + 1)};
      }
      searched = text_.size() - begin_;
      if (searched > kLineBytesMax) return failed("a line of more than 32 MiB");
      text_.erase(0, begin_);
      begin_ = 0;
      LARDER_ASSIGN(const bool more, read_text());
      if (more) continue;
      if (text_.empty()) return std::optional<std::string_view>{};
      return std::optional{line_until(text_.size(), text_.size())};
    }
  }

 private:
  SetupError failed(const std::string& what) const { return invalid(path_ + ": " + what); }

  std::string_view line_until(std::size_t end, std::size_t next_begin) {
    const std::size_t begin = std::exchange(begin_, next_begin);
    return std::string_view{text_}.substr(begin, end - begin);
  }

  /// Appends to raw_, or sets raw_ended_.
  SetupStatus read_raw() {
    constexpr std::size_t kChunk = std::size_t{256} << 10;
    const std::size_t old_size = raw_.size();
    raw_.resize(old_size + kChunk);
    ssize_t count = 0;
    do {
      // The writer of a pipe may never send more.
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
    constexpr std::size_t kChunk = std::size_t{128} << 10;
    for (;;) {
      if (raw_begin_ == raw_.size() && !has_more_inside_) {
        raw_.clear();
        raw_begin_ = 0;
        if (!raw_ended_) LARDER_TRY(read_raw());
        if (raw_.empty()) {
          if (const char* const what = decoder_->unfinished()) return failed(what);
          return false;
        }
      }
      const std::size_t old_size = text_.size();
      text_.resize(old_size + kChunk);
      std::string_view rest = std::string_view{raw_}.substr(raw_begin_);
      const auto count = decoder_->decode(rest, std::span{text_}.subspan(old_size));
      if (!count) return failed(count.error().text);
      text_.resize(old_size + *count);
      raw_begin_ = raw_.size() - rest.size();
      has_more_inside_ = *count == kChunk;
      if (*count > 0) return true;
    }
  }

  const std::string path_;
  const std::atomic<bool>& stop_;
  const UniqueFd owned_;
  const int fd_;
  std::unique_ptr<Decoder> decoder_;
  std::string raw_;  ///< Read; from raw_begin_ on not yet decoded.
  std::size_t raw_begin_ = 0;
  bool raw_ended_ = false;
  bool has_more_inside_ = false;  ///< The decoder filled its output.
  std::string text_;              ///< Decoded; from begin_ on not yet handed out.
  std::size_t begin_ = 0;
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
