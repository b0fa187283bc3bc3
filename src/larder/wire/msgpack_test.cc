#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/limits.h"
#include "larder/wire/msgpack_reader.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

template <class Write>
Bytes written(Write write) {
  Bytes bytes;
  MsgpackWriter writer{bytes};
  write(writer);
  return bytes;
}

Value only_value(const Bytes& bytes) {
  MsgpackReader reader{bytes};
  const auto value = reader.next();
  EXPECT_TRUE(value.has_value()) << hex(bytes);
  EXPECT_TRUE(reader.at_end()) << hex(bytes);
  return value.value_or(Value{});
}

Fault fault_of(std::string_view text) {
  const Bytes bytes = from_hex(text);
  MsgpackReader reader{bytes};
  std::size_t values = 1000;
  EXPECT_FALSE(reader.skip(values)) << text;
  EXPECT_FALSE(reader.next().has_value());  // For good.
  return reader.fault();
}

TEST(MsgpackTest, WritesTheShortestForm) {
  const auto integer = [](std::uint64_t value) {
    return hex(written([&](MsgpackWriter& writer) { writer.integer(value); }));
  };
  EXPECT_EQ(integer(0), "00");
  EXPECT_EQ(integer(127), "7f");
  EXPECT_EQ(integer(128), "cc80");
  EXPECT_EQ(integer(255), "ccff");
  EXPECT_EQ(integer(256), "cd0100");
  EXPECT_EQ(integer(65535), "cdffff");
  EXPECT_EQ(integer(65536), "ce00010000");
  EXPECT_EQ(integer(0xFFFF'FFFF), "ceffffffff");
  EXPECT_EQ(integer(0x1'0000'0000), "cf0000000100000000");
  const auto negative = [](std::int64_t value) {
    return hex(written([&](MsgpackWriter& writer) { writer.negative(value); }));
  };
  EXPECT_EQ(negative(-1), "ff");
  EXPECT_EQ(negative(-32), "e0");
  EXPECT_EQ(negative(-33), "d0df");
  EXPECT_EQ(negative(-129), "d1ff7f");
  EXPECT_EQ(negative(-32769), "d2ffff7fff");
  EXPECT_EQ(negative(INT64_MIN), "d38000000000000000");
  EXPECT_EQ(hex(written([](MsgpackWriter& writer) { writer.text("OK"); })), "a24f4b");
}

TEST(MsgpackTest, ReadsBackEveryLengthClass) {
  for (const std::size_t size : {0U, 1U, 15U, 16U, 31U, 32U, 255U, 256U, 65535U, 65536U}) {
    const std::string text(size, 'x');
    const Bytes as_text = written([&](MsgpackWriter& writer) { writer.text(text); });
    EXPECT_EQ(only_value(as_text).type, Type::kText);
    EXPECT_EQ(only_value(as_text).bytes.size(), size);
    const auto payload = std::as_bytes(std::span{text});
    const Bytes as_binary = written([&](MsgpackWriter& writer) { writer.binary(payload); });
    EXPECT_EQ(only_value(as_binary).type, Type::kBinary);
    EXPECT_EQ(only_value(as_binary).bytes.size(), size);

    const Bytes array = written([&](MsgpackWriter& writer) {
      writer.array(size);
      for (std::size_t i = 0; i < size; ++i) writer.boolean(true);
    });
    MsgpackReader reader{array};
    EXPECT_EQ(reader.next().value_or(Value{}).count, size);
    EXPECT_EQ(reader.rest().size(), size);
    const Bytes map = written([&](MsgpackWriter& writer) {
      writer.map(size);
      for (std::size_t i = 0; i < 2 * size; ++i) writer.nil();
    });
    std::size_t values = 1 + 2 * size;
    MsgpackReader skipping{map};
    EXPECT_TRUE(skipping.skip(values));
    EXPECT_TRUE(skipping.at_end());
    EXPECT_EQ(values, 0U);
  }
}

TEST(MsgpackTest, ReadsIntegersOfAnyWidth) {
  for (const std::string_view text : {"05", "cc05", "cd0005", "ce00000005", "cf0000000000000005",
                                      "d005", "d10005", "d200000005", "d30000000000000005"}) {
    const Integer integer = only_value(from_hex(text)).integer;
    EXPECT_EQ(integer, (Integer{.bits = 5, .is_negative = false})) << text;
  }
  for (const std::string_view text : {"ff", "d0ff", "d1ffff", "d2ffffffff", "d3ffffffffffffffff"}) {
    const Integer integer = only_value(from_hex(text)).integer;
    EXPECT_EQ(integer, (Integer{.bits = ~std::uint64_t{0}, .is_negative = true})) << text;
  }
  EXPECT_EQ(only_value(from_hex("cfffffffffffffffff")).integer,
            (Integer{.bits = ~std::uint64_t{0}, .is_negative = false}));
  EXPECT_EQ(only_value(from_hex("ca3fc00000")).real, 1.5);
  EXPECT_EQ(only_value(from_hex("cb3ff8000000000000")).real, 1.5);
  EXPECT_EQ(only_value(from_hex("d47f00")).extension, 127);
  EXPECT_EQ(only_value(from_hex("c703ff010203")).bytes.size(), 3U);
  EXPECT_EQ(only_value(from_hex("c703ff010203")).extension, -1);
}

TEST(MsgpackTest, RefusesWhatTheFrameCannotHold) {
  for (const std::string_view text :
       {"",         "cc",           "cd00",         "ce000000",       "cf00000000000000", "a1",
        "d9",       "d902ff",       "db7fffffff00", "c4ff00",         "c6ffffffff",       "91",
        "dcffff00", "ddffffffff00", "81c0",         "df7fffffffc0c0", "c703ff",           "d8ff00",
        "ca000000", "92c0"}) {
    EXPECT_EQ(fault_of(text), Fault::kTruncated) << text;
  }
  EXPECT_EQ(fault_of("c1"), Fault::kReserved);
  EXPECT_EQ(fault_of("91c1"), Fault::kReserved);
}

TEST(MsgpackTest, SkipsToItsLimits) {
  const auto nested = [](std::size_t depth) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) text += "91";
    return text + "c0";
  };
  const Bytes deepest = from_hex(nested(limits::kDepth));
  MsgpackReader reader{deepest};
  std::size_t values = 1000;
  EXPECT_TRUE(reader.skip(values));
  EXPECT_EQ(fault_of(nested(limits::kDepth + 1)), Fault::kTooDeep);

  const Bytes three = from_hex("92c0c0");
  std::size_t two = 2;
  MsgpackReader bounded{three};
  EXPECT_FALSE(bounded.skip(two));
  EXPECT_EQ(bounded.fault(), Fault::kTooMany);
}

TEST(MsgpackTest, ShowsAnyValueInOneShortLine) {
  EXPECT_EQ(show_value(from_hex("ca3fc00000")), "float 1.500000");
  EXPECT_EQ(show_value(from_hex("a3612f62")), "text \"a/b\"");
  EXPECT_EQ(show_value(from_hex("a30a1b00")), "text \"\\x0a\\x1b\\x00\"");
  EXPECT_EQ(show_value(from_hex("93000000")), "an array of 3");
  EXPECT_EQ(show_value(from_hex("ff")), "-1");
  EXPECT_EQ(show_value({}), "nothing");
  EXPECT_EQ(show_value(from_hex("c1")), "broken MessagePack");
  const Bytes long_text =
      written([](MsgpackWriter& writer) { writer.text(std::string(100'000, '\n')); });
  EXPECT_LT(show_value(long_text).size(), 4 * limits::kShownValueBytes + 30);
}

}  // namespace
}  // namespace larder::wire
