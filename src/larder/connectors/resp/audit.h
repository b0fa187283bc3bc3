#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "larder/base/clock.h"
#include "larder/connectors/resp/own_writes.h"

namespace larder::resp {

/// Decides when to ask the server about the keys that this process has stored, so that values that
/// it expired, evicted or lost do not count against the capacity for ever.
///
/// Keys are asked for in steps of at most kKeysPerStep, one step at a time. Refused stores, and a
/// step that found half of its keys gone, make the next step follow after 5 ms; all other steps
/// follow after 50 ms, and only while a pass over all keys runs. A pass begins when the server's
/// counters say that it has lost keys. So a server gets 5,000 small commands a second at most, or
/// 51,000 while stores are refused or many keys are gone, and none while nothing is lost.
///
/// Threads: one at a time. Does no I/O: its owner sends the commands and tells their answers in
/// order.
class Audit {
 public:
  static constexpr std::size_t kKeysPerStep = 256;

  explicit Audit(OwnWrites& stored) : stored_(stored) {}

  /// A store found no room.
  void note_refused() noexcept { is_refused_ = true; }
  /// The server may have lost keys: a pass over all of them begins.
  void note_losses() noexcept;

  /// When step() is worth calling; kNever.
  std::uint64_t due_ns() const noexcept;
  /// Calls ask(key) for each key to ask the size of, until it returns false: no room for more.
  template <class Ask>
  void step(std::uint64_t now_ns, Ask ask);
  /// The answer to the first unanswered key: its size, 0 for gone, empty when the server did not
  /// say.
  /// True: the value is gone, and counts no more.
  bool note_answer(std::optional<std::uint64_t> value_bytes) noexcept;
  /// No answers will come for the pending keys.
  void note_lost() noexcept { asked_.clear(); }

 private:
  static constexpr std::uint64_t kShortPauseNs = 5'000'000;
  static constexpr std::uint64_t kLongPauseNs = 50'000'000;

  OwnWrites& stored_;
  std::deque<OwnWrites::Sighting> asked_;
  std::size_t cursor_ = 0;
  std::size_t step_keys_ = 0;
  std::size_t step_gone_ = 0;
  std::uint64_t step_ns_ = 0;  ///< When the last step began.
  bool is_refused_ = false;
  bool is_passing_ = false;       ///< Up to the end of the keys.
  bool must_pass_again_ = false;  ///< Then a pass over all of them.
};

template <class Ask>
void Audit::step(std::uint64_t now_ns, Ask ask) {
  step_ns_ = now_ns;
  is_refused_ = false;
  step_keys_ = 0;
  step_gone_ = 0;
  const bool is_end =
      stored_.visit_from(cursor_, [&](const OwnWrites::Sighting& sighting, std::string_view key) {
        if (step_keys_ == kKeysPerStep || !ask(key)) return false;
        asked_.push_back(sighting);
        ++step_keys_;
        return true;
      });
  if (!is_end) return;
  is_passing_ = must_pass_again_;
  must_pass_again_ = false;
}

}  // namespace larder::resp
