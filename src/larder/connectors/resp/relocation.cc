#include "larder/connectors/resp/relocation.h"

namespace larder::resp {
namespace {

/// A server that was restarted reads its data for a while. One that does so for longer may have
/// become a replica, which reads its primary's.
constexpr std::uint64_t kLoadingLastsNs = 1'000'000'000;

}  // namespace

Relocation::Verdict Relocation::note_refusal(const ReplyError& refusal,
                                             std::uint64_t now_ns) noexcept {
  using Elsewhere = ReplyError::Elsewhere;
  if (refusal.elsewhere == Elsewhere::kNo) return {};
  if (refusal.elsewhere == Elsewhere::kIfItLasts) {
    if (loading_since_ns_ == 0) loading_since_ns_ = now_ns;
    if (now_ns < loading_since_ns_ + kLoadingLastsNs) return {};
  }
  const bool is_of_writes = refusal.scope == ReplyError::Scope::kWrites;
  only_writes_ = is_of_writes && (only_writes_ || !is_suspicious_);
  Verdict verdict{.suspects_this = true, .suspects_all = !is_suspicious_};
  is_suspicious_ = true;
  const std::uint64_t due_ns = backoff_.retry_at_ns();
  if (due_ns == kNever || now_ns >= due_ns) {
    verdict.renews_this = true;
    backoff_.note_failure(now_ns);
  }
  return verdict;
}

Relocation::Finding Relocation::note_served(bool is_suspect, bool is_write) noexcept {
  loading_since_ns_ = 0;
  // A replica serves loads, so they prove nothing about stores.
  if (!is_suspicious_ || (only_writes_ && !is_write)) return Finding::kNothing;
  is_suspicious_ = false;
  backoff_.reset();
  return is_suspect ? Finding::kHere : Finding::kElsewhere;
}

}  // namespace larder::resp
