#pragma once

#include <string>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/directory.h"

namespace larder::fs {

/// A file that is being written and that no lookup finds until it is published; removed unless it
/// was.
///
/// It has no name where the file system allows that (O_TMPFILE): the kernel removes it whatever
/// happens to the process, and one change of the directory publishes it. Otherwise it has a
/// temporary name. One thread.
class Draft {
 public:
  enum class Kind : std::uint8_t { kUnnamed = 0, kNamed };

  /// `kUnnamed` is a wish.
  static Result<Draft> create(const Directory& directory, mode_t mode, bool is_direct, Kind kind);
  /// Whether unnamed files can be made and published here.
  static bool can_be_unnamed(const Directory& directory) noexcept;
  ~Draft();
  Draft(Draft&& other) noexcept;
  Draft& operator=(Draft&&) = delete;
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  int fd() const noexcept { return fd_.get(); }
  bool is_direct() const noexcept { return is_direct_; }
  /// Call it after the last write. Late write errors of network file systems are reported here, and
  /// the time that they take to send is spent here, not while the file gets its name.
  Status finish() noexcept;
  /// Gives the finished file its name. EEXIST: the name is taken now, and it was not to be
  /// replaced, or `is_taken` did not say so; may be retried.
  Status publish(int folder_fd, const std::string& name, bool replace, bool is_taken) noexcept;

 private:
  Draft(int folder_fd, bool is_direct);
  Status link_to(int folder_fd, const std::string& name) noexcept;

  int folder_fd_;
  bool is_direct_;
  std::string name_;  ///< The temporary one, if it has one.
  UniqueFd fd_;       ///< A named file's is closed before it is published.
  bool has_name_ = false;
};

}  // namespace larder::fs
