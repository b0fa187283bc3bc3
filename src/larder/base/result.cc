#include "larder/base/result.h"

#include <system_error>

namespace larder {

std::string_view error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kNone:
      return "none";
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kResourceExhausted:
      return "resource_exhausted";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kDeadlineExceeded:
      return "deadline_exceeded";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kCorruption:
      return "corruption";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kInternal:
      return "internal";
    case ErrorCode::kUnimplemented:
      return "unimplemented";
    case ErrorCode::kSizeMismatch:
      return "size_mismatch";
  }
  return "unknown";
}

std::string errno_text(int sys_errno) {
  std::string text = std::generic_category().message(sys_errno);
  if (lacks_descriptors(sys_errno)) text += " (raise the limit: ulimit -n)";
  return text;
}

std::string Error::to_string() const {
  std::string text{where_};
  text += ": ";
  text += what_;
  if (sys_errno_ != 0) {
    text += ": " + errno_text(sys_errno_) + " (errno " + std::to_string(sys_errno_) + ")";
  }
  return text;
}

}  // namespace larder
