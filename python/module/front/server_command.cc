#include "module/front/server_command.h"

#include <array>
#include <string>
#include <vector>

#include "apps/larder/command_line.h"
#include "larder/server/l2_adapters.h"
#include "module/back/python_registry.h"
#include "module/common/python_thread.h"
#include "module/common/reference.h"
#include "module/front/results.h"

namespace larder::python {
namespace {

/// The bytes that the process was started with, whatever they are.
std::vector<std::string> words_of(PyObject* argv) {
  const Reference all = Reference::steal(PySequence_Fast(argv, "argv: wanted a list of str"));
  throw_unless(static_cast<bool>(all));
  std::vector<std::string> words;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(all.get()); ++i) {
    PyObject* const item = PySequence_Fast_GET_ITEM(all.get(), i);
    const Reference word = Reference::steal(PyUnicode_EncodeFSDefault(item));
    throw_unless(static_cast<bool>(word));
    words.emplace_back(PyBytes_AS_STRING(word.get()),
                       static_cast<std::size_t>(PyBytes_GET_SIZE(word.get())));
  }
  return words;
}

SetupResult<Spec> resolve(std::string_view text) {
  const WithGil with_gil;
  return resolve_spec(text);
}

}  // namespace

int run_server(nanobind::handle argv) {
  const std::vector<std::string> words = words_of(argv.ptr());
  const std::array commands{
      cli::make_server_command({.registry = &python_registry(), .resolve = resolve})};
  const WithoutGil without_gil;
  return cli::run_program(
      {.name = "python -m larder",
       .description = "larder's server, with connectors that are written in Python",
       .version = "larder " LARDER_VERSION,
       .footer = "The command `larder` has the other commands, and `larder server` without Python.",
       .elsewhere = "the command larder has the others",
       .commands = commands},
      words);
}

}  // namespace larder::python
