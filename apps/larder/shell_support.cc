#include "apps/larder/shell_support.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "larder/base/nearest_name.h"
#include "larder/base/version.h"

namespace larder::cli {
namespace {

struct OptionText {
  std::vector<std::string> names;  ///< "-V", "--version"; empty: a positional.
  std::string value;               ///< "SIZE"; empty: a flag.
  std::string help;
  std::string position;  ///< "SPEC"; empty: an option.
};

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); });
}

/// An option in no group is one that the help does not show.
enum class Hidden : std::uint8_t { kLeftOut, kIncluded };

std::vector<OptionText> options_of(const CLI::App& app, Hidden hidden = Hidden::kLeftOut) {
  std::vector<OptionText> options;
  for (const CLI::Option* const option : app.get_options()) {
    if (option->get_group().empty() && hidden == Hidden::kLeftOut) continue;
    OptionText text;
    for (const std::string& name : option->get_snames()) text.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) text.names.push_back("--" + name);
    if (option->get_items_expected_max() > 0) text.value = option->get_type_name();
    if (option->get_items_expected_max() > 0 && text.value.empty()) text.value = "TEXT";
    text.help = option->get_description();
    const std::string& by_default = option->get_default_str();
    if (!by_default.empty() && !text.value.empty()) {
      text.help += by_default.starts_with('[') ? " " + by_default : " [" + by_default + "]";
    }
    if (text.names.empty()) text.position = option->get_name();
    options.push_back(std::move(text));
  }
  return options;
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : std::string{separator}) + word;
  return text;
}

/// `c` in `text` behind a backslash, or as what it is replaced by.
std::string replaced(std::string_view text, char from, std::string_view to) {
  std::string result;
  for (const char c : text) result += c == from ? std::string{to} : std::string(1, c);
  return result;
}

/// Within single quotes of bash and zsh.
std::string shell_quoted(std::string_view text) {
  return "'" + replaced(text, '\'', "'\\''") + "'";
}

// --- Completion ---------------------------------------------------------------------------------

std::string bash_script(const CLI::App& app) {
  std::vector<std::string> names;
  std::string cases;
  for (const CLI::App* const command : commands_of(app)) {
    names.push_back(command->get_name());
    std::vector<std::string> words;
    for (const OptionText& option : options_of(*command)) {
      words.insert(words.end(), option.names.begin(), option.names.end());
    }
    cases += fmt::format("    {}) words='{}' ;;\n", command->get_name(), joined(words, " "));
  }
  return fmt::format(
      R"(# Completion of larder for bash: source <(larder completion bash)
_larder() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words=''
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W '{} help --help --version' -- "$word")
    return
  fi
  case ${{COMP_WORDS[1]}} in
{}  esac
  if [[ ${{COMP_WORDS[1]}} == help ]]; then
    mapfile -t COMPREPLY < <(compgen -W '{}' -- "$word")
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -o filenames -F _larder larder
)",
      joined(names, " "), cases, joined(names, " "));
}

std::string zsh_script(const CLI::App& app) {
  // Inside of [...] a bracket ends the description, and a colon a part of the specification.
  const auto description = [](const std::string& text) {
    return replaced(replaced(replaced(text, '[', "("), ']', ")"), ':', "\\:");
  };
  std::string commands;
  std::string cases;
  for (const CLI::App* const command : commands_of(app)) {
    commands +=
        "    " +
        shell_quoted(command->get_name() + ":" + replaced(command->get_description(), ':', "\\:")) +
        "\n";
    cases += "    " + command->get_name() + ")\n      _arguments -s";
    for (const OptionText& option : options_of(*command)) {
      for (const std::string& name : option.names) {
        std::string line = name;
        if (!option.value.empty() && name.starts_with("--")) line += "=";
        line += "[" + description(option.help) + "]";
        if (!option.value.empty()) line += ":" + description(option.value) + ":_files";
        cases += " \\\n        " + shell_quoted(line);
      }
    }
    cases += " \\\n        '*:argument:_files' ;;\n";
  }
  return fmt::format(
      R"(#compdef larder
# Completion of larder for zsh: larder completion zsh > a directory of $fpath, as _larder
_larder() {{
  local -a commands=(
{}    'help:Show the options of a command'
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
{}    help) _describe command commands ;;
  esac
}}
if [[ ${{funcstack[1]}} == _larder ]]; then _larder "$@"; else compdef _larder larder; fi
)",
      commands, cases);
}

std::string fish_script(const CLI::App& app) {
  const auto fish_quoted = [](std::string_view text) {
    return "'" + replaced(replaced(text, '\\', "\\\\"), '\'', "\\'") + "'";
  };
  std::string text =
      "# Completion of larder for fish: larder completion fish | source\n"
      "complete -c larder -n __fish_use_subcommand -a help -d 'Show the options of a command'\n"
      "complete -c larder -n __fish_use_subcommand -l help -d 'Show the help'\n"
      "complete -c larder -n __fish_use_subcommand -s V -l version -d 'Show the version'\n";
  for (const CLI::App* const command : commands_of(app)) {
    text += fmt::format(
        "complete -c larder -n __fish_use_subcommand -a {} -d {}\n"
        "complete -c larder -n '__fish_seen_subcommand_from help' -f -a {}\n",
        command->get_name(), fish_quoted(command->get_description()), command->get_name());
    for (const OptionText& option : options_of(*command)) {
      if (option.names.empty()) continue;
      text += fmt::format("complete -c larder -n '__fish_seen_subcommand_from {}'",
                          command->get_name());
      for (const std::string& name : option.names) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (!option.value.empty()) text += " -r";
      text += " -d " + fish_quoted(option.help) + "\n";
    }
  }
  return text;
}

// --- The manual ---------------------------------------------------------------------------------

/// A line of text for troff: no macro at its start, no escape in it, hyphens that can be copied.
std::string roff(std::string_view text) {
  std::string result;
  bool is_line_start = true;
  for (const char c : text) {
    if (is_line_start && (c == '.' || c == '\'')) result += "\\&";
    is_line_start = c == '\n';
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
  }
  return result;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kEnvironment{{
    {"LARDER_LOG",
     "What goes to standard error: debug, info, warning (the default), error, or off."},
    {"LARDER_IO",
     "uring or threads: which way transfers take. Without it io_uring where it is allowed, else "
     "threads."},
    {"LARDER_RESP_HOST, LARDER_RESP_PORT, LARDER_RESP_USERNAME",
     "A Redis server, where the spec does not name it. LMCache's LMCACHE_RESP_* come after them."},
    {"LARDER_RESP_PASSWORD, LARDER_RESP_PASSWORD_FILE",
     "Its password, or a file that holds it, which no command line shows."},
    {"HOME", "What ~ at the start of a path in a spec means."},
}};

std::string manual_of_command(const CLI::App& command) {
  std::string usage = "larder " + command.get_name();
  std::string text;
  for (const OptionText& option : options_of(command)) {
    if (!option.position.empty()) usage += " " + option.position;
    const std::string name = option.position.empty() ? joined(option.names, ", ") : option.position;
    text += ".TP\n\\fB" + roff(name) + "\\fR";
    if (option.position.empty() && !option.value.empty())
      text += " \\fI" + roff(option.value) + "\\fR";
    text += "\n" + roff(option.help) + "\n";
  }
  return ".SS \"" + roff(usage + " [OPTIONS]") + "\"\n" + roff(command.get_description()) + ".\n" +
         text + ".PP\n.nf\n" + roff(command.get_footer()) + "\n.fi\n";
}

}  // namespace

SetupResult<std::string> completion_script(const CLI::App& app, std::string_view shell) {
  if (shell == "bash") return bash_script(app);
  if (shell == "zsh") return zsh_script(app);
  if (shell == "fish") return fish_script(app);
  return SetupError{
      ErrorCode::kInvalidArgument,
      "there is no completion for '" + std::string{shell} + "'; expected bash, zsh or fish"};
}

std::string manual_page(const CLI::App& app) {
  std::string text =
      ".TH LARDER 1 \"\" \"larder " + std::string{version()} + "\" \"User Commands\"\n";
  text += ".SH NAME\nlarder \\- the storage tier for LLM KV caches\n";
  text +=
      ".SH SYNOPSIS\n.B larder\n.I COMMAND\n[\\fIOPTIONS\\fR]\n.br\n.B larder "
      "help\n[\\fICOMMAND\\fR]\n"
      ".br\n.B larder \\-\\-version\n";
  text += ".SH DESCRIPTION\n";
  text += roff(
      "larder keeps the attention keys and values of prompts on a disk of your own, so that a "
      "serving engine loads the prefix of a request instead of computing it again. A SPEC names a "
      "store and how it is configured, as a URL (log:/data/kv?capacity=200GiB) or as JSON; `larder "
      "connectors` lists the types and their parameters.\n");
  text += ".SH COMMANDS\n";
  for (const CLI::App* const command : commands_of(app)) text += manual_of_command(*command);
  text += ".SH ENVIRONMENT\n";
  for (const auto& [name, help] : kEnvironment) {
    text += ".TP\n\\fB" + roff(name) + "\\fR\n" + roff(help) + "\n";
  }
  text += ".SH \"EXIT STATUS\"\n";
  text += ".TP\n0\nAll is well.\n.TP\n1\nThe thing that was checked is bad, or broke.\n";
  text += ".TP\n2\nThe command line is wrong.\n";
  text += ".TP\n129, 130, 143\nEnded by SIGHUP, SIGINT or SIGTERM; stores were closed.\n";
  text += ".SH \"SEE ALSO\"\n" +
          roff("The documentation that comes with the sources: README.md and docs/.\n");
  return text;
}

std::string unknown_option(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* owner = &app;
  for (const std::string& word : words) {
    if (word == "--") return {};
    if (!word.starts_with("-")) {
      const auto commands = commands_of(app);
      const auto found = std::ranges::find(commands, word, &CLI::App::get_name);
      if (owner == &app && found != commands.end()) owner = *found;
      continue;
    }
    const std::string name = word.substr(0, word.find('='));
    std::vector<std::string> names;
    for (const OptionText& option : options_of(*owner, Hidden::kIncluded)) {
      names.insert(names.end(), option.names.begin(), option.names.end());
    }
    if (!name.starts_with("--") || std::ranges::find(names, name) != names.end()) continue;
    std::vector<std::string_view> candidates;
    for (const std::string& one : names) {
      if (one.starts_with("--")) candidates.emplace_back(one);
    }
    const std::string_view nearest = nearest_name(name, candidates);
    const std::string command = owner == &app ? "larder" : owner->get_name();
    return command + " has no option \"" + name + "\"" +
           (nearest.empty() ? "" : ", did you mean \"" + std::string{nearest} + "\"?");
  }
  return {};
}

}  // namespace larder::cli
