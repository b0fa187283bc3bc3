#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace larder {

/// What failed, in the caller's terms. The numbers are metrics labels and cross the Python border:
/// append only. A cache miss is not an error.
enum class ErrorCode : std::uint8_t {
  kNone = 0,
  kInvalidArgument = 1,    ///< Can never succeed as asked; fix the caller.
  kResourceExhausted = 2,  ///< A limit was hit: memory, queue, quota, disk space.
  kUnavailable = 3,  ///< The device or the peer is gone or slow; the same call may succeed later.
  kDeadlineExceeded = 4,  ///< Gave up waiting. The operation may still have taken effect.
  kCancelled = 5,         ///< The caller or a shutdown ended it.
  kCorruption = 6,        ///< The stored bytes fail their checksum or identity.
  kIo = 7,                ///< The kernel returned an error; see sys_errno().
  kInternal = 8,          ///< A broken invariant that was safe to survive. Always a bug.
  kUnimplemented = 9,     ///< This connector cannot do that.
  kSizeMismatch = 10,     ///< The stored value and the buffers differ in size.
};

/// The code's lower-case name as it stands in metrics and reports, e.g. "deadline_exceeded".
std::string_view error_code_name(ErrorCode code) noexcept;

/// The process, or the machine, has no descriptors left: a lack of the moment.
constexpr bool lacks_descriptors(int sys_errno) noexcept {
  return sys_errno == EMFILE || sys_errno == ENFILE;
}

/// The system's text for an errno, e.g. "No space left on device", with the remedy where the
/// process has no descriptors left. Allocates; for people.
std::string errno_text(int sys_errno);

/// 24 bytes, trivially copyable, never allocates: cheap enough for every key of a batch. `where`
/// and `what` must be string literals. The doors add key, sizes and remedy.
class Error {
 public:
  constexpr Error() noexcept = default;
  constexpr Error(ErrorCode code, const char* where, const char* what) noexcept
      : where_(where), what_(what), code_(code) {}

  /// From a positive errno (system calls) or a negative one (io_uring results).
  static constexpr Error from_errno(int sys_errno, const char* where, const char* what) noexcept {
    const int positive = sys_errno < 0 ? -sys_errno : sys_errno;
    Error error{code_of_errno(positive), where, what};
    error.sys_errno_ = positive;
    return error;
  }

  constexpr ErrorCode code() const noexcept { return code_; }
  constexpr int sys_errno() const noexcept { return sys_errno_; }
  constexpr std::string_view where() const noexcept { return where_; }
  constexpr std::string_view what() const noexcept { return what_; }

  /// True when the same call, unchanged, may succeed later. Retry loops ask this, never the code.
  constexpr bool is_retryable() const noexcept {
    return code_ == ErrorCode::kUnavailable || code_ == ErrorCode::kResourceExhausted;
  }

  /// "log: reading a record: Input/output error (errno 5)". Allocates; for people, not per key.
  std::string to_string() const;

 private:
  static constexpr ErrorCode code_of_errno(int e) noexcept {
    switch (e) {
      case ENOSPC:
      case EDQUOT:
      case ENOMEM:
      case EMFILE:
      case ENFILE:
      case EAGAIN:
        return ErrorCode::kResourceExhausted;
      case ETIMEDOUT:
        return ErrorCode::kDeadlineExceeded;
      // EINVAL and ECANCELED too: a file system that refuses or cancels a call does not make the
      // caller's argument wrong, nor the caller the one that cancelled.
      default:
        return ErrorCode::kIo;
    }
  }

  const char* where_ = "";
  const char* what_ = "";
  int sys_errno_ = 0;
  ErrorCode code_ = ErrorCode::kNone;
};
static_assert(sizeof(Error) == 24);

/// An error of start-up code (specs, options, opening a store), where a person reads the text: one
/// sentence or two that name the thing, the value it had, and the remedy. Allocates.
struct SetupError {
  ErrorCode code = ErrorCode::kInternal;
  std::string text;
};

/// A value or an error. Dropping one does not compile (-Werror=unused-result).
template <class T, class E = Error>
class [[nodiscard]] Result : public tl::expected<T, E> {
 public:
  using tl::expected<T, E>::expected;
  Result(E error) : tl::expected<T, E>(tl::unexpected<E>(std::move(error))) {}

  /// The only way to drop an error on purpose; `why` makes each such place easy to find.
  void ignore([[maybe_unused]] std::string_view why) const noexcept {}
};

using Status = Result<void>;

template <class T>
using SetupResult = Result<T, SetupError>;
using SetupStatus = Result<void, SetupError>;

}  // namespace larder

/// Returns the error of `expression` from the enclosing function, or continues.
#define LARDER_TRY(expression)                                                  \
  do {                                                                          \
    if (auto larder_try_result = (expression); !larder_try_result) [[unlikely]] \
      return std::move(larder_try_result).error();                              \
  } while (false)

#define LARDER_CONCAT_INNER(a, b) a##b
#define LARDER_CONCAT(a, b) LARDER_CONCAT_INNER(a, b)

// NOLINTBEGIN(bugprone-macro-parentheses): a declaration in parentheses is none.
/// LARDER_ASSIGN(auto value, call()); declares or assigns `value`, or returns the error.
#define LARDER_ASSIGN(target, expression) \
  LARDER_ASSIGN_INNER(LARDER_CONCAT(larder_result_, __LINE__), target, expression)
#define LARDER_ASSIGN_INNER(temporary, target, expression) \
  auto temporary = (expression);                           \
  if (!temporary) [[unlikely]]                             \
    return std::move(temporary).error();                   \
  target = std::move(temporary).value()
// NOLINTEND(bugprone-macro-parentheses)
