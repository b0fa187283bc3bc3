// Sizes, durations, numbers, fractions and switches as people write them.
#include "larder/base/size_text.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

template <class T>
void check_error(const SetupResult<T>& parsed) {
  LARDER_CHECK(parsed.has_value() || (parsed.error().code == ErrorCode::kInvalidArgument &&
                                      !parsed.error().text.empty()));
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  const auto size = parse_bytes(text);
  check_error(size);
  const auto duration = parse_duration_ns(text);
  check_error(duration);
  const auto integer = parse_integer(text);
  check_error(integer);
  const auto fraction = parse_fraction(text);
  check_error(fraction);
  check_error(parse_bool(text));
  if (fraction) LARDER_CHECK(*fraction >= 0 && *fraction <= 1);
  if (integer) LARDER_CHECK(parse_integer(std::to_string(*integer)) == *integer);

  // Numbers of the texts, and any number at all.
  const auto any = Input{bytes}.take<std::uint64_t>();
  for (const std::uint64_t number : {size.value_or(any), duration.value_or(any)}) {
    LARDER_CHECK(parse_bytes(format_bytes_exact(number)) == number);
    LARDER_CHECK(parse_duration_ns(format_duration_exact(number)) == number);
    LARDER_CHECK(!format_bytes(number).empty() && !format_duration_ns(number).empty());
  }
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const std::string_view text :
       {"4096", "64MiB", "1.5GiB", "1GB",  " 16 eib ", "18446744073709551615", "0.1KiB", "250ms",
        "1.5s", "1h",    "7d",     "10us", "0",        "-9223372036854775808", "25%",    "0.25",
        "1e-3", "yes",   "off",    "true"}) {
    all.push_back(to_bytes(text));
  }
  return all;
}

}  // namespace larder::fuzz
