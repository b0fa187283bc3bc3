#include "larder/connectors/fs/file_name.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/fs/sha256.h"

namespace larder::fs {
namespace {

using namespace std::string_literals;

TEST(Sha256Test, PublishedVectorsHold) {
  const auto hex = [](const std::string& text) {
    return sha256_hex(std::as_bytes(std::span{text}));
  };
  EXPECT_EQ(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/// Whether a name is one that an open() below the directory cannot misread.
bool is_safe(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name != "." && name != "..";
}

TEST(FileNameTest, LmcacheKeysHaveLmcachesNames) {
  const std::map<std::string, std::string> expected{
      {"llama@000000ff@0@00010203", "llama@0x000000ff@0@00010203.data"},
      {"llama@000000ff@5@00010203", "llama@0x000000ff@5@00010203.data"},
      {"llama@000000ff@0@00010203@alice", "llama@0x000000ff@0@00010203@alice.data"},
      {"meta/llama/8B@01000100@1f@aabb@s p", "meta-SEP-llama-SEP-8B@0x01000100@1f@aabb@s p.data"},
      {".hidden \"model\":*@00000001@0@ff", ".hidden \"model\":*@0x00000001@0@ff.data"},
      {"@@@", "@0x@@.data"},
  };
  for (const auto& [key, name] : expected) {
    EXPECT_EQ(file_name_of(key).text, name);
    EXPECT_EQ(file_name_of(key).kind, NameKind::kLmcache);
    EXPECT_EQ(parse_entry_name(name).kind, EntryKind::kValue) << name;
    EXPECT_EQ(parse_entry_name(name).key, key);
  }
}

TEST(FileNameTest, KeysThatLmcacheWouldConfuseCutOrRefuseHaveNamesOfTheirOwn) {
  EXPECT_EQ(file_name_of("meta-SEP-llama@00000001@0@ff").text,
            "k-meta-SEP-llama%4000000001%400%40ff.data");
  EXPECT_EQ(file_name_of("m@00000001@0@ff@").text, "k-m%4000000001%400%40ff%40.data");
  EXPECT_EQ(file_name_of("m\0@1@0@ff"s).text, "k-m%00%401%400%40ff.data");
  EXPECT_EQ(file_name_of("m@1@0@a/b").text, "k-m%401%400%40a%2Fb.data");
  EXPECT_EQ(file_name_of("plain key").text, "k-plain%20key.data");
  const std::string long_key = std::string(300, 'm') + "@00000001@0@ff";
  EXPECT_EQ(file_name_of(long_key).kind, NameKind::kHashed);
  EXPECT_EQ(parse_entry_name(file_name_of(long_key).text).kind, EntryKind::kHashedValue);
  const std::string key_file = key_file_of(file_name_of(long_key).text);
  EXPECT_EQ(parse_entry_name(key_file).kind, EntryKind::kKeyFile);
  EXPECT_EQ(hashed_name_of(key_file), file_name_of(long_key).text);
}

TEST(FileNameTest, LegacyNamesAreThoseOfGroupZeroAndNobodysPresentOnes) {
  EXPECT_EQ(legacy_file_name_of("a/b@000000ff@0@00010203"), "a-SEP-b@0x000000ff@00010203.data");
  EXPECT_EQ(legacy_file_name_of("m@000000ff@0@0001020304050607@alice"),
            "m@0x000000ff@0001020304050607@alice.data");
  EXPECT_EQ(legacy_file_name_of("m@000000ff@1@00010203"), std::nullopt);
  EXPECT_EQ(legacy_file_name_of("not LMCache's"), std::nullopt);
  // As long as a group: it could be the present name of m@000000ff@00010203@alice.
  EXPECT_EQ(legacy_file_name_of("m@000000ff@0@00010203@alice"), std::nullopt);
  for (const char* key : {"a/b@000000ff@0@00010203", "m@000000ff@0@0001020304050607@alice"}) {
    const EntryName entry = parse_entry_name(*legacy_file_name_of(key));
    EXPECT_EQ(entry.kind, EntryKind::kLegacyValue);
    EXPECT_EQ(entry.key, key);
  }
}

TEST(FileNameTest, WhatIsNotOursIsForeign) {
  for (const char* name : {"",
                           ".",
                           "..",
                           "notes.txt",
                           "notes.tmp",
                           ".data",
                           "x.data",
                           "k-.data",
                           "k-%2.data",
                           "k-%2f.data",
                           "k-a b.data",
                           "h-12.data",
                           "h-12.key",
                           "m@0xff.data",
                           "m@ff@0@aa.data",
                           "m@0xff@0@aa@.data",
                           "m@0xff@0@aa@b@c.data",
                           "lost+found",
                           ".larder-lock",
                           "m@0xff@0@aa.data~"}) {
    EXPECT_EQ(parse_entry_name(name).kind, EntryKind::kForeign) << name;
  }
}

TEST(FileNameTest, TemporaryFilesOfLmcacheAndOfLarderAreTold) {
  EXPECT_EQ(parse_entry_name("m@0x000000ff@0@aabb.tmp").kind, EntryKind::kTemporary);
  std::set<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    names.insert(temporary_name());
    EXPECT_EQ(parse_entry_name(*names.begin()).kind, EntryKind::kTemporary);
  }
  EXPECT_EQ(names.size(), 1000U);
}

TEST(FileNameTest, ShardsFollowTheChunkHash) {
  EXPECT_EQ(shard_of("m@0x000000ff@0@aabbccdd@salt.data"), "aa/bb");
  const std::string other = shard_of("k-key.data");
  EXPECT_EQ(other.size(), 5U);
  EXPECT_EQ(other, shard_of("k-key.data"));
}

TEST(FileNameTest, WhereNamesAreTextOnlyPortableOnesAreLmcaches) {
  const NameRules rules{.kind = NameRules::Kind::kPortable};
  EXPECT_EQ(file_name_of("Org/M-1.5_b@00000001@0@ff@Team", rules).text,
            "Org-SEP-M-1.5_b@0x00000001@0@ff@Team.data");
  EXPECT_EQ(file_name_of("m@00000001@0@ff@s p", rules).text,
            "k-m%4000000001%400%40ff%40s%20p.data");
  EXPECT_EQ(file_name_of("\xC3\xA9@00000001@0@ff", rules).text,
            "k-%C3%A9%4000000001%400%40ff.data");
  EXPECT_EQ(legacy_file_name_of("m@000000ff@0@00010203", rules), "m@0x000000ff@00010203.data");
  EXPECT_EQ(legacy_file_name_of("\xC3\xA9@000000ff@0@00010203", rules), std::nullopt);
}

TEST(FileNameTest, WhereCaseDoesNotCountNoNameHasAnyAndNoneIsLmcaches) {
  const NameRules rules{.kind = NameRules::Kind::kNoCase};
  EXPECT_EQ(file_name_of("Doc", rules).text, "i-%44oc.data");
  EXPECT_EQ(file_name_of("doc", rules).text, "i-doc.data");
  EXPECT_EQ(file_name_of("a/b@00000001@0@ff", rules).text, "i-a%2Fb%4000000001%400%40ff.data");
  EXPECT_EQ(legacy_file_name_of("m@000000ff@0@00010203", rules), std::nullopt);
  EXPECT_EQ(parse_entry_name("i-%44oc.data").key, "Doc");
  // A name that this client would not write belongs to no key.
  for (const char* name : {"i-Doc.data", "i-%6fc.data", "i-%6Fc.data", "I-doc.data", "i-.data"}) {
    EXPECT_EQ(parse_entry_name(name).kind, EntryKind::kForeign) << name;
  }
}

TEST(FileNameTest, WhereNamesAreShortThoseThatDoNotFitAreHashed) {
  const NameRules rules{.bytes_max = 143};
  const std::string key = "m@00000001@0@" + std::string(100, 'a');
  EXPECT_EQ(file_name_of(key, rules).kind, NameKind::kLmcache);
  for (const std::size_t bytes : {119U, 120U, 121U, 200U, 1000U}) {
    const std::string longer = "m@00000001@0@" + std::string(bytes, 'a');
    const FileName name = file_name_of(longer, rules);
    EXPECT_LE(name.text.size(), 143U);
    EXPECT_EQ(name.kind, bytes < 122 ? NameKind::kLmcache : NameKind::kHashed) << bytes;
  }
  EXPECT_EQ(legacy_file_name_of("m@00000001@0@" + std::string(130, 'a'), rules), std::nullopt);
}

/// Keys near each other: built of the pieces that names are made of.
std::string tricky_key(Random& random) {
  static const std::vector<std::string> pieces{"@",
                                               "@",
                                               "@",
                                               "/",
                                               "-SEP-",
                                               "-SEP",
                                               "SEP-",
                                               "-",
                                               "0",
                                               "0x",
                                               ".data",
                                               "k-",
                                               "h-",
                                               ".tmp",
                                               "%",
                                               "%40",
                                               "%2F",
                                               "\0"s,
                                               "a",
                                               "model",
                                               "000000ff",
                                               "\xff",
                                               "..",
                                               ".",
                                               " ",
                                               "ff00",
                                               "@0@",
                                               "@0x0@",
                                               "@@",
                                               "A",
                                               "aabbccddeeff0011",
                                               "\n"};
  std::string key;
  const std::size_t count = 1 + random.below(9);
  for (std::size_t i = 0; i < count; ++i) key += pieces[random.below(pieces.size())];
  if (random.one_in(15)) key.append(random.below(700), random.one_in(2) ? 'x' : '/');
  return key;
}

TEST(FileNameTest, NoTwoKeysShareANameAndEveryNameTellsItsKey) {
  std::map<std::string, std::string> key_of_name;
  Random random{2026};
  std::map<NameKind, int> kinds;
  int legacy = 0;
  for (int i = 0; i < 300'000; ++i) {
    const std::string key = tricky_key(random);
    const FileName name = file_name_of(key);
    ++kinds[name.kind];
    ASSERT_TRUE(is_safe(name.text)) << name.text;
    const auto [place, is_new] = key_of_name.emplace(name.text, key);
    ASSERT_EQ(place->second, key) << name.text;
    const EntryName entry = parse_entry_name(name.text);
    if (name.kind == NameKind::kHashed) {
      ASSERT_EQ(entry.kind, EntryKind::kHashedValue);
    } else {
      ASSERT_EQ(entry.kind, EntryKind::kValue) << name.text;
      ASSERT_EQ(entry.key, key);
    }
    // A legacy name is a name of this key too, and of no other.
    if (const auto old = legacy_file_name_of(key)) {
      ++legacy;
      ASSERT_TRUE(is_safe(*old));
      ASSERT_EQ(key_of_name.emplace(*old, key).first->second, key) << *old;
      ASSERT_EQ(parse_entry_name(*old).kind, EntryKind::kLegacyValue) << *old;
      ASSERT_EQ(parse_entry_name(*old).key, key);
    }
  }
  EXPECT_GT(kinds[NameKind::kLmcache], 1000);
  EXPECT_GT(kinds[NameKind::kEscaped], 1000);
  EXPECT_GT(kinds[NameKind::kHashed], 1000);
  EXPECT_GT(legacy, 100);
}

/// Like the least exact file system: no case, no accents, no invisible characters.
std::string folded(std::string name) {
  const std::vector<std::pair<std::string, std::string>> same{
      {"\xC3\xA9", "e"}, {"\xC3\x89", "e"},     {"\xCC\x81", ""},
      {"\xC2\xAD", ""},  {"\xE2\x84\xAA", "k"}, {"\xC5\xBF", "s"}};
  for (const auto& [from, to] : same) {
    for (std::size_t at = 0; (at = name.find(from)) != std::string::npos;) {
      name.replace(at, from.size(), to);
    }
  }
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return name;
}

TEST(FileNameTest, WhereCaseDoesNotCountNoKeyIsFoundUnderTheNameOfAnotherWhoeverMadeIt) {
  const NameRules no_case{.kind = NameRules::Kind::kNoCase, .bytes_max = 143};
  const std::vector<NameRules> all{
      {}, {.kind = NameRules::Kind::kPortable}, {.bytes_max = 143}, no_case};
  static const std::vector<std::string> pieces{"Doc",      "doc",
                                               "dOC",      "A",
                                               "a",        "/",
                                               "@",        "@0@ff@",
                                               "@0@FF",    "e\xCC\x81",
                                               "\xC3\xA9", "\xC3\x89",
                                               "\xC2\xAD", "\xE2\x84\xAA",
                                               "k",        "K",
                                               "i-",       "I-",
                                               "k-",       "h-",
                                               "%44",      "-sep-",
                                               "-SEP-",    "@00000001@0@ff",
                                               " ",        "m"};
  // By the file system's rules: the keys that were written there under some rules.
  std::map<std::string, std::set<std::string>> keys_under;
  std::vector<std::string> keys;
  Random random{9};
  for (int i = 0; i < 100'000; ++i) {
    std::string key;
    const std::size_t count = 1 + random.below(4);
    for (std::size_t piece = 0; piece < count; ++piece) key += pieces[random.below(pieces.size())];
    if (random.one_in(40)) key.append(150, 'x');
    for (const NameRules& rules : all) {
      keys_under[folded(file_name_of(key, rules).text)].insert(key);
      if (const auto legacy = legacy_file_name_of(key, rules)) {
        keys_under[folded(*legacy)].insert(key);
      }
    }
    keys.push_back(key);
  }
  for (const std::string& key : keys) {
    const FileName name = file_name_of(key, no_case);
    EXPECT_EQ(name.text.size() <= 143, true);
    ASSERT_EQ(keys_under.at(folded(name.text)), std::set<std::string>{key}) << name.text;
    const EntryName entry = parse_entry_name(name.text);
    if (name.kind == NameKind::kHashed) continue;
    ASSERT_EQ(entry.key, key);
    ASSERT_TRUE(is_found_under(entry, name.text, no_case));
    ASSERT_FALSE(is_found_under(entry, name.text, {}));
  }
}

TEST(FileNameTest, AnyNameThatIsReadGivesItselfBack) {
  Random random{7};
  int read = 0;
  for (int i = 0; i < 300'000; ++i) {
    std::string name = tricky_key(random) + ".data";
    if (random.one_in(2)) name.insert(0, random.one_in(2) ? "m@0x" : "i-");
    const EntryName entry = parse_entry_name(name);
    if (entry.kind != EntryKind::kValue && entry.kind != EntryKind::kLegacyValue) continue;
    ++read;
    const bool is_found = is_found_under(entry, name, {}) ||
                          is_found_under(entry, name, {.kind = NameRules::Kind::kNoCase}) ||
                          is_found_under(entry, name, {.kind = NameRules::Kind::kPortable});
    ASSERT_TRUE(is_found || name.starts_with("k-")) << name;
  }
  EXPECT_GT(read, 1000);
}

}  // namespace
}  // namespace larder::fs
