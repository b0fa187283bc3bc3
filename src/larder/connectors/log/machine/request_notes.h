#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "larder/connectors/log/format/fingerprint.h"

namespace larder::log_store {

/// The lengths of the requests whose parts arrive as loads and stores, from earlier lookups. A
/// lookup asks for all keys of a request in order; the loads and stores that follow have a part
/// each. Remembered by the first key, with which loads begin, and by the first that was not there,
/// with which stores begin.
///
/// A hint: of two requests with the same first key the later counts, and a note may be lost at any
/// time.
/// Threads: any, no locks. Cost: 32 KiB, one word a note.
class RequestNotes {
 public:
  struct Request {
    std::uint32_t keys = 0;
    std::uint32_t known = 0;  ///< How many of the first keys existed.
  };

  void put(const Fingerprint& fingerprint, const Request& request) noexcept {
    if (request.keys > kKeysMax) return;
    const std::uint64_t word = tag_of(fingerprint) << (2 * kKeysBits) |
                               std::uint64_t{request.keys} << kKeysBits | request.known;
    notes_[slot_of(fingerprint)].store(word, std::memory_order_relaxed);
  }
  std::optional<Request> find(const Fingerprint& fingerprint) const noexcept {
    const std::uint64_t word = notes_[slot_of(fingerprint)].load(std::memory_order_relaxed);
    if (word == 0 || word >> (2 * kKeysBits) != tag_of(fingerprint)) return std::nullopt;
    return Request{.keys = static_cast<std::uint32_t>(word >> kKeysBits & kKeysMax),
                   .known = static_cast<std::uint32_t>(word & kKeysMax)};
  }

 private:
  static constexpr unsigned kKeysBits = 20;
  static constexpr std::uint32_t kKeysMax = (1U << kKeysBits) - 1;
  static constexpr std::size_t kNotes = 4096;

  static std::uint64_t tag_of(const Fingerprint& fingerprint) noexcept {
    return fingerprint.high >> 40;
  }
  static std::size_t slot_of(const Fingerprint& fingerprint) noexcept {
    return (fingerprint.low >> 32) % kNotes;
  }

  std::array<std::atomic<std::uint64_t>, kNotes> notes_{};
};

}  // namespace larder::log_store
