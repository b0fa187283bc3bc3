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

TEST(FileNameTest, AnyNameThatIsReadGivesItselfBack) {
  Random random{7};
  int read = 0;
  for (int i = 0; i < 300'000; ++i) {
    std::string name = tricky_key(random) + ".data";
    if (random.one_in(2)) name.insert(0, "m@0x");
    const EntryName entry = parse_entry_name(name);
    if (entry.kind == EntryKind::kValue) {
      ASSERT_EQ(file_name_of(entry.key).text, name);
      ++read;
    } else if (entry.kind == EntryKind::kLegacyValue) {
      ASSERT_EQ(legacy_file_name_of(entry.key), name);
      ++read;
    }
  }
  EXPECT_GT(read, 1000);
}

}  // namespace
}  // namespace larder::fs
