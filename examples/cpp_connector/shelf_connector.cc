#include "examples/cpp_connector/shelf_connector.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "larder/base/key_text.h"
#include "larder/base/mutex.h"
#include "larder/base/unique_fd.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/slices.h"

namespace larder::example {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "shelf";
constexpr std::size_t kNameDigits = 200;  // A key of up to 100 bytes has a name without folders.

/// A size, or that there is no file; an error where the file system says something else.
struct Found {
  bool is_there = false;
  std::uint64_t bytes = 0;
};

Result<Found> look_at(const std::string& path) {
  struct ::stat status = {};
  if (::stat(path.c_str(), &status) == 0) {
    return Found{true, static_cast<std::uint64_t>(status.st_size)};
  }
  if (errno == ENOENT || errno == ENOTDIR) return Found{};
  return Error::from_errno(errno, kName, "looking at a file");
}

Status write_all(int fd, std::span<const Slice> value) {
  for (const Slice& slice : value) {
    for (std::size_t at = 0; at < slice.bytes;) {
      const ::ssize_t written = ::write(fd, slice.data + at, slice.bytes - at);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Error::from_errno(errno, kName, "writing a file");
      at += static_cast<std::size_t>(written);
    }
  }
  return {};
}

/// Reads `bytes` of a file into the slices, which have room for them.
Status read_all(int fd, std::span<const Slice> slices, std::uint64_t bytes) {
  Status status;
  for_each_piece(slices, 0, bytes, [&](std::span<std::byte> piece) {
    while (status && !piece.empty()) {
      const ::ssize_t count = ::read(fd, piece.data(), piece.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        status = Error::from_errno(errno, kName, "reading a file");
      } else if (count == 0) {
        status = Error{ErrorCode::kCorruption, kName, "the file became shorter"};
      } else {
        piece = piece.subspan(static_cast<std::size_t>(count));
      }
    }
  });
  return status;
}

}  // namespace

struct ShelfBackend::State {
  std::string directory;
  std::atomic<std::uint64_t> drafts = 0;  ///< Numbers their names.
  mutable Mutex mutex;                    ///< Held while a name appears or goes.
  std::uint64_t keys LARDER_GUARDED_BY(mutex) = 0;
  std::uint64_t bytes LARDER_GUARDED_BY(mutex) = 0;
};

SetupResult<ShelfBackend> ShelfBackend::open(std::string directory) {
  auto state = std::make_shared<State>();
  std::error_code error;
  fs::create_directories(directory, error);
  std::uint64_t keys = 0;
  std::uint64_t bytes = 0;
  if (!error) {
    for (fs::recursive_directory_iterator next{directory, error}, end; !error && next != end;
         next.increment(error)) {
      if (next->path().extension() == ".value") {
        ++keys;
        bytes += next->file_size(error);
      } else if (next->path().extension() == ".draft") {
        fs::remove(next->path(), error);  // Of a process that ended before it was published.
      }
    }
  }
  if (error) {
    return SetupError{ErrorCode::kIo, "shelf: cannot use the directory '" + directory +
                                          "': " + error.message() +
                                          "; name one that this user may write to"};
  }
  state->directory = std::move(directory);
  {
    const MutexLock lock{state->mutex};
    state->keys = keys;
    state->bytes = bytes;
  }
  return ShelfBackend{std::move(state)};
}

std::string ShelfBackend::path_of(std::span<const std::byte> key) const {
  const std::string digits = hex_text(key);
  std::string path = state_->directory;
  std::size_t at = 0;
  // Folders have no suffix and files have one, so neither takes the other's name.
  for (; digits.size() - at > kNameDigits; at += kNameDigits) {
    path += "/" + digits.substr(at, kNameDigits);
  }
  return path + "/" + digits.substr(at) + ".value";
}

Status ShelfBackend::get(Connection& /*connection*/, Item& item, const CallOptions& options) {
  const UniqueFd file{::open(path_of(item.key).c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) {
    if (errno != ENOENT && errno != ENOTDIR) {
      return Error::from_errno(errno, kName, "opening a file");
    }
    item.outcome = Outcome::kMiss;
    return {};
  }
  struct ::stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    return Error::from_errno(errno, kName, "looking at a file");
  }
  const std::uint64_t room = bytes_of(item.value);
  item.value_bytes = static_cast<std::uint64_t>(status.st_size);
  if (item.value_bytes > room || (item.value_bytes < room && !options.allow_shorter)) {
    return Error{ErrorCode::kSizeMismatch, kName, "the value and the buffer differ in size"};
  }
  LARDER_TRY(read_all(file.get(), item.value, item.value_bytes));
  item.outcome = Outcome::kHit;
  return {};
}

Result<std::string> ShelfBackend::write_draft(std::span<const Slice> value) {
  std::string path =
      state_->directory + "/" + std::to_string(state_->drafts.fetch_add(1)) + ".draft";
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  if (!file) return Error::from_errno(errno, kName, "making a file");
  Status status = write_all(file.get(), value);
  // A power cut must not leave the name without the bytes.
  if (status && ::fdatasync(file.get()) != 0) {
    status = Error::from_errno(errno, kName, "syncing a file");
  }
  if (!status) {
    ::unlink(path.c_str());
    return status.error();
  }
  return path;
}

Status ShelfBackend::set(Connection& /*connection*/, Item& item, const CallOptions& options) {
  const std::string path = path_of(item.key);
  item.outcome = Outcome::kDone;
  const bool keeps_present = options.set_mode == SetMode::kIfAbsent;
  if (keeps_present) {
    // Most stores of an engine are of keys that are there: look before writing.
    LARDER_ASSIGN(const Found found, look_at(path));
    item.existed = found.is_there;
    if (item.existed) return {};
  }
  LARDER_ASSIGN(const std::string draft, write_draft(item.value));
  const std::string folder = path.substr(0, path.rfind('/'));
  std::error_code error;
  if (folder != state_->directory) fs::create_directories(folder, error);

  const MutexLock lock{state_->mutex};
  LARDER_ASSIGN(const Found before, look_at(path));
  item.existed = keeps_present && before.is_there;
  if (item.existed) {
    ::unlink(draft.c_str());
    return {};
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) {
    const Error failed = Error::from_errno(errno, kName, "publishing a file");
    ::unlink(draft.c_str());
    return failed;
  }
  state_->keys += before.is_there ? 0 : 1;
  state_->bytes += bytes_of(item.value) - before.bytes;
  return {};
}

Status ShelfBackend::exists(Connection& /*connection*/, Item& item,
                            const CallOptions& /*options*/) {
  LARDER_ASSIGN(const Found found, look_at(path_of(item.key)));
  item.outcome = found.is_there ? Outcome::kHit : Outcome::kMiss;
  item.value_bytes = found.bytes;
  return {};
}

Status ShelfBackend::remove(Connection& /*connection*/, Item& item,
                            const CallOptions& /*options*/) {
  const std::string path = path_of(item.key);
  const MutexLock lock{state_->mutex};
  LARDER_ASSIGN(const Found before, look_at(path));
  item.outcome = before.is_there ? Outcome::kDone : Outcome::kMiss;
  if (!before.is_there) return {};
  if (::unlink(path.c_str()) != 0) return Error::from_errno(errno, kName, "removing a file");
  --state_->keys;
  state_->bytes -= before.bytes;
  return {};
}

Status ShelfBackend::touch(Connection& /*connection*/, Item& item, const CallOptions& /*options*/) {
  // Nothing is evicted, so a use changes nothing.
  LARDER_ASSIGN(const Found found, look_at(path_of(item.key)));
  item.outcome = found.is_there ? Outcome::kDone : Outcome::kMiss;
  return {};
}

void ShelfBackend::append_report(Report& report) const {
  report.where = state_->directory;
  const MutexLock lock{state_->mutex};
  report.keys = state_->keys;
  report.bytes_used = state_->bytes;
}

SetupResult<std::unique_ptr<Connector>> ShelfConnector::open(const std::string& directory,
                                                             const BatchLimitOptions& limits) {
  LARDER_ASSIGN(ShelfBackend backend, ShelfBackend::open(directory));
  WorkerPoolOptions options;
  options.scheduler.name = kName;
  options.scheduler.workers = {2, 4, 4};  // Lookups, loads, stores.
  options.scheduler.intake.name = kName;
  options.scheduler.intake.limits = limits;
  LARDER_ASSIGN(auto pool, WorkerPool<ShelfBackend>::create(std::move(backend), options));
  return std::unique_ptr<Connector>{new ShelfConnector{std::move(pool)}};
}

Capabilities ShelfConnector::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.value_bytes_max = kValueBytesMax;
  capabilities.locality = Locality::kLocalDisk;
  capabilities.integrity = Integrity::kNone;  // Name and length; no checksum.
  capabilities.survives_restart = true;
  return capabilities;
}

Report ShelfConnector::report() const {
  Report report;
  report.type = kName;
  report.locality = Locality::kLocalDisk;
  pool().backend().append_report(report);
  pool().append_report(report);
  return report;
}

namespace {

constexpr std::array kParameters{
    Parameter{.name = "path",
              .kind = ParameterKind::kPath,
              .help = "Directory of the files. It is made when it does not exist.",
              .is_required = true,
              .example = "/data/shelf"},
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupResult<std::unique_ptr<Connector>> open_shelf(const ConnectorType& /*type*/,
                                                   const Parameters& parameters,
                                                   const Registry& /*registry*/) {
  return ShelfConnector::open(parameters.text("path"), batch_limits_of(parameters));
}

constexpr MetricRow kMetrics[] = {
    {"connections", MetricKind::kGauge, "Workers that can work."},
    {"connect_failures_total", MetricKind::kCounter, "Attempts to make one that failed."},
};

}  // namespace

const ConnectorType& shelf_connector_type() {
  static constexpr ConnectorType kType{
      .name = kName,
      .summary = "An example: one file for each value, by calls that block.",
      .example = "shelf:/data/shelf",
      .location_parameter = "path",
      .parameters = kParameters,
      .metrics = kMetrics,
      .open = open_shelf,
  };
  return kType;
}

}  // namespace larder::example
