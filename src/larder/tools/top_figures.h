#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/tools/scrape.h"

namespace larder::tools {

// The numbers of `larder top`. The screen and the JSON are made of these. Texts are as they came
// from the net: whatever shows them makes them printable.

enum class TopHealth : std::uint8_t { kHealthy = 0, kDegraded, kDown };

/// The periods: the last interval, a minute, a longer while, and since the start.
inline constexpr std::size_t kTopWindows = 4;
using TopShares = std::array<std::optional<double>, kTopWindows>;

/// A share of `all`; empty if that is 0.
std::optional<double> share_of(double part, double all);

/// A share of the tokens asked for.
struct ShareRow {
  std::string id = {};     ///< In the JSON: "found_in_l1".
  std::string title = {};  ///< Spaces in front: a part of the row above.
  TopShares shares = {};
  std::string note = {};  ///< For a reason: its meaning and the remedy.
  bool is_zero() const {
    for (const auto& share : shares) {
      if (share.value_or(0) > 0) return false;
    }
    return true;
  }
};

/// Tokens that were not computed, or bytes that came out of the stores.
struct SavedFigures {
  std::string unit = {};  ///< "tokens" of a server, "values" of a process with stores.
  double total = 0;
  std::optional<double> per_s = {};
  double bytes = 0;  ///< Loaded from the stores.
};

/// A place of bounded size. Rates are those of the last minute.
struct RoomRow {
  std::string name = {};
  double used = 0;
  double capacity = 0;  ///< 0: not bounded by larder.
  std::optional<double> filling_per_s = {};
  std::optional<double> evicted_per_s = {};
  std::string note = {};

  /// Time until it is full at this rate; empty if it does not fill.
  std::optional<double> full_in_s() const;
};

/// Estimated hit rates with other capacities; empty: not known yet.
struct WhatIfRow {
  std::string name = {};
  std::optional<double> half = {};
  std::optional<double> same = {};
  std::optional<double> doubled = {};
  std::optional<double> unlimited = {};
  std::optional<double> measured = {};  ///< The measured rate of the same asks.
};

/// Loads or stores within the last interval.
struct WayFigures {
  std::optional<double> bytes_per_s = {};
  std::optional<double> keys_per_s = {};
  std::optional<Quantile> p50 = {};
  std::optional<Quantile> p99 = {};
};

struct ConnectorRow {
  std::string name = {};
  TopHealth health = TopHealth::kHealthy;
  WayFigures load = {};
  WayFigures store = {};
  std::optional<double> lookups_per_s = {};
  std::optional<double> errors_now = {};  ///< Keys that failed within the last interval.
  double errors = 0;
  double queued = 0;    ///< Batches.
  double oldest_s = 0;  ///< How long the first of them has waited.
};

/// A server's present work.
struct WorkFigures {
  double workers = 0;
  double connections = 0;
  double sessions = 0;
  double lookups_running = 0;
  double lookups_waiting = 0;  ///< Of these, for room.
  double hashing = 0;
  std::optional<double> lookups_per_s = {};
  std::optional<double> failures_now = {};  ///< Requests that were answered as failed.
  double failures = 0;
};

struct WorkerRow {
  std::string id = {};
  std::string model = {};
  double world_size = 0;
  std::string copies = {};  ///< What moves its KV: "worker" or "server".
  std::optional<double> silent_s = {};
};

/// The requests of one tenant, and for one model.
struct SaltRow {
  std::string salt = {};
  std::string model = {};
  double tokens = 0;
  std::optional<double> found = {};  ///< Share of them.
  std::optional<double> tokens_per_s = {};
};

struct TopFigures {
  bool is_server = false;
  std::string name = {};     ///< For a server: --instance-id.
  std::string version = {};  ///< For a server.
  std::optional<double> uptime_s = {};
  TopHealth health = TopHealth::kHealthy;
  std::vector<std::string> reasons = {};
  std::optional<double> interval_s = {};  ///< Empty: there is only one sample.
  std::array<std::string, kTopWindows> windows = {};
  std::vector<ShareRow> shares = {};
  SavedFigures saved;
  std::vector<RoomRow> rooms = {};
  std::vector<WhatIfRow> what_if = {};
  std::vector<ConnectorRow> connectors = {};
  std::optional<WorkFigures> work = {};
  std::vector<WorkerRow> workers = {};
  std::vector<SaltRow> salts = {};  ///< Those with most requests first.
};

}  // namespace larder::tools
