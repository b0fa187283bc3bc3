#include "larder/connectors/resp/command.h"

#include <array>
#include <charconv>

namespace larder::resp {
namespace {

void append_header(std::string& text, char type, std::size_t number) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  text += type;
  text.append(digits.data(), end);
  text += "\r\n";
}

}  // namespace

CommandKind first_command(Op op) noexcept {
  switch (op) {
    case Op::kGet:
      return CommandKind::kGet;
    case Op::kSet:
      return CommandKind::kSet;
    case Op::kExists:
      return CommandKind::kSize;
    case Op::kDelete:
      return CommandKind::kDelete;
    case Op::kTouch:
      return CommandKind::kTouch;
  }
  return CommandKind::kGet;
}

void append_bulk(std::string& text, std::string_view bulk) {
  append_header(text, '$', bulk.size());
  text += bulk;
  text += "\r\n";
}

std::string encode_command(std::initializer_list<std::string_view> words) {
  std::string text;
  append_header(text, '*', words.size());
  for (const std::string_view word : words) append_bulk(text, word);
  return text;
}

}  // namespace larder::resp
