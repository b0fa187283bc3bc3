#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace larder::tools {

enum class TerminalKey : std::uint8_t { kQuit, kPause, kHelp, kRedraw, kSuspend };

/// What the bytes of a terminal without line editing mean. Keys that send several bytes (arrows,
/// function keys, the mouse) mean nothing, and none of their bytes is taken for a letter, wherever
/// a read cuts them. Escape alone waits for the next byte. Pure; keeps a few bits of state.
class TerminalKeys {
 public:
  std::vector<TerminalKey> decode(std::string_view bytes);

 private:
  enum class State : std::uint8_t {
    kText,
    kEscape,    ///< Behind ESC.
    kSequence,  ///< Behind ESC [: ends with a letter or ~.
    kOneMore,   ///< Behind ESC O.
  };
  State state_ = State::kText;
};

}  // namespace larder::tools
