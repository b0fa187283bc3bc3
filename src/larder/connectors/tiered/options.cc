#include "larder/connectors/tiered/options.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"

namespace larder::tiered {
namespace {

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, "tiered: " + std::move(text)};
}

std::vector<std::string_view> items_of(std::string_view text) {
  std::vector<std::string_view> items;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    items.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

/// `read` turns one item into an optional T.
template <class T, class Read>
SetupResult<std::vector<T>> read_list(std::string_view name, std::string_view text,
                                      std::size_t tiers, std::string_view kind, const Read& read) {
  const std::string given = std::string{name} + "=" + printable(text.substr(0, 64));
  std::vector<T> values;
  for (const std::string_view item : items_of(text)) {
    const std::optional<T> value = read(item);
    if (!value) return wrong(given + ": expected " + std::string{kind});
    values.push_back(*value);
  }
  if (values.size() == 1) values.resize(tiers, values.front());
  if (values.size() != tiers) {
    return wrong(given + ": there are " + std::to_string(tiers) +
                 " tiers; give one value for all of them, or one for each, with commas in between");
  }
  return values;
}

std::optional<cache::Fill> fill_of(std::string_view text) {
  const auto fill = cache::find_fill(text);
  return fill ? std::optional{*fill} : std::nullopt;
}

}  // namespace

SetupResult<std::vector<bool>> read_flags(std::string_view name, std::string_view text,
                                          std::size_t tiers) {
  return read_list<bool>(name, text, tiers, "yes or no",
                         [](std::string_view item) -> std::optional<bool> {
                           const auto flag = parse_bool(item);
                           return flag ? std::optional{*flag} : std::nullopt;
                         });
}

SetupResult<std::vector<std::uint32_t>> read_counts(std::string_view name, std::string_view text,
                                                    std::size_t tiers) {
  return read_list<std::uint32_t>(name, text, tiers, "a number from 0 on",
                                  [](std::string_view item) -> std::optional<std::uint32_t> {
                                    const auto number = parse_integer(item);
                                    constexpr std::int64_t kMost =
                                        std::numeric_limits<std::uint32_t>::max();
                                    if (!number || *number < 0 || *number > kMost)
                                      return std::nullopt;
                                    return static_cast<std::uint32_t>(*number);
                                  });
}

SetupResult<std::vector<cache::Fill>> read_fills(std::string_view name, std::string_view text,
                                                 std::size_t tiers) {
  return read_list<cache::Fill>(name, text, tiers, "never, second_hit or always", fill_of);
}

bool TieredOptions::has_store() const noexcept {
  return std::ranges::any_of(tiers, &cache::TierOptions::store);
}

SetupStatus TieredOptions::validate() const {
  const bool has_min_hits =
      std::ranges::any_of(tiers, [](const auto& tier) { return tier.min_hits > 0; });
  if (tiers.empty() || tiers.size() > kTiersMax) {
    return wrong("there must be 1 to " + std::to_string(kTiersMax) + " tiers; name them with l2=");
  }
  if (has_min_hits && write != Write::kBack) {
    return wrong(
        "min_hits keeps a value in L1 alone until it was read often enough, so that a store is "
        "not done when it is in a tier: it needs write=back");
  }
  if (skip_l1 && !has_store()) {
    return wrong("skip_l1=yes drops from L1 what a tier has got, and store=no lets no tier get it");
  }
  if (skip_l1 && has_min_hits) {
    return wrong("skip_l1=yes and min_hits exclude each other: nothing stays in L1 to be read");
  }
  return {};
}

}  // namespace larder::tiered
