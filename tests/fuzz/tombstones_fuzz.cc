// The keys of a tombstone grain.
#include "larder/connectors/log/format/format.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {

void run(std::span<const std::byte> payload) {
  Bytes rebuilt;
  const auto add = [&](std::span<const std::byte> key) {
    LARDER_CHECK(!key.empty() && key.data() >= payload.data());
    LARDER_CHECK(key.data() + key.size() <= payload.data() + payload.size());
    const auto key_bytes = static_cast<std::uint16_t>(key.size());
    const auto length = std::as_bytes(std::span{&key_bytes, 1});
    rebuilt.insert(rebuilt.end(), length.begin(), length.end());
    rebuilt.insert(rebuilt.end(), key.begin(), key.end());
  };
  const Status split = log_store::for_each_tombstone(
      payload,
      [](void* context, std::span<const std::byte> key) {
        (*static_cast<const decltype(add)*>(context))(key);
      },
      const_cast<void*>(static_cast<const void*>(&add)));
  // What was visited is what stands there, and all of it when there is no flaw.
  LARDER_CHECK(rebuilt.size() <= payload.size());
  LARDER_CHECK(std::ranges::equal(rebuilt, payload.first(rebuilt.size())));
  LARDER_CHECK(split.has_value() == (rebuilt.size() == payload.size()));
}

std::vector<Bytes> seeds() {
  using std::string_view_literals::operator""sv;
  return {to_bytes("\x01\0k"sv), to_bytes("\x03\0key\x05\0other"sv), to_bytes("\0\0k"sv),
          to_bytes("\xFF\xFFk"sv), to_bytes(std::string(4000, '\x01'))};
}

}  // namespace larder::fuzz
