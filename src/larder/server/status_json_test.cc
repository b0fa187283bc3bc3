#include "larder/server/status_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace larder::server {
namespace {

using nlohmann::json;

ServerStatus some_status() {
  ServerStatus status;
  status.started_ns = 1'000'000'000;
  status.now_ns = 3'500'000'000;
  status.chunk_tokens = 16;
  status.engine.capacity_bytes = 1000;
  status.engine.free_bytes = 750;
  status.engine.columns = 4;
  status.engine.sessions = 3;
  status.engine.lookups_running = 2;
  InstanceStatus instance;
  instance.id = "1001";
  instance.model = "golden/model-1";
  instance.world_size = 2;
  instance.num_layers = 32;
  instance.block_tokens = 4;
  instance.dtype = "torch.float16";
  instance.chunk_bytes = 1024;
  instance.groups.push_back(
      {.num_layers = 32, .hidden = 8, .planes = 2, .window_chunks = 0, .dtype = "float16"});
  status.instances.push_back(instance);
  instance.id = "-18446744073709551616";
  status.instances.push_back(instance);
  TierStatus tier{
      .spec = "log:/data/kv", .type = "log", .name = "log", .report = {}, .metrics = {}};
  tier.report.type = "log";
  tier.report.where = "/data/kv";
  tier.report.keys = 12;
  tier.report.bytes_used = 100;
  tier.report.capacity_bytes = 400;
  status.tiers.push_back(tier);
  return status;
}

TEST(StatusJsonTest, HasWhatLmcacheDescribeReads) {
  const json out = status_json(some_status(), {}, true);
  EXPECT_EQ(out["is_healthy"], true);
  EXPECT_EQ(out["engine_type"], "MPCacheServer");
  EXPECT_EQ(out["chunk_size"], 16);
  EXPECT_EQ(out["active_sessions"], 3);
  EXPECT_EQ(out["active_prefetch_jobs"], 2);
  const json& storage = out["storage_manager"];
  EXPECT_EQ(storage["l1_manager"]["memory_used_bytes"], 250);
  EXPECT_EQ(storage["l1_manager"]["memory_total_bytes"], 1000);
  EXPECT_EQ(storage["l1_manager"]["memory_usage_ratio"], 0.25);
  EXPECT_EQ(storage["l1_manager"]["total_object_count"], 4);
  EXPECT_EQ(storage["l1_managers"]["_default"], storage["l1_manager"]);
  EXPECT_EQ(storage["l1_usage"], (json{250, 1000}));
  EXPECT_EQ(storage["l1_eviction_controller"]["eviction_policy"], "LRU");
  ASSERT_EQ(storage["l2_adapters"].size(), 1U);
  const json& adapter = storage["l2_adapters"][0];
  EXPECT_EQ(adapter["type"], "log");
  EXPECT_EQ(adapter["is_healthy"], true);
  EXPECT_EQ(adapter["base_path"], "/data/kv");
  EXPECT_EQ(adapter["stored_object_count"], 12);
  EXPECT_EQ(adapter["current_size_bytes"], 100);
  EXPECT_EQ(adapter["max_capacity_bytes"], 400);
}

TEST(StatusJsonTest, HasWhatTheSdkReads) {
  const json out = status_json(some_status(), {}, true);
  const json& context = out["cache_context_meta"]["1001"];
  EXPECT_EQ(context["model_name"], "golden/model-1");
  EXPECT_EQ(context["world_size"], 2);
  EXPECT_EQ(context["kv_cache_layout"]["num_layers"], 32);
  EXPECT_EQ(context["kv_cache_layout"]["cache_size_per_token"], 64);
  const json& group = context["kv_cache_layout"]["kernel_groups"][0];
  EXPECT_EQ(group["dtype"], "float16");
  EXPECT_EQ(group["engine_kv_format"], "NL_X_TWO_NB_BS_NH_HS");
  EXPECT_EQ(group["engine_kv_concrete_shape"], "32 x [2, 1, 4, 1, 8]");
  EXPECT_EQ(group["tokens_per_block"], 4);
  EXPECT_EQ(out["non_cuda_context_meta"]["1001"]["block_size"], 4);
  EXPECT_EQ(out["registered_non_cuda_instance_ids"], (json{1001, "-18446744073709551616"}));
}

TEST(StatusJsonTest, NothingIsDegradedWhereAllIsWell) {
  const json out = degraded_json(some_status(), true);
  EXPECT_EQ(out, (json{{"degraded", false}, {"reasons", json::array()}}));
}

TEST(StatusJsonTest, EachReasonIsASentenceOfItsOwn) {
  ServerStatus status = some_status();
  status.tiers[0].report.health = Health::kDown;
  status.tiers[0].report.reasons = {"the device does not answer"};
  status.last_5_minutes.stores_failed = 3;
  status.last_5_minutes.stores_lost = 1;
  status.last_5_minutes.replies_dropped = 2;
  status.is_draining = true;
  const json out = degraded_json(status, false);
  EXPECT_EQ(out["degraded"], true);
  ASSERT_EQ(out["reasons"].size(), 6U);
  EXPECT_EQ(out["reasons"][2], "log:/data/kv is down: the device does not answer");
  EXPECT_EQ(out["reasons"][3],
            "3 objects within the last 5 minutes could not be stored in L2 and will be computed "
            "again");
}

TEST(StatusJsonTest, HealthHasARemedyForEachReason) {
  ServerStatus status = some_status();
  const json healthy = status_json(status, {}, true)["larder"]["health"];
  EXPECT_EQ(healthy, (json{{"state", "healthy"}, {"reasons", json::array()}}));
  status.tiers[0].report.health = Health::kDegraded;
  status.last_5_minutes.stores_lost = 1;
  const json degraded = status_json(status, {}, true)["larder"]["health"];
  EXPECT_EQ(degraded["state"], "degraded");
  ASSERT_EQ(degraded["reasons"].size(), 2U);
  EXPECT_EQ(degraded["reasons"][0]["what"], "log:/data/kv is degraded");
  EXPECT_EQ(degraded["reasons"][0]["because"], json::array());
  const std::string remedy = degraded["reasons"][1]["remedy"];
  EXPECT_NE(remedy.find("--l1-size-gb"), std::string::npos) << remedy;
  for (const json& reason : degraded["reasons"]) EXPECT_NE(reason["remedy"], "");
  status.tiers[0].report.reasons = {"the disk is slow", "the disk is full"};
  const json again = status_json(status, {}, true)["larder"]["health"];
  ASSERT_EQ(again["reasons"].size(), 2U);
  EXPECT_EQ(again["reasons"][0]["because"], (json{"the disk is slow", "the disk is full"}));
  EXPECT_EQ(degraded_json(status, true)["reasons"].size(), 3U);
  status.is_draining = true;
  EXPECT_EQ(status_json(status, {}, true)["larder"]["health"]["state"], "draining");
  EXPECT_EQ(status_json(status, {}, false)["larder"]["health"]["state"], "down");
}

TEST(StatusJsonTest, TiersHaveWhatTheyWereAskedFor) {
  ServerStatus status = some_status();
  status.now_ns = status.started_ns + 10'000'000'000;  // Ten seconds of the minute.
  Report& report = status.tiers[0].report;
  OpReport& loads = report.operations[index_of(Op::kGet)];
  loads.total.hits = 7;
  loads.total.bytes = 700;
  loads.total.failed = 2;
  loads.last_minute.bytes = 500;
  loads.last_minute.failed = 1;
  ClassReport& batches = report.classes[index_of(BatchClass::kLoad)];
  batches.latency = {.batches = 3, .p50_ns = 2'000'000, .p99_ns = 4'000'000};
  batches.latency_last_minute = {.batches = 1, .p50_ns = 5'000'000, .p99_ns = 6'000'000};
  batches.batches_in_flight = 2;
  status.engine.totals.tiers.emplace_back().store_lost = 9;
  const json tier = status_json(status, {}, true)["larder"]["tiers"].at(0);
  EXPECT_EQ(tier["spec"], "log:/data/kv");
  EXPECT_EQ(tier["health"], "healthy");
  EXPECT_EQ(tier["bytes_used"], 100);
  EXPECT_EQ(tier["stores_lost"], 9);
  const json& load = tier["load"];
  EXPECT_EQ(load["objects"], 9);
  EXPECT_EQ(load["bytes"], 700);
  EXPECT_EQ(load["failed"], 2);
  EXPECT_EQ(load["in_flight"], 2);
  EXPECT_EQ(load["batches"], 3);
  EXPECT_EQ(load["p99_seconds"], 0.004);
  EXPECT_EQ(load["last_minute"]["bytes_per_second"], 50.0);
  EXPECT_EQ(load["last_minute"]["failed"], 1);
  EXPECT_EQ(load["last_minute"]["p50_seconds"], 0.005);
  EXPECT_EQ(tier["store"]["bytes"], 0);
}

TEST(StatusJsonTest, WorkersAndSaltsAreListed) {
  ServerStatus status = some_status();
  status.instances[0].rank = 1;
  status.instances[0].silent_ns = 1'500'000'000;
  status.instances[0].chunks_loaded = 3;
  status.instances[1].is_driven = true;
  status.spaces.push_back({.model = "m", .salt = "tenant", .lookups = {2, 10, 4, 1}});
  const json own = status_json(status, {}, true)["larder"];
  EXPECT_EQ(own["workers"][0]["rank"], 1);
  EXPECT_EQ(own["workers"][0]["world_size"], 2);
  EXPECT_EQ(own["workers"][0]["mode"], "engine_driven");
  EXPECT_EQ(own["workers"][0]["silent_seconds"], 1.5);
  EXPECT_EQ(own["workers"][0]["loaded_tokens"], 48);
  EXPECT_EQ(own["workers"][1]["rank"], nullptr);
  EXPECT_EQ(own["workers"][1]["mode"], "lmcache_driven");
  EXPECT_EQ(own["lookups_by_salt"], (json::array({{{"salt", "tenant"},
                                                   {"model", "m"},
                                                   {"lookups", 2},
                                                   {"asked_tokens", 160},
                                                   {"hit_l1_tokens", 64},
                                                   {"hit_l2_tokens", 16}}})));
}

TEST(StatusJsonTest, EvictionsHaveTheirMeanAge) {
  ServerStatus status = some_status();
  EXPECT_EQ(status_json(status, {}, true)["larder"]["evictions"]["age"]["mean_seconds"], 0.0);
  status.engine.totals.columns_evicted = 2;
  status.engine.totals.evicted_age.record(1'000);
  status.engine.totals.evicted_age.record(4'000);
  const json evictions = status_json(status, {}, true)["larder"]["evictions"];
  EXPECT_EQ(evictions["chunks"], 2);
  EXPECT_EQ(evictions["age"], (json{{"chunks", 2}, {"mean_seconds", 2.5}}));
}

TEST(StatusJsonTest, TellsWhatOtherCapacitiesWouldFind) {
  ServerStatus status = some_status();
  json none = status_json(status, {}, true)["larder"]["what_if"]["l2"];
  EXPECT_TRUE(none["same"]["capacity_bytes"].is_null()) << "no store with a bound";
  EXPECT_TRUE(none["measured"].is_null());
  WhatIf& l1 = status.engine.what_if_l1;
  l1.points = {{{512, 0.25}, {1024, 0.5}, {2048, std::nullopt}, {0, 0.75}}};
  l1.measured = 0.5;
  l1.asked = 4000;
  const json told = status_json(status, {}, true)["larder"]["what_if"]["l1"];
  EXPECT_EQ(told["half"], (json{{"capacity_bytes", 512}, {"hit_rate", 0.25}}));
  EXPECT_TRUE(told["double"]["hit_rate"].is_null()) << "not known yet";
  EXPECT_EQ(told["unlimited"], (json{{"capacity_bytes", nullptr}, {"hit_rate", 0.75}}));
  EXPECT_EQ(told["measured"], 0.5);
  EXPECT_EQ(told["asked_chunks"], 4000);
}

TEST(StatusJsonTest, TheCommandForVllmNamesWhereTheServerListens) {
  ServerOptions options;
  options.port = 6000;
  const auto transfer = [&](const std::string& host) {
    options.host = host;
    const std::string command = status_json({}, options, true)["larder"]["attach_command"];
    const std::size_t begin = command.find('{');
    return json::parse(command.substr(begin, command.rfind('}') + 1 - begin));
  };
  EXPECT_EQ(transfer("localhost")["kv_connector"], "LMCacheMPConnector");
  EXPECT_EQ(transfer("localhost")["kv_connector_extra_config"]["lmcache.mp.port"], 6000);
  const auto host = [&](const std::string& bound) {
    return transfer(bound)["kv_connector_extra_config"]["lmcache.mp.host"].get<std::string>();
  };
  EXPECT_EQ(host("10.0.0.7"), "tcp://10.0.0.7");
  EXPECT_EQ(host("0.0.0.0"), "tcp://localhost");
  EXPECT_EQ(host("::"), "tcp://localhost");
  EXPECT_EQ(host("::1"), "tcp://[::1]");
}

TEST(StatusJsonTest, WhatWentWrongLongAgoIsNoReason) {
  ServerStatus status = some_status();
  status.engine.totals.l2_store_failed = 3;
  status.engine.totals.l2_store_lost = 1;
  status.replies_dropped = 2;
  EXPECT_EQ(degraded_json(status, true)["degraded"], false);
}

TEST(StatusJsonTest, HitRatesAreThoseOfTheLastMinutes) {
  ServerStatus status = some_status();
  status.engine.totals.asked = 1000;
  status.engine.totals.hit_l1 = 100;
  status.last_minute.asked = 10;
  status.last_minute.hit_l1 = 5;
  status.last_minute.hit_l2 = 2;
  status.last_minute.missed[static_cast<std::size_t>(cache::Miss::kLate)] = 3;
  const json rates = status_json(status, {}, true)["larder"]["hit_rate"];
  EXPECT_EQ(rates["1m"]["asked_tokens"], 160);
  EXPECT_EQ(rates["1m"]["hit_l1_tokens"], 80);
  EXPECT_EQ(rates["1m"]["hit_l2_tokens"], 32);
  EXPECT_EQ(rates["1m"]["l1"], 0.5);
  EXPECT_EQ(rates["1m"]["l2"], 0.2);
  EXPECT_EQ(rates["1m"]["missed"]["late"], 3);
  EXPECT_EQ(rates["15m"]["l1"], 0.0);
  EXPECT_EQ(rates["all"]["l1"], 0.1);
}

TEST(StatusJsonTest, HasItsListsWithoutAnything) {
  const json out = status_json({}, {}, false);
  EXPECT_EQ(out["is_healthy"], false);
  EXPECT_EQ(out["registered_gpu_ids"], json::array());
  EXPECT_EQ(out["registered_non_cuda_instance_ids"], json::array());
  EXPECT_EQ(out["cache_context_meta"], json::object());
  EXPECT_EQ(out["storage_manager"]["l2_adapters"], json::array());
  EXPECT_EQ(out["storage_manager"]["l1_manager"]["memory_usage_ratio"], 0.0);
  EXPECT_EQ(out["larder"]["chunks"]["missed"].size(), cache::kMisses);
}

TEST(StatusJsonTest, SaysWhatIsWrongWithATier) {
  ServerStatus status = some_status();
  status.tiers[0].report.health = Health::kDown;
  status.tiers[0].report.reasons = {"the disk is gone"};
  const json out = status_json(status, {}, true);
  const json& adapter = out["storage_manager"]["l2_adapters"][0];
  EXPECT_EQ(adapter["is_healthy"], false);
  EXPECT_EQ(adapter["reasons"], json{"the disk is gone"});
  EXPECT_EQ(out["larder"]["uptime_seconds"], 2.5);
}

TEST(StatusJsonTest, HasWhatEachSaltMayHaveAndHas) {
  ServerStatus status = some_status();
  SaltStatus salt{.salt = "tenant", .stats = {}};
  salt.stats.quota = {.limit_bytes = 300, .guarantee_bytes = 50};
  salt.stats.l1_bytes = 20;
  salt.stats.columns = 2;
  salt.stats.refused = 4;
  salt.stats.l2_bytes = {7};
  salt.stats.l2_refused = 5;
  status.salts.push_back(salt);
  EXPECT_EQ(json(status_json(status, {}, true)["larder"]["salts"]),
            json::array({{{"salt", "tenant"},
                          {"l1_bytes", 20},
                          {"l1_chunks", 2},
                          {"limit_bytes", 300},
                          {"guarantee_bytes", 50},
                          {"over_limit", 4},
                          {"l2_bytes", json::array({7})},
                          {"l2_limit_bytes", nullptr},
                          {"l2_over_limit", 5}}}));
}

}  // namespace
}  // namespace larder::server
