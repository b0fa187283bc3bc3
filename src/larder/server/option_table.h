#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/server/options.h"

namespace larder::server {

/// How larder treats an option.
enum class OptionUse : std::uint8_t {
  kHonoured = 0,
  kNotNeeded,  ///< An LMCache option without a counterpart here: accepted, with a line in the log.
  kRefused,    ///< One that larder cannot honour: stops the start, unless its value is harmless.
};

enum class OptionShape : std::uint8_t {
  kValue = 0,  ///< `--name VALUE`. The last one counts.
  kFlag,       ///< `--name`.
  kSwitch,     ///< `--name` and `--no-name`.
  kRepeated,   ///< `--name VALUE`, any number of times.
  kList,       ///< `--name VALUE...`
};

/// The options while they are read: those that only make sense together are combined at the end.
struct OptionDraft {
  ServerOptions options;
  std::optional<double> eviction_trigger;  ///< Share of L1.
  std::optional<double> eviction_ratio;    ///< Share of the memory in use.
};

/// One option: `--l1-size-gb` on the command line, `l1_size_gb` in larder.toml, LARDER_L1_SIZE_GB
/// in the environment. The names are LMCache's, where LMCache has the option.
struct OptionRow {
  std::string_view name;  ///< "l1-size-gb"
  OptionUse use = OptionUse::kHonoured;
  OptionShape shape = OptionShape::kValue;
  std::string_view value = {};         ///< What it takes, for the help: "GIB". Flags: empty.
  std::string_view group = {};         ///< Heading in the help; only for honoured options.
  std::string_view default_text = {};  ///< As a user would write it; empty: none.
  /// kHonoured: its effect. kNotNeeded: why nothing has to be set. kRefused: what larder lacks, and
  /// what to use instead. Sentences.
  std::string_view help = {};
  /// kRefused: a value that asks for nothing, such as "zmq". So do an empty one and an off switch.
  std::string_view harmless = {};
  /// kHonoured: reads one value; the error is only the reason. Null for those that read_options()
  /// reads itself: l2-adapter, l1-manager and config.
  SetupStatus (*set)(OptionDraft& draft, std::string_view text) = nullptr;
};

/// Every option that `larder server` knows: the honoured ones in the order of the help, then
/// LMCache's others.
std::span<const OptionRow> option_rows();
/// By its name on the command line. Null: there is none.
const OptionRow* find_option(std::string_view name) noexcept;

/// "l1_size_gb"
std::string key_of(const OptionRow& row);
/// "LARDER_L1_SIZE_GB"
std::string variable_of(const OptionRow& row);

/// LMCache's, not honoured (stock_options.cc).
std::span<const OptionRow> stock_rows() noexcept;

}  // namespace larder::server
