#include "larder/cache/policies/policy.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/cache/policies/arc.h"
#include "larder/cache/policies/column_records.h"
#include "larder/cache/policies/lru.h"
#include "larder/cache/policies/noop.h"
#include "larder/cache/policies/prefix_policy.h"
#include "larder/cache/policies/s3_fifo.h"

namespace larder::cache {
namespace {

template <class P>
std::unique_ptr<Policy> make(const PolicyOptions& options) {
  return std::make_unique<P>(options);
}

constexpr std::array<PolicyKind, 6> kKinds = {{
    {.name = "LRU", .summary = "what was used longest ago goes first", .make = make<LruPolicy>},
    {.name = "ARC",
     .summary = "weighs what was used once against what was used again, and adapts",
     .make = make<ArcPolicy>},
    {.name = "S3-FIFO",
     .summary = "what is not used soon after it came goes first",
     .make = make<S3FifoPolicy>},
    {.name = "prefix",
     .summary = "learns which prefixes are used again; LRU where that does no better",
     .make = make<PrefixPolicy>},
    {.name = "IsolatedLRU",
     .summary = "LRU within each salt",
     .is_partitioned_by_salt = true,
     .make = make<LruPolicy>},
    {.name = "noop",
     .summary = "evicts nothing; for L1 as a buffer before L2",
     .make = make<NoopPolicy>},
}};

/// In small letters, without hyphens and underscores.
std::string plain(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == '-' || c == '_') continue;
    text.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return text;
}

}  // namespace

std::shared_ptr<ColumnRecords> make_column_records() {
  return std::make_shared<ColumnRecords>();
}

std::span<const PolicyKind> policy_kinds() noexcept {
  return kKinds;
}

std::string policy_names() {
  std::string list;
  for (const PolicyKind& kind : kKinds) list += (list.empty() ? "" : ", ") + std::string{kind.name};
  return list;
}

SetupResult<const PolicyKind*> find_policy(std::string_view name) {
  const std::string wanted = plain(name);
  std::vector<std::string> plain_names;
  for (const PolicyKind& kind : kKinds) {
    plain_names.push_back(plain(kind.name));
    if (plain_names.back() == wanted) return &kind;
  }
  std::string text = "unknown eviction policy '" + printable(name) + "'";
  const std::vector<std::string_view> candidates{plain_names.begin(), plain_names.end()};
  if (const std::string_view nearest = nearest_name(wanted, candidates); !nearest.empty()) {
    const auto at = std::ranges::find(candidates, nearest) - candidates.begin();
    text += ": did you mean '" + std::string{kKinds[static_cast<std::size_t>(at)].name} + "'?";
  } else {
    text += '.';
  }
  return SetupError{ErrorCode::kInvalidArgument, text + " Known policies: " + policy_names() + "."};
}

}  // namespace larder::cache
