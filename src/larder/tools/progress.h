#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace larder::tools {

/// The longest line that a terminal with so many columns shows without breaking it: text beyond
/// that is left out, the bar first and the end of the detail last.
std::string progress_line(std::string_view title, double share, std::string_view detail,
                          std::size_t columns);

/// Reports the progress of long work on stderr: one line that is redrawn on a terminal, a plain
/// line every few seconds elsewhere. Cheap to call often. One thread at a time.
class Progress {
 public:
  /// `is_quiet`: prints nothing at all.
  Progress(std::string title, bool is_quiet);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `detail` is shown behind the bar, e.g. "1.2 GB/s".
  void update(std::uint64_t done, std::uint64_t total, std::string_view detail);
  /// Whether update() would write now; ask before building an expensive detail.
  bool is_due() const;
  void retitle(std::string title) { title_ = std::move(title); }
  /// Takes the bar off the terminal.
  void finish();

 private:
  std::string title_;
  const bool is_quiet_;
  const bool is_terminal_;
  std::uint64_t next_ns_ = 0;
  bool is_drawn_ = false;
};

}  // namespace larder::tools
