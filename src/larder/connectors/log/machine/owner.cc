#include "larder/connectors/log/machine/owner.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>

namespace larder::log_store {
namespace {

constexpr std::string_view kPid = "pid ";

std::string on_this_host() {
  std::array<char, HOST_NAME_MAX + 1> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return {};
  return std::string{" on host "} + host.data();
}

/// False if that cannot be known: another host's process, or no note at all.
bool has_ended(std::string_view note) {
  if (!note.starts_with(kPid)) return false;
  ::pid_t pid = 0;
  const auto [rest, error] =
      std::from_chars(note.data() + kPid.size(), note.data() + note.size(), pid);
  const std::string_view host{rest, note.data() + note.size()};
  if (error != std::errc{} || pid <= 0 || host != on_this_host()) return false;
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

}  // namespace

std::string note_of_this_process() {
  return std::string{kPid} + std::to_string(::getpid()) + on_this_host();
}

std::string in_use_here(const std::string& directory, bool may_be_opening) {
  return "log: " + directory + " is in use by this process itself (" + note_of_this_process() +
         "), which opened it before: use that store, or close it first and wait for the close to "
         "end" +
         (may_be_opening ? "; if that open was given up, try again when the disk answers" : "");
}

std::string in_use_elsewhere(const std::string& directory, std::string_view note) {
  if (has_ended(note)) {
    return "log: " + directory + " is in use, and its last owner (" + std::string{note} +
           ") has ended: its last writes may still be on the way, or another container has the "
           "store; try again in a moment, then see who has it with: sudo fuser -v " +
           directory + "/superblock";
  }
  return "log: " + directory + " is in use by another process" +
         (note.empty() ? std::string{} : " (" + std::string{note} + ")") +
         ": stop that process, or give each process a directory of its own";
}

}  // namespace larder::log_store
