#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "larder/connector/metrics.h"
#include "larder/tools/metric_samples.h"
#include "larder/tools/top_history.h"
#include "larder/tools/top_pages.h"
#include "larder/tools/top_screen.h"

namespace larder::tools {
namespace {

Scrape scrape_of(const std::string& text, double at_s) {
  auto samples = read_samples(text);
  EXPECT_TRUE(samples.has_value()) << samples.error().text;
  return Scrape{*std::move(samples), at_s};
}

/// A server's metrics after `turns` rounds of the same work, 10 s each.
std::string server_text(double turns, double used_gib = 12) {
  const auto line = [](const std::string& name, double value) {
    return "larder_" + name + " " + std::to_string(value) + "\n";
  };
  const auto token = [&](const std::string& what, double value) {
    return line(
        "engine_hit_tokens_total{cache_salt=\"team-a\",model_name=\"m\",source=\"" + what + "\"}",
        value);
  };
  const std::string store = R"(type="log",where="/data/kv")";
  const double gib = 1 << 30;
  return line(R"(server_info{instance_id="rack-7",version="1.2.3"})", 1) +
         line("server_uptime_seconds", 10 * turns) + line("engine_stall_seconds", 0) +
         line(R"(engine_lookup_tokens_total{cache_salt="team-a",model_name="m"})", 1000 * turns) +
         line(R"(engine_lookup_tokens_total{cache_salt="",model_name="other"})", 10 * turns) +
         token("l1", 600 * turns) + token("l2", 200 * turns) +
         line(R"(engine_missed_tokens_total{reason="never_stored"})", 150 * turns) +
         line(R"(engine_missed_tokens_total{reason="evicted"})", 60 * turns) +
         line("engine_l1_capacity_bytes", 16 * gib) +
         line(R"(engine_what_if_hit_rate{capacity="half",tier="l1"})", 0.25) +
         line(R"(engine_what_if_hit_rate{capacity="unlimited",tier="l1"})", 0.75) +
         line(R"(engine_what_if_measured_hit_rate{tier="l1"})", 0.5) +
         line(R"(engine_what_if_asks{tier="l1"})", 5000) +
         line(R"(engine_l1_bytes{state="free"})", (16 - used_gib) * gib) +
         line("engine_bytes_evicted_total", 1e9 * turns) + line("engine_locked_bytes", gib) +
         line("engine_bytes_loaded_total", 5e9 * turns) + line("server_instances", 2) +
         line("engine_lookups_total", 50 * turns) +
         line("server_failures_total{operation=\"lookup\"}", turns) +
         line("health{" + store + "}", 0) + line("bytes_used{" + store + "}", 50 * gib) +
         line("capacity_bytes{" + store + "}", 100 * gib) +
         line("bytes_loaded_total{" + store + "}", 20e9 * turns) +
         line("loads_total{" + store + "}", 100 * turns) +
         line("get_failures_total{" + store + "}", 3 * turns) +
         line("batch_seconds_bucket{" + store + R"(,class="load",le="0.001"})", 50 * turns) +
         line("batch_seconds_bucket{" + store + R"(,class="load",le="0.01"})", 100 * turns) +
         line("batch_seconds_bucket{" + store + R"(,class="load",le="+Inf"})", 100 * turns);
}

TEST(TopHistoryTest, RatesAreThoseOfTheLastIntervalAndTotalsThoseSinceTheStart) {
  TopHistory history;
  history.add({.scrape = scrape_of(server_text(10), 100)});
  EXPECT_FALSE(history.figures().interval_s.has_value());
  EXPECT_FALSE(history.figures().shares.front().shares[0].has_value());
  history.add({.scrape = scrape_of(server_text(11, 13), 110)});
  const TopFigures figures = history.figures();
  EXPECT_TRUE(figures.is_server);
  EXPECT_EQ(figures.name, "rack-7");
  EXPECT_EQ(figures.interval_s, 10);
  EXPECT_DOUBLE_EQ(figures.saved.total, 800 * 11);
  EXPECT_DOUBLE_EQ(*figures.saved.per_s, 80);
  ASSERT_EQ(figures.connectors.size(), 1U);
  const ConnectorRow& log = figures.connectors[0];
  EXPECT_EQ(log.name, "log /data/kv");
  EXPECT_DOUBLE_EQ(*log.load.bytes_per_s, 2e9);
  EXPECT_DOUBLE_EQ(*log.load.keys_per_s, 10);
  EXPECT_DOUBLE_EQ(log.load.p50->value, 0.001);
  EXPECT_NEAR(log.load.p99->value, 0.00982, 1e-5);
  EXPECT_DOUBLE_EQ(log.errors, 33);
  EXPECT_DOUBLE_EQ(*log.errors_now, 3);
  EXPECT_FALSE(log.store.p50.has_value()) << "nothing was stored";
  ASSERT_EQ(figures.rooms.size(), 2U);
  EXPECT_DOUBLE_EQ(*figures.rooms[0].filling_per_s, (1 << 30) / 10.0);
  EXPECT_DOUBLE_EQ(*figures.rooms[0].evicted_per_s, 1e8);
  EXPECT_FALSE(figures.rooms[0].full_in_s().has_value()) << "what evicts is full";
  ASSERT_EQ(figures.what_if.size(), 1U) << "no estimate of L2";
  EXPECT_EQ(figures.what_if[0].half, 0.25);
  EXPECT_FALSE(figures.what_if[0].doubled.has_value()) << "not known yet";
  EXPECT_EQ(figures.what_if[0].unlimited, 0.75);
  EXPECT_EQ(figures.what_if[0].measured, 0.5);
  ASSERT_EQ(figures.salts.size(), 2U);
  EXPECT_EQ(figures.salts[0].salt, "team-a");
  EXPECT_DOUBLE_EQ(*figures.salts[0].found, 0.8);
  EXPECT_DOUBLE_EQ(*figures.salts[0].tokens_per_s, 100);
  const auto share = [&](const std::string& id, std::size_t window) {
    for (const ShareRow& row : figures.shares) {
      if (row.id == id) return row.shares.at(window).value_or(-1);
    }
    return -2.0;
  };
  EXPECT_DOUBLE_EQ(share("found", 0), 800 / 1010.0);
  EXPECT_DOUBLE_EQ(share("missed_evicted", 3), 60 / 1010.0);
  EXPECT_DOUBLE_EQ(share("missed_evicted", 1), -1) << "no /status, and no gauges";
}

TEST(TopHistoryTest, AServerThatWasStartedAgainCountsFromNothing) {
  TopHistory history;
  history.add({.scrape = scrape_of(server_text(1000), 100)});
  history.add({.scrape = scrape_of(server_text(1), 110)});
  EXPECT_DOUBLE_EQ(*history.figures().saved.per_s, 80);
  EXPECT_DOUBLE_EQ(*history.figures().connectors[0].load.bytes_per_s, 2e9);
}

TEST(TopHistoryTest, ItKeepsAQuarterOfAnHourAndNoMore) {
  TopHistory history;
  for (int i = 0; i < 5000; ++i) history.add({.scrape = scrape_of("larder_hits_total 1\n", i)});
  EXPECT_GE(history.since(900)->at_s(), 4999 - 900);
  EXPECT_LE(history.since(900)->at_s(), 4999 - 890);
  EXPECT_GE(history.since(60)->at_s(), 4999 - 60);
  EXPECT_LE(history.since(60)->at_s(), 4999 - 50);
  EXPECT_EQ(history.previous()->at_s(), 4998);
}

TEST(TopHistoryTest, AProcessHasTheSharesOfAllItsStores) {
  std::vector<Report> reports(2);
  reports[0].type = "memory";
  reports[1].type = "log";
  reports[1].where = "/data";
  reports[1].health = Health::kDegraded;
  reports[1].operations[index_of(Op::kExists)].total = {.hits = 30, .misses = {9, 1, 0, 0, 0}};
  reports[0].operations[index_of(Op::kGet)].total = {.hits = 10, .bytes = 500, .bytes_missed = 500};
  TopHistory history;
  history.add({.scrape = scrape_of(prometheus_text(reports), 1)});
  const TopFigures figures = history.figures();
  EXPECT_FALSE(figures.is_server);
  EXPECT_EQ(figures.health, TopHealth::kDegraded);
  ASSERT_EQ(figures.reasons.size(), 1U);
  EXPECT_TRUE(figures.reasons[0].starts_with("log /data is degraded")) << figures.reasons[0];
  EXPECT_EQ(figures.connectors.size(), 2U);
  const auto all = [&](const std::string& id) {
    for (const ShareRow& row : figures.shares) {
      if (row.id == id) return row.shares[3].value_or(-1);
    }
    return -2.0;
  };
  EXPECT_DOUBLE_EQ(all("lookups_found"), 0.75);
  EXPECT_DOUBLE_EQ(all("loads_found"), 1);
  EXPECT_DOUBLE_EQ(all("bytes_found"), 0.5);
  EXPECT_DOUBLE_EQ(all("missed_absent"), 9 / 50.0);
}

TEST(TopPagesTest, WhatIsNotAsExpectedIsLeftOut) {
  EXPECT_EQ(parse_degraded(R"({"degraded":true,"reasons":["a",3,"b"]})"),
            (std::vector<std::string>{"a", "b"}));
  for (const char* const wrong : {"", "[]", "{", "{\"reasons\":3}", "<html>"}) {
    EXPECT_FALSE(parse_degraded(wrong).has_value()) << wrong;
  }
  EXPECT_FALSE(parse_status("[]").has_value());
  const auto page = parse_status(
      R"({"larder":{"hit_rate":{"1m":{"l1":0.5,"l2":"x","asked":8,"missed":{"evicted":4}},"15m":3}},
          "cache_context_meta":{"7":{"model_name":"m","world_size":2},"8":4},
          "non_cuda_context_meta":{"7":{"silent_seconds":1.5}}})");
  ASSERT_TRUE(page.has_value());
  EXPECT_EQ(page->minute->missed.at("evicted"), 4);
  EXPECT_FALSE(page->quarter.has_value());
  ASSERT_EQ(page->workers.size(), 2U);
  EXPECT_EQ(page->workers[0].copies, "worker");
  EXPECT_EQ(page->workers[0].silent_s, 1.5);
  EXPECT_EQ(page->workers[1].copies, "server");
}

// --- What it looks like
// ---------------------------------------------------------------------------

TopFigures figures_under_load() {
  TopFigures figures;
  figures.is_server = true;
  figures.name = "rack-7";
  figures.uptime_s = 11'530;
  figures.windows = {"now", "1 min", "15 min", "all"};
  figures.interval_s = 2;
  figures.shares = {
      {"found", "found", {0.832, 0.82, 0.81, 0.799}},
      {"found_in_l1", "  in L1", {0.601, 0.6, 0.58, 0.571}},
      {"found_in_l2", "  in L2", {0.231, 0.22, 0.23, 0.228}},
      {"missed", "not found", {0.168, 0.18, 0.19, 0.201}},
      {"missed_never_stored",
       "  never_stored",
       {0.12, 0.13, 0.1, 0.101},
       "new prompts; those gone"},
      {"missed_evicted", "  evicted", {0.048, 0.05, 0.09, 0.1}, "raise --l1-size-gb or add an L2"},
      {"missed_late", "  late", {0, 0, 0, 0}, "never shown"}};
  figures.saved = {.unit = "tokens", .total = 12.3e6, .per_s = 3210, .bytes = 1.3e12};
  figures.rooms = {{.name = "L1",
                    .used = 16.0e9,
                    .capacity = 17.2e9,
                    .filling_per_s = 12e6,
                    .evicted_per_s = 3.1e6,
                    .note = "locked 1.2 GiB, not in L2 yet 300 MiB"},
                   {.name = "log /data/a/very/long/path/to/the/kv",
                    .used = 128e9,
                    .capacity = 214e9,
                    .filling_per_s = 80e6,
                    .evicted_per_s = 0,
                    .note = "12345 keys"}};
  figures.what_if = {{.name = "in L1",
                      .half = 0.41,
                      .same = 0.583,
                      .doubled = 0.66,
                      .unlimited = 0.801,
                      .measured = 0.571},
                     {.name = "at all, with L2", .same = 0.8, .measured = 0.799}};
  figures.connectors = {
      {.name = "log /data/a/very/long/path/to/the/kv",
       .load = {3.12e9, 812, Quantile{.value = 0.00137}, Quantile{.value = 0.0123}},
       .store = {81e6, 40, Quantile{.value = 0.002}, Quantile{.value = 60, .is_more = true}},
       .lookups_per_s = 5200,
       .errors_now = 3,
       .errors = 12,
       .queued = 4,
       .oldest_s = 0.25}};
  figures.work = WorkFigures{.workers = 2,
                             .connections = 3,
                             .sessions = 12,
                             .lookups_running = 3,
                             .lookups_waiting = 1,
                             .hashing = 2,
                             .lookups_per_s = 154,
                             .failures_now = 0,
                             .failures = 7};
  figures.workers = {
      {.id = "1042", .model = "meta/llama", .world_size = 2, .copies = "worker", .silent_s = 3},
      {.id = "1043", .model = "meta/llama", .world_size = 2, .copies = "server"}};
  figures.salts = {
      {.salt = "", .model = "meta/llama", .tokens = 11e6, .found = 0.81, .tokens_per_s = 900},
      {.salt = "evil\x1b[2J", .model = "m", .tokens = 2e6, .found = 0.7, .tokens_per_s = 80}};
  return figures;
}

TopFigures figures_degraded() {
  TopFigures figures = figures_under_load();
  figures.health = TopHealth::kDegraded;
  figures.reasons = {
      "log:/data/kv is degraded: 3 transfers failed; look at the disk with larder doctor",
      "12 objects within the last 5 minutes left L1 before L2 had them: L2 is slower than "
      "what is stored",
      "1 reply within the last 5 minutes could not be sent", "one more", "and one more"};
  figures.connectors[0].health = TopHealth::kDegraded;
  return figures;
}

TopFigures figures_empty() {
  TopHistory history;
  history.add({.scrape = Scrape{{}, 1}});
  return history.figures();
}

struct Golden {
  const char* name;
  TopFigures (*figures)();
  std::size_t rows;
  std::size_t columns;
};

class TopScreenTest : public ::testing::TestWithParam<Golden> {};

std::vector<ScreenLine> drawn(const TopFigures& figures, std::size_t rows, std::size_t columns) {
  return draw_top(figures, {.rows = rows,
                            .columns = columns,
                            .is_utf8 = true,
                            .target = "127.0.0.1:8080",
                            .clock = "12:01:07"});
}

std::string text_of(const std::vector<ScreenLine>& lines) {
  std::string text;
  for (const ScreenLine& line : lines) text += plain_line(line) + "\n";
  return text;
}

/// With LARDER_WRITE_GOLDEN=1 it writes the file: review the difference before you commit it.
TEST_P(TopScreenTest, IsAsItsGoldenTextHasIt) {
  const Golden& golden = GetParam();
  const std::string text = text_of(drawn(golden.figures(), golden.rows, golden.columns));
  const std::string path =
      std::string{LARDER_SOURCE_DIR "/src/larder/tools/top_golden/"} + golden.name + ".txt";
  if (std::getenv("LARDER_WRITE_GOLDEN") != nullptr) std::ofstream{path} << text;
  std::ifstream file{path};
  EXPECT_EQ(text, (std::string{std::istreambuf_iterator<char>{file}, {}})) << golden.name;
}

INSTANTIATE_TEST_SUITE_P(Sizes, TopScreenTest,
                         ::testing::Values(Golden{"load_60x20", figures_under_load, 20, 60},
                                           Golden{"load_80x24", figures_under_load, 24, 80},
                                           Golden{"load_200x60", figures_under_load, 60, 200},
                                           Golden{"load_report", figures_under_load, 0, 120},
                                           Golden{"degraded_60x20", figures_degraded, 20, 60},
                                           Golden{"degraded_80x24", figures_degraded, 24, 80},
                                           Golden{"empty_60x20", figures_empty, 20, 60}),
                         [](const auto& test) { return test.param.name; });

TEST(TopScreenSizesTest, EverySizeFits) {
  for (const auto& figures : {figures_under_load(), figures_degraded(), figures_empty()}) {
    for (std::size_t rows = 1; rows < 70; rows += rows < 30 ? 1 : 7) {
      for (std::size_t columns = 1; columns < 210; columns += columns < 90 ? 1 : 13) {
        for (const bool is_help : {false, true}) {
          const auto lines = draw_top(figures, {.rows = rows,
                                                .columns = columns,
                                                .is_utf8 = true,
                                                .target = "target",
                                                .clock = "12:01:07",
                                                .is_paused = true,
                                                .is_help = is_help,
                                                .silent_s = 12,
                                                .error = "refused"});
          ASSERT_EQ(lines.size(), rows) << columns;
          for (const ScreenLine& line : lines) {
            ASSERT_LE(columns_of(plain_line(line)), columns) << rows << " " << plain_line(line);
            ASSERT_EQ(plain_line(line).find('\x1b'), std::string::npos);
          }
        }
      }
    }
  }
}

TEST(TopScreenSizesTest, ATargetThatIsSilentIsSaidInPlaceOfItsHealth) {
  const std::string text = text_of(
      draw_top(figures_under_load(),
               {.rows = 24, .columns = 80, .target = "t", .silent_s = 12, .error = "t: refused"}));
  EXPECT_NE(text.find("SILENT    no answer since 12 s: t: refused\n"), std::string::npos) << text;
}

TEST(TopJsonTest, EverythingIsThereAndNothingIsRaw) {
  TopFigures figures = figures_degraded();
  figures.rooms[0].used = 1e308 * 10;  // Infinite: no number of JSON's.
  const std::string text = top_json(figures, "127.0.0.1:8080");
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["health"], "degraded");
  EXPECT_EQ(json["reasons"].size(), 5U);
  EXPECT_DOUBLE_EQ(json["shares"]["found_in_l1"]["now"], 0.601);
  EXPECT_DOUBLE_EQ(json["stores"][0]["load"]["p99_seconds"], 0.0123);
  EXPECT_TRUE(json["stores"][0]["store"]["p99_seconds"].is_null()) << "above the last bound";
  EXPECT_TRUE(json["rooms"][0]["used_bytes"].is_null());
  EXPECT_EQ(json["salts"][1]["salt"], "evil\x1b[2J");
  EXPECT_EQ(nlohmann::json::parse(top_error_json("t", "no\n\x1b"))["ok"], false);
}

}  // namespace
}  // namespace larder::tools
