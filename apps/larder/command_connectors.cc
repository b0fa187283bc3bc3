#include <CLI/CLI.hpp>
#include <string>

#include "apps/larder/command.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/connectors_list.h"

namespace larder::cli {
namespace {

class ConnectorsCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command =
        *app.add_subcommand("connectors", "List the connector types and their parameters");
    command.footer(
        "Examples:\n"
        "  larder connectors\n"
        "  larder connectors log\n"
        "  larder connectors --markdown > docs/connectors.md");
    command.add_option("TYPE", type_, "Only this type, with its parameters");
    CLI::Option* const markdown =
        command.add_flag("--markdown", is_markdown_, "As Markdown tables");
    command.add_flag("--json", is_json_, "As a JSON array")->excludes(markdown);
  }

  int run() override {
    using tools::ListFormat;
    const ListFormat format = is_markdown_ ? ListFormat::kMarkdown
                              : is_json_   ? ListFormat::kJson
                                           : ListFormat::kText;
    const auto text = tools::list_connectors(builtin_registry(), type_, format);
    if (!text) return fail(text.error());
    return print(*text, kGood);
  }

 private:
  std::string type_;
  bool is_markdown_ = false;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_connectors_command() {
  return std::make_unique<ConnectorsCommand>();
}

}  // namespace larder::cli
