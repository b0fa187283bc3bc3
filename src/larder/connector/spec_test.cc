#include "larder/connector/spec.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::string_view kSpecial = "%?#&=+:/\\\"{}[]<> ,'\n\t\x01\x7f";
constexpr std::string_view kTypeFirst = "abcxyz";
constexpr std::string_view kTypeRest = "abcxyz0189_-";
constexpr std::string_view kNames = "abcXYZ0189_-.";

std::string error_of(std::string_view text) {
  const auto spec = Spec::parse(text);
  return spec ? "no error" : spec.error().text;
}

std::uint64_t printed_seed() {
  const char* given = std::getenv("LARDER_TEST_SEED");
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("LARDER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

TEST(SpecTest, AJsonListIsItsTextsWithCommas) {
  const auto spec = Spec::parse(R"({"type": "fault", "a": [0.5, 1, "x", true], "b": []})");
  ASSERT_TRUE(spec.has_value()) << spec.error().text;
  EXPECT_EQ(spec->parameters().find("a")->second, "0.5,1,x,true");
  EXPECT_EQ(spec->parameters().find("b")->second, "");
  EXPECT_EQ(Spec::parse(spec->to_url()).value(), *spec);
}

TEST(SpecTest, AUrlHasTypeLocationAndParameters) {
  const auto spec = Spec::parse("log:/data/my%20kv?capacity=200GiB&sync=batch");

  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->type(), "log");
  EXPECT_EQ(spec->parameters().at(""), "/data/my kv");
  EXPECT_EQ(spec->parameters().at("capacity"), "200GiB");
  EXPECT_EQ(spec->parameters().at("sync"), "batch");
  EXPECT_EQ(spec->parameters().size(), 3U);
}

TEST(SpecTest, EverythingBetweenTypeAndQuestionMarkIsTheLocation) {
  const auto spec = Spec::parse("redis://user@host:6379/0?ttl=1h");

  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->parameters().at(""), "//user@host:6379/0");
  EXPECT_EQ(spec->to_url(), "redis://user@host:6379/0?ttl=1h");
}

TEST(SpecTest, AParameterBehindALocationWithoutItsQuestionMarkIsRefused) {
  for (const char* const text : {"fs:/x&capacity=1GiB", "log:/x&capacity=1GiB?sync=batch",
                                 "redis://h:1/2&a&password=hunter2"}) {
    const std::string error = error_of(text);
    EXPECT_NE(error.find("'?' stands before the first parameter"), std::string::npos) << error;
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
  EXPECT_NE(error_of("fs:/x&capacity=1GiB").find("character 6: "), std::string::npos);
  EXPECT_NE(error_of("fs:/x&capacity=1GiB").find("write ?capacity=...; "), std::string::npos);
  for (const char* const text : {"fs:/R&D", "fs:/a&", "fs:/x%26capacity=1", "fs:/R&D/a=b",
                                 R"({"type": "fs", "": "/x&capacity=1"})"}) {
    const auto spec = Spec::parse(text);
    ASSERT_TRUE(spec) << text << ": " << spec.error().text;
    EXPECT_EQ(*Spec::parse(spec->to_url()), *spec) << text;
  }
}

TEST(SpecTest, ATypeAloneIsASpecWithoutParameters) {
  const auto spec = Spec::parse("memory:");

  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_TRUE(spec->parameters().empty());
}

TEST(SpecTest, JsonAndUrlAreOneValue) {
  const auto url = Spec::parse("log:?path=/data/kv&capacity=4096&direct=true&share=0.50");
  const auto json = Spec::parse(
      R"({"type": "log", "path": "/data/kv", "capacity": 4096, "direct": true, "share": 0.50})");

  ASSERT_TRUE(url) << url.error().text;
  ASSERT_TRUE(json) << json.error().text;
  EXPECT_EQ(*url, *json);
}

TEST(SpecTest, ANestedJsonSpecIsKeptAsCanonicalUrl) {
  const auto json = Spec::parse(
      R"({"type": "fault", "inner": {"type": "log", "path": "/a b", "capacity": "1GiB"}})");

  ASSERT_TRUE(json) << json.error().text;
  EXPECT_EQ(json->parameters().at("inner"), "log:?capacity=1GiB&path=/a%20b");
  EXPECT_EQ(*json, *Spec::parse("fault:?inner=log:%3Fcapacity%3D1GiB%26path%3D/a%2520b"));
}

TEST(SpecTest, UrlErrorsNameThePositionAndWhatWasExpected) {
  EXPECT_EQ(error_of("data/kv"),
            "spec: expected a connector type and ':' at the beginning, for example "
            "log:/data/kv?capacity=200GiB or memory:");
  EXPECT_EQ(error_of("log:/a?b"), "spec: character 9: expected '=' after 'b'");
  EXPECT_NE(error_of("log:/a?").find("character 8: expected name=value"), std::string::npos);
  EXPECT_NE(error_of("log:?a=1&&b=2").find("character 10: expected name=value"), std::string::npos);
  EXPECT_EQ(error_of("log:?a=1&a=2"), "spec: character 10: parameter 'a' is given twice");
  EXPECT_NE(error_of("log:/%4").find("character 6: expected two hexadecimal digits"),
            std::string::npos);
  EXPECT_NE(error_of("log:/%zz").find("two hexadecimal digits"), std::string::npos);
  EXPECT_NE(error_of("fault:?inner=log:/a?b=c").find("character 20: '?' must be written as %3F"),
            std::string::npos);
  EXPECT_NE(error_of("log:/a#b").find("must be written as %23"), std::string::npos);
  EXPECT_NE(error_of("log:/a\nb").find("control character"), std::string::npos);
  EXPECT_NE(error_of("log:/%00").find("UTF-8 text without NUL"), std::string::npos);
  EXPECT_NE(error_of("log:/%FF").find("UTF-8 text without NUL"), std::string::npos);
  EXPECT_NE(error_of("Log:/a").find("lower-case"), std::string::npos);
  EXPECT_NE(error_of("log:?type=x").find("is not 'type'"), std::string::npos);
  EXPECT_NE(error_of("log:?a b=x").find("expected name=value"), std::string::npos);
  EXPECT_NE(error_of("").find("expected a connector type"), std::string::npos);
}

TEST(SpecTest, JsonErrorsNameTheParameterAndWhatWasExpected) {
  EXPECT_EQ(error_of(R"({"type": "log", "a": 1, "a": 2})"), "spec: 'a': is given twice");
  EXPECT_EQ(error_of(R"({"type": "log", "type": "log"})"), "spec: 'type': is given twice");
  EXPECT_NE(error_of(R"({"path": "/a"})").find("expected \"type\""), std::string::npos);
  EXPECT_NE(error_of(R"({"type": 1})").find("'type': expected a text"), std::string::npos);
  EXPECT_NE(error_of(R"({"type": {"type": "a"}})").find("'type': expected a text"),
            std::string::npos);
  EXPECT_NE(error_of(R"({"type": "A"})").find("lower-case"), std::string::npos);
  EXPECT_NE(error_of(R"({"type": "log", "a": null})").find("'a': null is not a value"),
            std::string::npos);
  for (const char* list : {R"([[1]])", R"([{"type": "log"}, 1])", R"(["a,b"])", R"([""])"}) {
    EXPECT_NE(error_of(R"({"type": "log", "a": )" + std::string{list} + "}").find("'a': "),
              std::string::npos)
        << list;
  }
  EXPECT_NE(error_of(R"({"type": "f", "in": {"type": "g", "b": null}})").find("'in.b': null"),
            std::string::npos);
  EXPECT_NE(error_of(R"({"type": "log", "a b": 1})").find("a name has letters"), std::string::npos);
  EXPECT_NE(error_of(R"({"type": "log", "a": "\u0000"})").find("without NUL"), std::string::npos);
  EXPECT_NE(error_of(R"({"type": "log"} x)").find("not valid JSON: parse error at line 1"),
            std::string::npos);
}

TEST(SpecTest, ErrorsDoNotRepeatValuesThatMayBeSecret) {
  EXPECT_EQ(error_of("redis:?password=hunter2%zz").find("hunter2"), std::string::npos);
  EXPECT_EQ(error_of("redis:?password=hunter2&password=hunter2").find("hunter2"),
            std::string::npos);
  EXPECT_EQ(error_of("{\"type\": \"redis\", \"password\": \"hunter2\n\"}").find("hunter2"),
            std::string::npos);
}

TEST(SpecTest, ASpecLongerThan64KiBIsRefused) {
  const std::string prefix = "log:/";
  EXPECT_TRUE(Spec::parse(prefix + std::string((64U << 10U) - prefix.size() - 20, 'a')));
  EXPECT_NE(error_of(prefix + std::string(64U << 10U, 'a')).find("64 KiB"), std::string::npos);
  // Short as it is written, too long in the canonical spelling.
  EXPECT_NE(error_of(prefix + std::string(40U << 10U, ' ')).find("64 KiB"), std::string::npos);
}

std::string nested_json(int levels) {
  std::string text = R"({"type": "memory"})";
  for (int i = 1; i < levels; ++i) text.insert(0, R"({"type": "fault", "inner": )").append("}");
  return text;
}

std::string nested_url(int levels) {
  Spec spec;
  spec.set_type("memory");
  for (int i = 1; i < levels; ++i) {
    Spec outer;
    outer.set_type("fault");
    outer.set("inner", spec.to_url());
    spec = outer;
  }
  return spec.to_url();
}

TEST(SpecTest, EightLevelsAreReadAndNineAreNot) {
  EXPECT_TRUE(Spec::parse(nested_json(8)));
  EXPECT_TRUE(Spec::parse(nested_url(8)));
  EXPECT_EQ(*Spec::parse(nested_json(8)), *Spec::parse(nested_url(8)));
  EXPECT_NE(error_of(nested_json(9)).find("more than 8 deep"), std::string::npos);
  EXPECT_NE(error_of(nested_url(9)).find("more than 8 deep"), std::string::npos);
  EXPECT_NE(error_of(nested_url(60)).find("more than 8 deep"), std::string::npos);
  EXPECT_NE(error_of(nested_json(2000)).find("more than 8 deep"), std::string::npos);
}

TEST(SpecTest, TheLocationBecomesTheParameterThatTheTypeNames) {
  auto spec = Spec::parse("log:/data/kv");
  ASSERT_TRUE(spec->rename_location("path"));
  EXPECT_EQ(*spec, *Spec::parse("log:?path=/data/kv"));

  auto both = Spec::parse("log:/data/kv?path=/other");
  const auto twice = both->rename_location("path");
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().text.find("'path', and that is given too"), std::string::npos);

  auto none = Spec::parse("memory:oops");
  const auto refused = none->rename_location("");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("memory: takes no location"), std::string::npos);
  EXPECT_TRUE(Spec::parse("memory:")->rename_location(""));
}

TEST(SpecTest, ANestedSpecMayBeGivenAgain) {
  const auto url = Spec::parse("tiered:?l2=memory:&l2=log:/a%3Fcapacity%3D1GiB&l2=memory:");
  ASSERT_TRUE(url) << url.error().text;
  EXPECT_EQ(url->parameters().at("l2"), "memory:");
  EXPECT_EQ(url->parameters().at("l2.2"), "log:/a?capacity=1GiB");
  EXPECT_EQ(url->parameters().at("l2.3"), "memory:");
  EXPECT_EQ(*Spec::parse(url->to_url()), *url);
  EXPECT_EQ(*Spec::parse(url->to_json()), *url);

  const auto json = Spec::parse(
      R"({"type": "tiered", "l2": [{"type": "memory"}, {"type": "log", "": "/a", "capacity": "1GiB"},)"
      R"( {"type": "memory"}]})");
  ASSERT_TRUE(json) << json.error().text;
  EXPECT_EQ(*json, *url);
}

// ---- Properties ---------------------------------------------------------------------------------

std::string random_name(Random& random, std::string_view alphabet) {
  std::string name;
  const std::uint64_t length = 1 + random.below(12);
  for (std::uint64_t i = 0; i < length; ++i) name += alphabet[random.below(alphabet.size())];
  return name;
}

void append_utf8(std::string& text, std::uint32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0U | (code >> 6U));
    text += static_cast<char>(0x80U | (code & 0x3FU));
  } else {
    text += static_cast<char>(0xE0U | (code >> 12U));
    text += static_cast<char>(0x80U | ((code >> 6U) & 0x3FU));
    text += static_cast<char>(0x80U | (code & 0x3FU));
  }
}

std::string random_value(Random& random) {
  std::string value;
  const std::uint64_t length = random.below(30);
  for (std::uint64_t i = 0; i < length; ++i) {
    switch (random.below(4)) {
      case 0:
        value += kSpecial[random.below(kSpecial.size())];
        break;
      case 1:
        append_utf8(value, static_cast<std::uint32_t>(1 + random.below(0xD7FF)));
        break;
      default:
        value += static_cast<char>('a' + random.below(26));
    }
  }
  return value;
}

Spec random_spec(Random& random, int depth = 0) {
  Spec spec;
  spec.set_type(kTypeFirst[random.below(kTypeFirst.size())] + random_name(random, kTypeRest));
  if (random.one_in(2)) {
    std::string location = random_value(random);
    if (!location.empty()) spec.set("", std::move(location));
  }
  const std::uint64_t count = random.below(6);
  for (std::uint64_t i = 0; i < count; ++i) {
    const bool is_nested = depth < 3 && random.one_in(5);
    spec.set(random_name(random, kNames),
             is_nested ? random_spec(random, depth + 1).to_url() : random_value(random));
  }
  return spec;
}

TEST(SpecPropertyTest, BothSpellingsOfRandomSpecsReadBackAsTheSameSpec) {
  Random random{printed_seed()};
  for (int i = 0; i < 10'000; ++i) {
    const Spec spec = random_spec(random);
    SCOPED_TRACE(spec.to_json());

    const auto from_url = Spec::parse(spec.to_url());
    const auto from_json = Spec::parse(spec.to_json());

    ASSERT_TRUE(from_url) << from_url.error().text;
    ASSERT_TRUE(from_json) << from_json.error().text;
    ASSERT_EQ(*from_url, spec);
    ASSERT_EQ(*from_json, spec);
    ASSERT_EQ(from_json->to_url(), spec.to_url());
  }
}

TEST(SpecPropertyTest, DamagedTextsGiveAnErrorOrASpecThatReadsBack) {
  Random random{printed_seed()};
  int errors = 0;
  for (int i = 0; i < 10'000; ++i) {
    const Spec spec = random_spec(random);
    std::string text = random.one_in(2) ? spec.to_url() : spec.to_json();
    for (std::uint64_t edits = 1 + random.below(4); edits > 0 && !text.empty(); --edits) {
      const std::size_t where = random.below(text.size());
      switch (random.below(3)) {
        case 0:
          text[where] = static_cast<char>(random.below(256));
          break;
        case 1:
          text.erase(where, 1 + random.below(5));
          break;
        default:
          text.insert(where, text.substr(random.below(text.size()), random.below(10)));
      }
    }

    const auto parsed = Spec::parse(text);

    if (!parsed) {
      ++errors;
      ASSERT_FALSE(parsed.error().text.empty());
      continue;
    }
    const auto again = Spec::parse(parsed->to_url());
    ASSERT_TRUE(again) << again.error().text << " in " << parsed->to_url();
    ASSERT_EQ(*again, *parsed);
    ASSERT_EQ(*Spec::parse(parsed->to_json()), *parsed);
  }
  EXPECT_GT(errors, 100);
}

}  // namespace
}  // namespace larder
