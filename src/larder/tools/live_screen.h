#pragma once

#include <termios.h>

#include <atomic>
#include <csignal>
#include <optional>
#include <string_view>
#include <vector>

#include "larder/base/unique_fd.h"
#include "larder/tools/screen_text.h"
#include "larder/tools/terminal.h"

namespace larder::tools {

/// A terminal that shows one picture, on its alternate screen: the earlier content is restored
/// afterwards, as are the cursor and the input mode. Keys come without waiting for a line's end and
/// are not shown.
///
/// While it lives, the thread learns of changes of the window through size_fd() and not by a signal
/// (other threads of larder's take no signals). Threads: one.
class LiveScreen {
 public:
  /// `in`: where keys come from, if it is a terminal. Writing to `out` ends with `stop`, also where
  /// the terminal takes no more.
  LiveScreen(int in, int out, const std::atomic<bool>& stop);
  /// leave()
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  void enter();
  /// Puts everything back. Idempotent.
  void leave() noexcept;
  /// As a shell expects for Ctrl-Z: leave(), stop the process, and enter() when it continues.
  void suspend();

  TerminalSize size() const noexcept { return terminal_size(out_); }
  /// Readable when the window has another size, until drain_size().
  int size_fd() const noexcept { return size_fd_.get(); }
  void drain_size() const noexcept;

  /// Shows the lines in place of all others. False: the terminal is gone, or `stop` was set.
  bool show(const std::vector<ScreenLine>& lines, bool is_colored);

 private:
  bool write(std::string_view text) const noexcept;

  const int in_;
  const int out_;
  const std::atomic<bool>& stop_;
  UniqueFd size_fd_;
  sigset_t mask_before_{};
  std::optional<termios> mode_before_;
  bool is_entered_ = false;
};

}  // namespace larder::tools
