#include "larder/connectors/log/machine/setup_error.h"

#include <cerrno>

namespace larder::log_store {
namespace {

const char* remedy_of(int sys_errno) {
  switch (sys_errno) {
    case EACCES:
    case EPERM:
    case EROFS:
      return ": run as its owner, or name another directory";
    case EMFILE:
    case ENFILE:
      return ": a store has a file open for each of its segments";
    default:
      return "";
  }
}

}  // namespace

SetupError setup_error(const std::string& where, const std::string& what, const Error& cause) {
  return {cause.code(),
          "log: " + where + ": " + what + ": " + cause.to_string() + remedy_of(cause.sys_errno())};
}

}  // namespace larder::log_store
