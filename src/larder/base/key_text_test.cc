#include "larder/base/key_text.h"

#include <gtest/gtest.h>

#include "larder/base/random.h"

namespace larder {
namespace {

TEST(KeyTextTest, PrintableTextIsItselfAndTheRestIsEscaped) {
  EXPECT_EQ(escape_key("model@00ff:a b~"), "model@00ff:a b~");
  EXPECT_EQ(escape_key(std::string_view{"\0\n\x1b[31m\x7f\xff", 9}),
            "\\x00\\x0a\\x1b[31m\\x7f\\xff");
  EXPECT_EQ(escape_key("a\\x41"), "a\\\\x41");
}

TEST(KeyTextTest, HexHasTwoDigitsForEachByte) {
  EXPECT_EQ(hex_text({}), "");
  EXPECT_EQ(hex_text(std::as_bytes(std::span{std::string_view{"\x00\x0f\xa0\xff", 4}})),
            "000fa0ff");
}

TEST(KeyTextTest, EveryKeyComesBack) {
  Random random{1};
  for (std::size_t bytes = 0; bytes < 300; ++bytes) {
    std::string key(bytes, '\0');
    random.fill(std::as_writable_bytes(std::span{key}));
    const auto back = unescape_key(escape_key(key));
    ASSERT_TRUE(back.has_value()) << back.error().text;
    EXPECT_EQ(*back, key);
  }
}

TEST(KeyTextTest, ABackslashThatBeginsNothingIsRefusedWithItsPlace) {
  for (const char* const text :
       {"ab\\", "ab\\n", "ab\\x", "ab\\x4", "ab\\xg0", "ab\\x-1", "ab\\x 1"}) {
    const auto key = unescape_key(text);
    ASSERT_FALSE(key.has_value()) << text;
    EXPECT_EQ(key.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(key.error().text.find("position 3"), std::string::npos) << key.error().text;
  }
}

TEST(KeyTextTest, AMessageKeepsItsTextAndLosesWhatDrivesATerminal) {
  EXPECT_EQ(printable("plain \\ text, /größe/→ 大"), "plain \\ text, /größe/→ 大");
  EXPECT_EQ(printable(std::string_view{"a\nb\0c\x1b[31m\x7f", 11}), "a\\x0ab\\x00c\\x1b[31m\\x7f");
  // The same in UTF-8: CSI, a line separator, an override of direction, an isolate.
  EXPECT_EQ(printable("\xc2\x9b[2J"), "\\xc2\\x9b[2J");
  EXPECT_EQ(printable("\u2028"), "\\xe2\\x80\\xa8");
  EXPECT_EQ(printable("a\u202eb"), "a\\xe2\\x80\\xaeb");
  EXPECT_EQ(printable("\u2066"), "\\xe2\\x81\\xa6");
}

TEST(KeyTextTest, BytesThatAreNoUtf8AreEscapedOneByOne) {
  // Alone, cut short, overlong, a surrogate, beyond the last character.
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"\xff", "\\xff"},
      {"\x9b", "\\x9b"},
      {"\xc3", "\\xc3"},
      {"\xc3(", "\\xc3("},
      {"\xe2\x82", "\\xe2\\x82"},
      {"\xc0\x8a", "\\xc0\\x8a"},
      {"\xe0\x80\x8a", "\\xe0\\x80\\x8a"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(printable(bytes), text);
}

}  // namespace
}  // namespace larder
