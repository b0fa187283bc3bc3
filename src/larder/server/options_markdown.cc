#include "larder/server/options_markdown.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "larder/server/lmcache_adapter.h"
#include "larder/server/option_table.h"

namespace larder::server {
namespace {

constexpr std::string_view kIntroduction =
    R"(# Options of `larder server`

`larder server` takes the place of `lmcache server` and knows all of its options (those of 0.5.6 and 0.5.7). This page lists what larder
does with each. `larder server --help` shows those that are honoured, and `larder server --markdown` writes this page.

## Where they stand
| place | written | several values |
|---|---|---|
| command line | `--l1-size-gb 8` | the option again |
| environment | `LARDER_L1_SIZE_GB=8` | `LARDER_L2_ADAPTER`: one a line |
| file | `l1_size_gb = 8` | a list, or `[[l2_adapter]]` tables |

The command line wins over the environment, the environment over the file, the file over the defaults. The values of one option all come from one
place: an `--l2-adapter` on the command line replaces all those of the file.

The file is TOML and is read only when `--config` or `LARDER_CONFIG` names it. [examples/larder.toml](../examples/larder.toml) is one, with
comments. `--check` prints the configuration that results, as JSON and without passwords, and starts nothing:

```
larder server --config examples/larder.toml --check
```

An unknown option or key is an error that names the nearest one. An unknown `LARDER_` variable cannot be one, since Kubernetes makes
`LARDER_SERVICE_HOST` and `LARDER_PORT=tcp://...` for a service of that name; a line in the log says when one looks misspelled. An empty
variable is not set.

Sizes in `_gb` are GiB (2^30), as in LMCache: `8`, `0.5`; `8GiB` and `512MiB` are understood too. Seconds may have a fraction or a unit: `0.5`, `2m`.

Other users of the machine see a command line. A password belongs in a file (`password_file=` of `redis:`), in `LARDER_RESP_PASSWORD`, or
in a configuration file that only the server's user can read.
)";

constexpr std::string_view kNotNeeded =
    R"(
## Accepted, nothing to set
These options of LMCache tune parts that larder does not have. Each is accepted with one line in the log.

| option | why |
|---|---|
)";

constexpr std::string_view kRefused =
    R"(
## Not honoured
What these ask for would silently be missing, so they stop the start. A value that asks for nothing (an empty one, `--no-...`, or the one named
here) is accepted.

| option | accepted | instead |
|---|---|---|
)";

constexpr std::string_view kAdapters =
    R"(
Of LMCache's environment variables, `LMCACHE_COORDINATOR_URL` and `LMCACHE_API_KEY` (also `LMCACHE_API_KEY_FILE` and the older
`LMCACHE_HTTP_API_KEY` and `LMCACHE_HTTP_API_KEY_FILE`) stop the start likewise.

## `--l2-adapter`
A store is a [spec](specs.md), as a URL or as JSON, with what its type takes ([connectors.md](connectors.md)). LMCache's JSON for `fs`,
`fs_native`, `resp`, `mock` and `fault_inject` works as it is. Five parameters are the server's:

| parameter | default | what it does |
|---|---|---|
| `load` | yes | no: nothing is looked up or loaded there |
| `store` | yes | no: nothing is stored there |
| `min_hits` | 0 | store a chunk only after so many lookups found it in L1 |
| `fill` | never | second_hit or always: a chunk that was found in a later store and stays in L1 is stored here too |
| `touch` | yes | no: it is not told which of its chunks L1 serves, so that its own eviction does not count them as used |

`tiered:` has parameters of these names itself (but for `touch`); they are its own there.

LMCache's common keys:

| key | |
|---|---|
| `eviction` | larder's stores evict by themselves when their capacity is reached, so the block needs a capacity (`max_capacity_gb` or `capacity`); LRU and ARC are accepted, IsolatedLRU is refused. `resp` is refused: bound the Redis server (`maxmemory`, `maxmemory-policy allkeys-lru`) |
| `serde` | refused |
| `persist_enabled`, `shared` | accepted |
| `affinity_tag` | `_default` only |

`plugin` and `native_plugin` that name `larder.lmcache` (`Connector` or `L2Adapter`) open the store of their `adapter_params` directly, so a
configuration of `lmcache server` with larder in it works unchanged. Other classes are connectors in Python: they need a server that was started with
`python -m larder server` ([server.md](server.md#connectors-in-python)). Such a spec runs code: it is accepted on the command line and in the file, and
not from the environment.

Types of LMCache that larder does not have stop the start:

| type | instead |
|---|---|
)";

/// Within a table a bar would end the cell.
std::string cell(std::string_view text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string{"\\|"} : std::string(1, c);
  return result;
}

std::string name_cell(const OptionRow& row) {
  std::string text = "`--" + std::string{row.name} + "`";
  if (row.shape == OptionShape::kSwitch) text += ", `--no-" + std::string{row.name} + "`";
  return text;
}

std::string group_table(std::string_view group) {
  std::string text = "\n## " + std::string{group} +
                     "\n| option | value | default | what it does |\n|---|---|---|---|\n";
  for (const OptionRow& row : option_rows()) {
    if (row.group != group) continue;
    text += "| " + name_cell(row) + " | " + cell(row.value) + " | " + cell(row.default_text) +
            " | " + cell(row.help) + " |\n";
  }
  return text;
}

std::vector<std::string_view> groups() {
  std::vector<std::string_view> found;
  for (const OptionRow& row : option_rows()) {
    if (row.use == OptionUse::kHonoured && std::ranges::find(found, row.group) == found.end()) {
      found.push_back(row.group);
    }
  }
  return found;
}

}  // namespace

std::string options_markdown() {
  std::string text{kIntroduction};
  for (const std::string_view group : groups()) text += group_table(group);
  text += kNotNeeded;
  for (const OptionRow& row : option_rows()) {
    if (row.use != OptionUse::kNotNeeded) continue;
    text += "| " + name_cell(row) + " | " + cell(row.help) + " |\n";
  }
  text += kRefused;
  for (const OptionRow& row : option_rows()) {
    if (row.use != OptionUse::kRefused) continue;
    const std::string harmless = row.harmless.empty() ? "" : "`" + std::string{row.harmless} + "`";
    text += "| " + name_cell(row) + " | " + harmless + " | " + cell(row.help) + " |\n";
  }
  text += kAdapters;
  for (const auto& [type, instead] : absent_types()) {
    text += "| `" + std::string{type} + "` | " + cell(instead) + " |\n";
  }
  return text;
}

}  // namespace larder::server
