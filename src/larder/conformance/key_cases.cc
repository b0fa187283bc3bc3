#include <array>
#include <map>
#include <set>

#include "larder/base/random.h"
#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

using namespace std::string_literals;

std::vector<std::string> awkward_keys() {
  std::set<std::string> keys;
  for (int byte = 0; byte < 256; ++byte) keys.insert(std::string(1, static_cast<char>(byte)));
  for (const std::size_t length :
       {2U, 3U, 16U, 100U, 127U, 128U, 254U, 255U, 256U, 257U, 511U, 512U, 1023U, 1024U}) {
    keys.insert(std::string(length, 'a'));  // Each is a prefix of the next.
    keys.insert(std::string(length, '\0'));
    keys.insert(std::string(length, '\xff'));
    keys.insert(std::string(length, '/'));
    keys.insert(std::string(length, '.'));
    std::string last_bit(length, 'a');
    last_bit.back() = '`';  // 'a' with its last bit flipped.
    keys.insert(last_bit);
    std::string first_bit(length, 'a');
    first_bit.front() = '`';
    keys.insert(first_bit);
  }
  for (const std::string& key : {"../../etc/passwd"s,
                                 "/absolute"s,
                                 "a/b"s,
                                 "a//b"s,
                                 "a/./b"s,
                                 "a-SEP-b"s,
                                 "a_b"s,
                                 "A_B"s,
                                 "a%2Fb"s,
                                 "%"s,
                                 "100%25"s,
                                 "a b"s,
                                 " a"s,
                                 "a "s,
                                 "a\n"s,
                                 "a\r\n"s,
                                 "a\0"s,
                                 "a\0b"s,
                                 "\0a"s,
                                 "\xc3\xa9"s,
                                 "e\xcc\x81"s,
                                 "caf\xe9"s,
                                 "key:1"s,
                                 "key@1"s,
                                 "key?x=y&z"s,
                                 "*"s,
                                 "a*"s,
                                 "[a]"s,
                                 "{a}"s,
                                 "\"quoted\""s,
                                 "'"s,
                                 "\\"s,
                                 "h-0"s,
                                 "model@8@0@abcdef@bfloat16"s,
                                 "tmp"s,
                                 ".tmp"s,
                                 "$VAR"s,
                                 "~"s,
                                 "-"s,
                                 "--"s,
                                 "con"s,
                                 "NUL"s}) {
    keys.insert(key);
  }
  return {keys.begin(), keys.end()};
}

void store_check_and_delete(Context& context, Session& session,
                            const std::vector<std::string>& keys) {
  const auto value_of = [&](std::size_t i) {
    return random_bytes(context.seed() + i, 20 + i % 50);
  };
  Request& store = session.make(Op::kSet);
  Request& load = session.make(Op::kGet);
  Request& remove_half = session.make(Op::kDelete);
  Request& again = session.make(Op::kGet);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    store.add_set(keys[i], value_of(i));
    load.add_get(keys[i], value_of(i).size());
    again.add_get(keys[i], value_of(i).size());
    if (i % 2 == 0) remove_half.add(keys[i]);
  }

  session.run(store);
  session.run(load);
  session.run(remove_half);
  session.run(again);

  for (std::size_t i = 0; i < keys.size(); ++i) {
    context.expect(!store.item(i).existed, printable(keys[i]) + " shares a name with another key");
    context.expect(load.is_hit_of(i, value_of(i)), printable(keys[i]) + " has another key's value");
    if (i % 2 == 0) {
      context.expect(remove_half.item(i / 2).outcome == Outcome::kDone,
                     printable(keys[i]) + " is not deleted");
      context.expect(again.item(i).outcome == Outcome::kMiss,
                     printable(keys[i]) + " is there after its Delete");
    } else {
      context.expect(again.is_hit_of(i, value_of(i)),
                     printable(keys[i]) + " went with another key's Delete");
    }
  }
}

void any_bytes_make_a_key(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  store_check_and_delete(context, *session, awkward_keys());
}

void random_keys_never_meet(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  Random random{context.seed()};
  // Few letters and short lengths, so that keys are near each other.
  constexpr std::string_view kLetters{"ab/.-_@%\0\xff", 10};
  std::set<std::string> keys;
  while (keys.size() < 1500) {
    std::string key;
    const std::size_t length = random.one_in(20) ? 1 + random.below(1024) : 1 + random.below(8);
    while (key.size() < length) key += kLetters[random.below(kLetters.size())];
    keys.insert(key);
  }
  store_check_and_delete(context, *session, {keys.begin(), keys.end()});
}

constexpr std::array kCases{
    Case{"any_bytes_make_a_key", "P10", any_bytes_make_a_key},
    Case{"random_keys_never_meet", "P10", random_keys_never_meet},
};

}  // namespace

std::span<const Case> key_cases() {
  return kCases;
}

}  // namespace larder::conformance
