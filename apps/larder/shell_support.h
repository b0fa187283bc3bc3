#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"

namespace CLI {
class App;
}

/// What is generated from the command line's own description: completion, the manual page, and
/// what to say of a word that is not in it.
namespace larder::cli {

/// The script for "bash", "zsh" or "fish"; an error for another shell.
SetupResult<std::string> completion_script(const CLI::App& app, std::string_view shell);

/// larder(1) in man's macros, with every command, option and example.
std::string manual_page(const CLI::App& app);

/// 'bench has no option "--sizes", did you mean "--size"?' for the first of the words behind the
/// program's name that looks like an option and is none of its command; empty where there is no
/// such.
std::string unknown_option(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace larder::cli
