// The program `larder`: its commands, and where their connectors come from.

#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "apps/larder/command_line.h"
#include "larder/base/version.h"
#include "larder/connectors/builtin.h"
#include "larder/server/l2_adapters.h"
#include "larder/tools/machine_info.h"

namespace larder::cli {
namespace {

int run(const std::vector<std::string>& words) {
  const std::array commands = {make_server_command({.registry = &builtin_registry()}),
                               make_replay_command(),
                               make_size_command(),
                               make_bench_command(),
                               make_inspect_command(),
                               make_stats_command(),
                               make_top_command(),
                               make_doctor_command(),
                               make_format_command(),
                               make_connectors_command(),
                               make_conformance_command(),
                               make_completion_command(),
                               make_man_command()};
  return run_program(
      {.name = "larder",
       .description = "larder: a storage tier for LLM KV caches",
       .version = "larder " + std::string{version()} + " (" + tools::build_commit() + ")",
       .footer = "`larder help COMMAND` shows a command's options, with examples; `larder man` the "
                 "manual.",
       .elsewhere = {},
       .commands = commands},
      words);
}

}  // namespace
}  // namespace larder::cli

int main(int argc, char** argv) {
  try {
    return larder::cli::run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "larder: %s\n", error.what());
    return larder::cli::kBad;
  }
}
