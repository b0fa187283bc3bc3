// The figures of `larder top` for programs.
#include <cmath>
#include <nlohmann/json.hpp>

#include "larder/tools/top_screen.h"

namespace larder::tools {
namespace {

using json = nlohmann::ordered_json;

json number(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return *value;
}

/// Above the last bound of its histogram a time is not known.
json seconds(const std::optional<Quantile>& quantile) {
  if (!quantile || quantile->is_more) return nullptr;
  return quantile->value;
}

const char* health_name(TopHealth health) {
  constexpr const char* kNames[] = {"healthy", "degraded", "down"};
  return kNames[static_cast<std::size_t>(health)];
}

json shares_of(const TopFigures& figures) {
  constexpr std::array<const char*, kTopWindows> kWindows{"now", "last_minute", "longer", "all"};
  json shares = json::object();
  for (const ShareRow& row : figures.shares) {
    for (std::size_t i = 0; i < kTopWindows; ++i) {
      shares[row.id][kWindows.at(i)] = number(row.shares.at(i));
    }
  }
  return shares;
}

json way_of(const WayFigures& way) {
  return {{"bytes_per_second", number(way.bytes_per_s)},
          {"keys_per_second", number(way.keys_per_s)},
          {"p50_seconds", seconds(way.p50)},
          {"p99_seconds", seconds(way.p99)}};
}

json rooms_of(const TopFigures& figures) {
  json rooms = json::array();
  for (const RoomRow& room : figures.rooms) {
    rooms.push_back({{"name", room.name},
                     {"used_bytes", room.used},
                     {"capacity_bytes", room.capacity},
                     {"filling_bytes_per_second", number(room.filling_per_s)},
                     {"evicted_bytes_per_second", number(room.evicted_per_s)},
                     {"full_in_seconds", number(room.full_in_s())}});
  }
  return rooms;
}

json what_if_of(const TopFigures& figures) {
  json rows = json::array();
  for (const WhatIfRow& row : figures.what_if) {
    rows.push_back({{"name", row.name},
                    {"measured", number(row.measured)},
                    {"half", number(row.half)},
                    {"same", number(row.same)},
                    {"double", number(row.doubled)},
                    {"unlimited", number(row.unlimited)}});
  }
  return rows;
}

json connectors_of(const TopFigures& figures) {
  json connectors = json::array();
  for (const ConnectorRow& row : figures.connectors) {
    connectors.push_back({{"name", row.name},
                          {"health", health_name(row.health)},
                          {"load", way_of(row.load)},
                          {"store", way_of(row.store)},
                          {"lookups_per_second", number(row.lookups_per_s)},
                          {"errors_now", number(row.errors_now)},
                          {"errors", row.errors},
                          {"batches_queued", row.queued},
                          {"oldest_queued_seconds", row.oldest_s}});
  }
  return connectors;
}

void put_server(const TopFigures& figures, json& out) {
  const WorkFigures& work = *figures.work;
  out["work"] = {{"workers", work.workers},
                 {"connections", work.connections},
                 {"sessions", work.sessions},
                 {"lookups_running", work.lookups_running},
                 {"lookups_waiting", work.lookups_waiting},
                 {"hashing", work.hashing},
                 {"lookups_per_second", number(work.lookups_per_s)},
                 {"failures_now", number(work.failures_now)},
                 {"failures", work.failures}};
  out["workers"] = json::array();
  for (const WorkerRow& row : figures.workers) {
    out["workers"].push_back({{"id", row.id},
                              {"model", row.model},
                              {"world_size", row.world_size},
                              {"copied_by", row.copies},
                              {"silent_seconds", number(row.silent_s)}});
  }
  out["salts"] = json::array();
  for (const SaltRow& row : figures.salts) {
    out["salts"].push_back({{"salt", row.salt},
                            {"model", row.model},
                            {"tokens", row.tokens},
                            {"found", number(row.found)},
                            {"tokens_per_second", number(row.tokens_per_s)}});
  }
}

std::string text_of(const json& out) {
  return out.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string top_json(const TopFigures& figures, const std::string& target) {
  json out{{"ok", true},
           {"target", target},
           {"kind", figures.is_server ? "server" : "stores"},
           {"name", figures.name},
           {"version", figures.version},
           {"uptime_seconds", number(figures.uptime_s)},
           {"interval_seconds", number(figures.interval_s)},
           {"health", health_name(figures.health)},
           {"reasons", figures.reasons},
           {"longer", figures.windows[2]},
           {"saved",
            {{"unit", figures.saved.unit},
             {"total", figures.saved.total},
             {"per_second", number(figures.saved.per_s)},
             {"bytes_loaded", figures.saved.bytes}}},
           {"shares", shares_of(figures)},
           {"rooms", rooms_of(figures)},
           {"what_if", what_if_of(figures)},
           {"stores", connectors_of(figures)}};
  if (figures.work) put_server(figures, out);
  return text_of(out);
}

std::string top_error_json(const std::string& target, const std::string& error) {
  return text_of({{"ok", false}, {"target", target}, {"error", error}});
}

}  // namespace larder::tools
