// `completion` and `man`: what is generated from the other commands' own descriptions.
#include <CLI/CLI.hpp>
#include <string>

#include "apps/larder/command.h"
#include "apps/larder/shell_support.h"

namespace larder::cli {
namespace {

class CompletionCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    app_ = &app;
    CLI::App& command = *app.add_subcommand("completion", "Print the completion script of a shell");
    command.footer(
        "Examples:\n"
        "  source <(larder completion bash)\n"
        "  mkdir -p ~/.zfunc && larder completion zsh > ~/.zfunc/_larder\n"
        "  mkdir -p ~/.config/fish/completions && larder completion fish > "
        "~/.config/fish/completions/larder.fish\n\n"
        "For bash the line stands in ~/.bashrc, for zsh ~/.zshrc needs fpath+=~/.zfunc before "
        "compinit.");
    command.add_option("SHELL", shell_, "bash, zsh or fish")->required();
  }

  int run() override {
    const auto script = completion_script(*app_, shell_);
    return script ? print(*script, kGood) : fail(script.error());
  }

 private:
  const CLI::App* app_ = nullptr;
  std::string shell_;
};

class ManCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    app_ = &app;
    CLI::App& command = *app.add_subcommand("man", "Print the manual page");
    command.footer(
        "Examples:\n"
        "  larder man | man -l -                          # to read it\n"
        "  mkdir -p ~/.local/share/man/man1 && larder man > ~/.local/share/man/man1/larder.1\n\n"
        "After the second, `man larder` finds it.");
  }

  int run() override { return print(manual_page(*app_), kGood); }

 private:
  const CLI::App* app_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_completion_command() {
  return std::make_unique<CompletionCommand>();
}

std::unique_ptr<Command> make_man_command() {
  return std::make_unique<ManCommand>();
}

}  // namespace larder::cli
