#include "larder/tools/format_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/log_connector.h"
#include "larder/connectors/log/offline/store_maker.h"
#include "larder/tools/doctor.h"
#include "larder/tools/progress.h"
#include "larder/tools/target.h"

namespace larder::tools {
namespace {

constexpr const char* kExampleCapacity = "200GiB";

SetupError invalid(std::string text) {
  return {ErrorCode::kInvalidArgument, "format: " + std::move(text)};
}

/// With the directory as its location.
SetupResult<Spec> spec_of(const FormatOptions& options) {
  const std::string_view type = log_store::connector_type().name;
  Spec spec;
  if (is_spec(options.target)) {
    if (!options.capacity.empty()) {
      return invalid(
          "--capacity is for a directory; a spec has it itself, as in log:DIR?capacity=" +
          options.capacity);
    }
    LARDER_ASSIGN(spec, Spec::parse(options.target));
    if (spec.type() != type) {
      return invalid("'" + spec.type() + "' needs no store to be made; only log: does");
    }
    return spec;
  }
  if (options.capacity.empty()) {
    return invalid("how large? Add --capacity, as in: larder format " + shell_word(options.target) +
                   " --capacity " + kExampleCapacity + (options.is_forced ? " --force" : ""));
  }
  spec.set_type(std::string{type});
  spec.set("", options.target);
  spec.set("capacity", options.capacity);
  return spec;
}

std::string text_of(const FormatOptions& options, const std::string& url,
                    const log_store::MakeOptions& made_with, const log_store::MadeStore& made) {
  const log_store::Geometry& geometry = made.geometry;
  const std::string& where = made_with.device.directory;
  const std::uint64_t capacity = geometry.capacity_bytes;
  const std::uint64_t min_free = made_with.path.min_free_bytes;
  const bool is_too_large = !options.is_prefilled && capacity + min_free > made.free_bytes;
  if (options.is_json) {
    return nlohmann::json{{"ok", true},
                          {"directory", where},
                          {"spec", url},
                          {"capacity_bytes", capacity},
                          {"segment_count", geometry.segment_count},
                          {"slot_bytes", geometry.slot_bytes},
                          {"segment_bytes", geometry.segment_bytes},
                          {"grain_bytes", geometry.grain_bytes},
                          {"value_bytes_max", geometry.value_bytes_limit},
                          {"file_system", made.file_system},
                          {"direct", made.is_direct},
                          {"segments_removed", made.segments_removed},
                          {"prefilled_bytes", made.written_bytes},
                          {"free_bytes", made.free_bytes},
                          {"exceeds_free_space", is_too_large}}
               .dump(2, ' ', true, nlohmann::json::error_handler_t::replace) +
           "\n";
  }
  std::string text = fmt::format(
      "made a store in {} ({}, {} I/O): {} of {}, {} in all, grain {}, values up to {}\n",
      printable(where), made.file_system, made.is_direct ? "direct" : "buffered",
      format_count(geometry.segment_count, "segment"), format_bytes(geometry.slot_bytes),
      format_bytes(capacity), geometry.grain_bytes, format_bytes(geometry.value_bytes_limit));
  if (made.segments_removed > 0) {
    text += fmt::format("replaced a store of {}\n", format_count(made.segments_removed, "segment"));
  }
  if (options.is_prefilled) {
    text += fmt::format("wrote every segment once ({})\n", format_bytes(made.written_bytes));
  }
  if (is_too_large) {
    text += fmt::format(
        "note: the file system has {} free, which is less than capacity and min_free={} together: "
        "the store is not going to grow to its capacity\n",
        format_bytes(made.free_bytes), format_bytes_exact(min_free));
  }
  return text + "use it as: " + url + "\n";
}

}  // namespace

SetupResult<std::string> format_store(const FormatOptions& options,
                                      const std::atomic<bool>& is_stop_requested) {
  const ConnectorType& type = log_store::connector_type();
  LARDER_ASSIGN(Spec spec, spec_of(options));
  const std::string url = spec.to_url();
  Spec with_capacity = spec;
  with_capacity.set("capacity", kExampleCapacity);
  LARDER_TRY(spec.rename_location(type.location_parameter));
  LARDER_ASSIGN(const Parameters parameters, Parameters::parse(spec, type.parameters));
  if (!parameters.has("capacity")) {  // The settings of an existing store do not count here.
    return invalid("how large? The spec needs a capacity, as in: larder format " +
                   shell_word(with_capacity.to_url()) + (options.is_forced ? " --force" : ""));
  }
  const log_store::LogSettings settings = log_store::settings_of(parameters);
  LARDER_ASSIGN(NewDirectories directories, log_store::make_directory(parameters));
  const log_store::MakeOptions make{.path = settings.path,
                                    .device = settings.device,
                                    .is_forced = options.is_forced,
                                    .is_prefilled = options.is_prefilled};
  Progress progress{"prefilling", options.is_quiet};
  const Clock& clock = RealClock::instance();
  const std::uint64_t start_ns = clock.now_ns();
  const auto made = log_store::make_new_store(make, [&](std::uint64_t done, std::uint64_t total) {
    if (progress.is_due()) {
      const double seconds = static_cast<double>(clock.now_ns() - start_ns) / 1e9;
      progress.update(done, total,
                      fmt::format("{:.2f} GB/s", static_cast<double>(done) / 1e9 / seconds));
    }
    return !is_stop_requested;
  });
  progress.finish();
  if (!made) {
    directories.undo();  // Empty ones only: an interrupted prefill leaves a good store.
    return made.error();
  }
  return text_of(options, url, make, *made);
}

}  // namespace larder::tools
