#include "tests/support/faulty_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/unique_fd.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {
namespace {

constexpr std::uint32_t kWriteBytesMax = 1U << 20;
constexpr std::size_t kRequestBytesMax = kWriteBytesMax + 65536;
constexpr std::uint32_t kMinorSpoken = 31;  // Of the protocol: newer kernels speak it too.
constexpr mode_t kDirectoryMode = S_IFDIR | 0700;

/// Which of our names an operation of the protocol goes by; 0: it never fails.
std::uint32_t operation_of(std::uint32_t opcode) {
  switch (opcode) {
    case FUSE_READ:
      return kReads;
    case FUSE_WRITE:
      return kWrites;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
      return kSyncs;
    case FUSE_FALLOCATE:
      return kAllocates;
    case FUSE_CREATE:
      return kCreates;
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return kCreates | kRenames;
    case FUSE_UNLINK:
      return kRemoves;
    case FUSE_STATFS:
      return kSpace;
    case FUSE_OPEN:
      return kOpens | kFileOpens;
    case FUSE_OPENDIR:
    case FUSE_LOOKUP:
      return kOpens;
    default:
      return 0;
  }
}

}  // namespace

/// Answers the kernel's requests one after the other, in a process of its own.
class FaultyDirectory::Server {
 public:
  static SetupResult<std::unique_ptr<Server>> start(const OddNames& names);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::string& mount_point() const { return mount_point_; }
  std::string real_path() const { return directory_.path() + "/real"; }
  void ask(std::uint32_t failing, int sys_errno, std::uint32_t stalling, bool keeps_held = false) {
    orders_->keeps_held = keeps_held;
    orders_->sys_errno = sys_errno;
    orders_->failing = failing;
    orders_->stalling = stalling;
    changed_.signal();
  }
  std::uint64_t faults() const { return orders_->faults; }

 private:
  /// Memory that both processes see.
  struct Orders {
    std::atomic<std::uint32_t> failing = 0;
    std::atomic<std::uint32_t> stalling = 0;
    std::atomic<int> sys_errno = 0;
    std::atomic<std::uint64_t> faults = 0;
    std::atomic<bool> keeps_held = false;
    std::atomic<bool> is_end_wanted = false;
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  struct File {
    std::string name;
    UniqueFd fd;
  };
  struct Request {
    const fuse_in_header& header;
    std::span<const char> body;

    template <class Body>
    const Body& as() const {
      return *reinterpret_cast<const Body*>(body.data());
    }
    /// The name behind `skipped` bytes, without its zero.
    std::string name(std::size_t skipped = 0) const { return body.data() + skipped; }
  };

  Server(EventFd changed, const OddNames& names) : names_(names), changed_(std::move(changed)) {}

  void run();
  bool is_held(std::uint32_t operation, int& sys_errno);
  void take(std::vector<char> message);
  void answer(const Request& request);
  void reply(const Request& request, int sys_errno, std::span<const char> data = {});
  template <class Body>
  void reply_with(const Request& request, const Body& body) {
    reply(request, 0, {reinterpret_cast<const char*>(&body), sizeof(body)});
  }
  void reply_status(const Request& request, int result) { reply(request, result < 0 ? errno : 0); }

  void init(const Request& request);
  void lookup(const Request& request);
  void create(const Request& request);
  void read(const Request& request);
  void write(const Request& request);
  void set_attributes(const Request& request);
  void rename(const Request& request, std::size_t head_bytes, std::uint32_t flags);
  void space(const Request& request);
  void list(const Request& request);
  bool attributes(std::uint64_t node, fuse_attr& out);
  std::uint64_t node_of(const std::string& name);
  int real_name(std::string& name) const;
  std::vector<std::string> names_there() const;
  int fd_of(std::uint64_t node) {
    return node == FUSE_ROOT_ID ? root_.get() : files_[node].fd.get();
  }

  const OddNames names_;
  TemporaryDirectory directory_;
  std::string mount_point_;
  bool is_mounted_ = false;
  UniqueFd root_;  // The real directory.
  UniqueFd device_;
  EventFd changed_;
  Orders* orders_ = nullptr;  // Mapped.
  ::pid_t process_ = -1;
  // The serving process's own.
  std::map<std::uint64_t, File> files_;
  std::uint64_t next_node_ = FUSE_ROOT_ID + 1;
  std::deque<std::vector<char>> held_;
  std::vector<char> scratch_;
};

SetupResult<std::unique_ptr<FaultyDirectory::Server>> FaultyDirectory::Server::start(
    const OddNames& names) {
  const auto failure = [](const char* what) {
    return SetupError{ErrorCode::kIo,
                      std::string{what} + ": " + std::generic_category().message(errno)};
  };
  auto changed = EventFd::create();
  if (!changed) return SetupError{ErrorCode::kIo, changed.error().to_string()};
  std::unique_ptr<Server> server{new Server{std::move(*changed), names}};
  void* const shared =
      ::mmap(nullptr, sizeof(Orders), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return failure("mapping memory");
  server->orders_ = ::new (shared) Orders;
  server->mount_point_ = server->directory_.path() + "/mount";
  const std::string real = server->real_path();
  if (::mkdir(server->mount_point_.c_str(), 0700) != 0 || ::mkdir(real.c_str(), 0700) != 0) {
    return failure("making directories");
  }
  server->root_.reset(::open(real.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  server->device_.reset(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (::geteuid() != 0 || !server->device_) {
    return SetupError{ErrorCode::kUnimplemented, "needs root and /dev/fuse"};
  }
  const std::string options = "fd=" + std::to_string(server->device_.get()) +
                              ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (::mount("larder-test", server->mount_point_.c_str(), "fuse.larder", MS_NOSUID | MS_NODEV,
              options.c_str()) != 0) {
    if (errno == ENODEV || errno == EPERM) {
      return SetupError{ErrorCode::kUnimplemented, "needs a kernel with FUSE"};
    }
    return failure("mounting");
  }
  server->is_mounted_ = true;
  const ::pid_t parent = ::getpid();
  server->process_ = ::fork();
  if (server->process_ < 0) return failure("starting a process");
  if (server->process_ == 0) {
    const bool is_bound = ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent;
    if (is_bound) server->run();
    ::_exit(is_bound ? 0 : 1);
  }
  server->device_.reset();  // When the process ends, nobody has it, and the kernel gives up.
  return server;
}

FaultyDirectory::Server::~Server() {
  if (orders_ == nullptr) return;
  ask(0, 0, 0);
  if (is_mounted_) ::umount2(mount_point_.c_str(), MNT_DETACH);
  orders_->is_end_wanted = true;
  changed_.signal();
  if (process_ > 0) ::waitpid(process_, nullptr, 0);
  ::munmap(orders_, sizeof(Orders));
}

// --- The loop -----------------------------------------------------------------------------------

void FaultyDirectory::Server::run() {
  std::vector<char> message(kRequestBytesMax);
  for (;;) {
    pollfd waits[] = {{device_.get(), POLLIN, 0}, {changed_.get(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
    if ((waits[1].revents & POLLIN) != 0) {
      changed_.drain();
      std::deque<std::vector<char>> held;
      if (!orders_->keeps_held) held.swap(held_);
      for (std::vector<char>& one : held) take(std::move(one));
      if (orders_->is_end_wanted) return;
    }
    if ((waits[0].revents & (POLLIN | POLLERR | POLLHUP)) == 0) continue;
    const ssize_t bytes = ::read(device_.get(), message.data(), message.size());
    if (bytes < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (bytes <= 0) return;  // ENODEV: unmounted.
    take({message.begin(), message.begin() + bytes});
  }
}

bool FaultyDirectory::Server::is_held(std::uint32_t operation, int& sys_errno) {
  sys_errno = (orders_->failing & operation) != 0 ? orders_->sys_errno.load() : 0;
  const bool held = (orders_->stalling & operation) != 0;
  if (held || sys_errno != 0) ++orders_->faults;
  return held;
}

void FaultyDirectory::Server::take(std::vector<char> message) {
  const auto& header = *reinterpret_cast<const fuse_in_header*>(message.data());
  const Request request{header, std::span<const char>{message}.subspan(sizeof(fuse_in_header))};
  int sys_errno = 0;
  if (is_held(operation_of(header.opcode), sys_errno)) {
    held_.push_back(std::move(message));
  } else if (sys_errno != 0) {
    reply(request, sys_errno);
  } else {
    answer(request);
  }
}

void FaultyDirectory::Server::reply(const Request& request, int sys_errno,
                                    std::span<const char> data) {
  fuse_out_header header{};
  header.unique = request.header.unique;
  header.error = -sys_errno;
  header.len = static_cast<std::uint32_t>(sizeof(header) + data.size());
  const iovec vectors[] = {{&header, sizeof(header)},
                           {const_cast<char*>(data.data()), data.size()}};
  // ENOENT: who waited for it was killed. Nothing else can be done about any error here.
  [[maybe_unused]] const ssize_t written = ::writev(device_.get(), vectors, data.empty() ? 1 : 2);
}

void FaultyDirectory::Server::answer(const Request& request) {
  const std::uint64_t node = request.header.nodeid;
  switch (request.header.opcode) {
    case FUSE_INIT:
      return init(request);
    case FUSE_LOOKUP:
      return lookup(request);
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      return attributes(node, out.attr) ? reply_with(request, out) : reply(request, errno);
    }
    case FUSE_SETATTR:
      return set_attributes(request);
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
      fuse_open_out out{};
      out.open_flags = request.header.opcode == FUSE_OPEN ? FOPEN_DIRECT_IO : 0;
      return reply_with(request, out);
    }
    case FUSE_CREATE:
      return create(request);
    case FUSE_READ:
      return read(request);
    case FUSE_WRITE:
      return write(request);
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
      return reply(request, 0);  // No power is cut here, and a busy machine's disk takes long.
    case FUSE_FALLOCATE: {
      const auto& in = request.as<fuse_fallocate_in>();
      return reply_status(
          request, ::fallocate(fd_of(node), static_cast<int>(in.mode),
                               static_cast<off_t>(in.offset), static_cast<off_t>(in.length)));
    }
    case FUSE_UNLINK: {
      std::string name = request.name();
      if (const int failed = real_name(name); failed != 0) return reply(request, failed);
      return reply_status(request, ::unlinkat(root_.get(), name.c_str(), 0));
    }
    case FUSE_RENAME:
      return rename(request, sizeof(fuse_rename_in), 0);
    case FUSE_RENAME2:
      return rename(request, sizeof(fuse_rename2_in), request.as<fuse_rename2_in>().flags);
    case FUSE_STATFS:
      return space(request);
    case FUSE_READDIR:
      return list(request);
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_ACCESS:
      return reply(request, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;  // These have no answer.
    default:
      return reply(request, ENOSYS);
  }
}

// --- Operations ---------------------------------------------------------------------------------

void FaultyDirectory::Server::init(const Request& request) {
  const auto& in = request.as<fuse_init_in>();
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = std::min(in.minor, kMinorSpoken);
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES |
                          FUSE_PARALLEL_DIROPS);
  out.max_background = 128;
  out.congestion_threshold = 96;
  out.max_write = kWriteBytesMax;
  out.time_gran = 1;
  out.max_pages = kWriteBytesMax / 4096;
  reply_with(request, out);
}

bool FaultyDirectory::Server::attributes(std::uint64_t node, fuse_attr& out) {
  struct stat status{};
  if (::fstat(fd_of(node), &status) != 0) return false;
  out.ino = node;
  out.size = static_cast<std::uint64_t>(status.st_size);
  out.blocks = static_cast<std::uint64_t>(status.st_blocks);
  out.mtime = static_cast<std::uint64_t>(status.st_mtim.tv_sec);
  out.mode = node == FUSE_ROOT_ID ? kDirectoryMode : status.st_mode;
  out.nlink = static_cast<std::uint32_t>(status.st_nlink);
  out.blksize = 4096;
  return true;
}

/// 0 with errno set when there is no such file.
std::uint64_t FaultyDirectory::Server::node_of(const std::string& name) {
  UniqueFd fd{::openat(root_.get(), name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd) return 0;
  struct stat wanted{};
  ::fstat(fd.get(), &wanted);
  for (const auto& [node, file] : files_) {
    struct stat status{};
    if (::fstat(file.fd.get(), &status) == 0 && status.st_ino == wanted.st_ino) return node;
  }
  files_[next_node_] = {name, std::move(fd)};
  return next_node_++;
}

/// What the name is called in the real directory; an errno when there can be no such name here.
int FaultyDirectory::Server::real_name(std::string& name) const {
  if (names_.cuts_names) name.resize(std::min(name.size(), names_.bytes_max));
  if (!names_.are_plain()) name = names_.same_as(name, names_there());
  return names_.check(name);
}

void FaultyDirectory::Server::lookup(const Request& request) {
  fuse_entry_out out{};
  std::string name = request.name();
  if (const int failed = real_name(name); failed != 0) {
    const bool is_told = failed != ENAMETOOLONG || names_.tells_when_looked_for;
    return reply(request, is_told ? failed : ENOENT);
  }
  out.nodeid = node_of(name);
  if (out.nodeid == 0 || !attributes(out.nodeid, out.attr)) return reply(request, errno);
  reply_with(request, out);
}

void FaultyDirectory::Server::create(const Request& request) {
  const auto& in = request.as<fuse_create_in>();
  std::string name = request.name(sizeof(fuse_create_in));
  if (const int failed = real_name(name); failed != 0) return reply(request, failed);
  const UniqueFd made{::openat(root_.get(), name.c_str(),
                               O_RDWR | O_CREAT | O_CLOEXEC | (static_cast<int>(in.flags) & O_EXCL),
                               in.mode & 07777)};
  struct {
    fuse_entry_out entry{};
    fuse_open_out open{};
  } out;
  if (made) out.entry.nodeid = node_of(name);
  if (out.entry.nodeid == 0 || !attributes(out.entry.nodeid, out.entry.attr)) {
    return reply(request, errno);
  }
  out.open.open_flags = FOPEN_DIRECT_IO;
  reply_with(request, out);
}

/// A file's node goes by its inode, which stays.
void FaultyDirectory::Server::rename(const Request& request, std::size_t head_bytes,
                                     std::uint32_t flags) {
  std::string from = request.name(head_bytes);
  std::string to = request.name(head_bytes + from.size() + 1);
  if (const int failed = real_name(from); failed != 0) return reply(request, failed);
  if (const int failed = real_name(to); failed != 0) return reply(request, failed);
  reply_status(request, ::renameat2(root_.get(), from.c_str(), root_.get(), to.c_str(), flags));
}

void FaultyDirectory::Server::read(const Request& request) {
  const auto& in = request.as<fuse_read_in>();
  scratch_.resize(in.size);
  const ssize_t bytes = ::pread(fd_of(request.header.nodeid), scratch_.data(), in.size,
                                static_cast<off_t>(in.offset));
  if (bytes < 0) return reply(request, errno);
  reply(request, 0, {scratch_.data(), static_cast<std::size_t>(bytes)});
}

void FaultyDirectory::Server::write(const Request& request) {
  const auto& in = request.as<fuse_write_in>();
  const char* const data = request.body.data() + sizeof(fuse_write_in);
  const ssize_t bytes =
      ::pwrite(fd_of(request.header.nodeid), data, in.size, static_cast<off_t>(in.offset));
  if (bytes < 0) return reply(request, errno);
  fuse_write_out out{};
  out.size = static_cast<std::uint32_t>(bytes);
  reply_with(request, out);
}

void FaultyDirectory::Server::set_attributes(const Request& request) {
  const auto& in = request.as<fuse_setattr_in>();
  const int fd = fd_of(request.header.nodeid);
  if ((in.valid & FATTR_SIZE) != 0 && ::ftruncate(fd, static_cast<off_t>(in.size)) != 0) {
    return reply(request, errno);
  }
  fuse_attr_out out{};
  return attributes(request.header.nodeid, out.attr) ? reply_with(request, out)
                                                     : reply(request, errno);
}

void FaultyDirectory::Server::space(const Request& request) {
  struct statvfs status{};
  if (::fstatvfs(root_.get(), &status) != 0) return reply(request, errno);
  fuse_statfs_out out{};
  out.st.blocks = status.f_blocks;
  out.st.bfree = status.f_bfree;
  out.st.bavail = status.f_bavail;
  out.st.files = status.f_files;
  out.st.ffree = status.f_ffree;
  out.st.bsize = static_cast<std::uint32_t>(status.f_bsize);
  out.st.frsize = static_cast<std::uint32_t>(status.f_frsize);
  out.st.namelen = static_cast<std::uint32_t>(names_.tells_bytes_max ? names_.bytes_max : 255);
  reply_with(request, out);
}

/// Sorted, so that an offset means the same in the next call.
std::vector<std::string> FaultyDirectory::Server::names_there() const {
  std::vector<std::string> names;
  const int file = ::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY);
  if (DIR* const directory = file < 0 ? nullptr : ::fdopendir(file)) {
    while (const dirent* const entry = ::readdir(directory)) names.emplace_back(entry->d_name);
    ::closedir(directory);
  }
  std::ranges::sort(names);
  return names;
}

void FaultyDirectory::Server::list(const Request& request) {
  const auto& in = request.as<fuse_read_in>();
  const std::vector<std::string> names = names_there();
  std::vector<char> out;
  for (std::size_t i = in.offset; i < names.size(); ++i) {
    fuse_dirent entry{};
    entry.ino = i + 2;
    entry.off = i + 1;
    entry.namelen = static_cast<std::uint32_t>(names[i].size());
    const std::size_t bytes = FUSE_DIRENT_ALIGN(sizeof(entry) + names[i].size());
    if (out.size() + bytes > in.size) break;
    const std::size_t at = out.size();
    out.resize(at + bytes);
    std::memcpy(out.data() + at, &entry, sizeof(entry));
    std::memcpy(out.data() + at + sizeof(entry), names[i].data(), names[i].size());
  }
  reply(request, 0, out);
}

// --- The directory ------------------------------------------------------------------------------

FaultyDirectory::FaultyDirectory(std::unique_ptr<Server> server) : server_(std::move(server)) {}
FaultyDirectory::~FaultyDirectory() = default;

SetupResult<std::unique_ptr<FaultyDirectory>> FaultyDirectory::create(const OddNames& names) {
  LARDER_ASSIGN(auto server, Server::start(names));
  return std::unique_ptr<FaultyDirectory>{new FaultyDirectory{std::move(server)}};
}

const std::string& FaultyDirectory::path() const noexcept {
  return server_->mount_point();
}

std::string FaultyDirectory::real_path() const {
  return server_->real_path();
}

void FaultyDirectory::fail(std::uint32_t operations, int sys_errno) {
  server_->ask(operations, sys_errno, 0);
}

void FaultyDirectory::stall(std::uint32_t operations) {
  server_->ask(0, 0, operations);
}

void FaultyDirectory::let_others_through() {
  server_->ask(0, 0, 0, true);
}

void FaultyDirectory::heal() {
  server_->ask(0, 0, 0);
}

std::uint64_t FaultyDirectory::faults() const {
  return server_->faults();
}

}  // namespace larder::testing
