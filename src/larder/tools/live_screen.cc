#include "larder/tools/live_screen.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>

namespace larder::tools {
namespace {

// The other screen, an invisible cursor, and no line breaks but ours; and back.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
// A terminal that knows it shows all between the two at once; the others ignore it.
constexpr std::string_view kBeginPicture = "\x1b[?2026h\x1b[H";
constexpr std::string_view kEndPicture = "\x1b[J\x1b[?2026l";

}  // namespace

LiveScreen::LiveScreen(int in, int out, const std::atomic<bool>& stop)
    : in_(in), out_(out), stop_(stop) {
  sigset_t window_changes;
  sigemptyset(&window_changes);
  sigaddset(&window_changes, SIGWINCH);
  ::pthread_sigmask(SIG_BLOCK, &window_changes, &mask_before_);
  size_fd_ = UniqueFd{::signalfd(-1, &window_changes, SFD_CLOEXEC | SFD_NONBLOCK)};
}

LiveScreen::~LiveScreen() {
  leave();
  ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

void LiveScreen::enter() {
  if (is_entered_) return;
  is_entered_ = true;
  termios mode{};
  if (::tcgetattr(in_, &mode) == 0) {
    mode_before_ = mode;
    mode.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    // Ctrl-S would stop the picture, and Ctrl-Z leave it behind: it comes as a key.
    mode.c_iflag &= ~static_cast<tcflag_t>(IXON);
    mode.c_cc[VSUSP] = _POSIX_VDISABLE;
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    ::tcsetattr(in_, TCSADRAIN, &mode);
  }
  static_cast<void>(write(kEnter));
}

void LiveScreen::leave() noexcept {
  if (!is_entered_) return;
  is_entered_ = false;
  // Also after it was told to stop: one short write, which a terminal that reads takes at once.
  [[maybe_unused]] const ssize_t written = ::write(out_, kLeave.data(), kLeave.size());
  // TCSAFLUSH would wait for a terminal that reads no more.
  if (mode_before_) ::tcsetattr(in_, TCSANOW, &*mode_before_);
  mode_before_.reset();
}

void LiveScreen::suspend() {
  leave();
  std::raise(SIGTSTP);
  enter();
}

void LiveScreen::drain_size() const noexcept {
  std::array<signalfd_siginfo, 4> changes;
  while (::read(size_fd_.get(), changes.data(), sizeof(changes)) > 0) {
  }
}

bool LiveScreen::show(const std::vector<ScreenLine>& lines, bool is_colored) {
  std::string text{kBeginPicture};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // Each line erases the rest of the previous one.
    text += (i == 0 ? "" : "\r\n");
    text += (is_colored ? styled_line(lines[i]) : plain_line(lines[i])) + "\x1b[K";
  }
  text += kEndPicture;
  return write(text);
}

bool LiveScreen::write(std::string_view text) const noexcept {
  while (!text.empty()) {
    const ssize_t count = ::write(out_, text.data(), text.size());
    if (count < 0 && errno == EINTR && !stop_.load()) continue;
    if (count < 0 && errno == EAGAIN && !stop_.load()) {
      pollfd room{.fd = out_, .events = POLLOUT, .revents = 0};
      ::poll(&room, 1, 100);
      continue;
    }
    if (count < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace larder::tools
