#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/larder/command.h"

/// What reads a command line, for the program `larder` and for `python -m larder`.
namespace larder::cli {

struct Program {
  std::string name;         ///< As a person starts it: "larder".
  std::string description;  ///< Behind the name.
  std::string version;      ///< What `--version` prints.
  std::string footer;       ///< Below the help.
  std::string elsewhere;    ///< Behind the list of commands when a word is none; may be empty.
  std::span<const std::unique_ptr<Command>> commands;
};

/// Runs the command that the words behind the program's name ask for, in the calling thread;
/// returns the exit code. No exception leaves it.
///
/// Takes over SIGINT, SIGTERM and SIGHUP (but for those that are ignored), ignores SIGPIPE, and
/// leaves it so, because the process is to end with the code that is returned: the first of these
/// signals sets stop_requested(), one that comes more than a second later ends the process. Hence
/// once in a process.
int run_program(const Program& program, const std::vector<std::string>& words) noexcept;

}  // namespace larder::cli
