#include "larder/tools/terminal_keys.h"

#include <optional>

namespace larder::tools {
namespace {

std::optional<TerminalKey> key_of(char c) noexcept {
  switch (c) {
    case 'q':
    case 'Q':
    case '\x03':  // Ctrl-C, where the terminal sends no signal for it.
    case '\x04':  // Ctrl-D
      return TerminalKey::kQuit;
    case 'p':
    case 'P':
    case ' ':
      return TerminalKey::kPause;
    case '?':
    case 'h':
    case 'H':
      return TerminalKey::kHelp;
    case '\x0c':  // Ctrl-L
      return TerminalKey::kRedraw;
    case '\x1a':  // Ctrl-Z
      return TerminalKey::kSuspend;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<TerminalKey> TerminalKeys::decode(std::string_view bytes) {
  std::vector<TerminalKey> keys;
  for (const char c : bytes) {
    const State before = state_;
    state_ = State::kText;
    if (c == '\x1b') {
      state_ = State::kEscape;
    } else if (before == State::kSequence) {
      if (c >= ' ' && c <= '?') state_ = State::kSequence;  // Its end is a letter or ~.
    } else if (before == State::kEscape && c == '[') {
      state_ = State::kSequence;
    } else if (before == State::kEscape && c == 'O') {
      state_ = State::kOneMore;
    } else if (before != State::kOneMore) {
      if (const auto key = key_of(c)) keys.push_back(*key);
    }
  }
  return keys;
}

}  // namespace larder::tools
