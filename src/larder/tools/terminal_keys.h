#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace larder::tools {

enum class TerminalKey : std::uint8_t { kQuit, kPause, kHelp, kRedraw, kSuspend };

/// The meaning of input bytes from a terminal without line editing. Keys that send several bytes
/// (arrows, function keys, the mouse) are ignored, and none of their bytes counts as a letter,
/// wherever a read cuts them. Escape alone waits for the next byte. Pure; keeps a few bits of
/// state.
class TerminalKeys {
 public:
  std::vector<TerminalKey> decode(std::string_view bytes);

 private:
  enum class State : std::uint8_t {
    kText,
    kEscape,    ///< Behind ESC.
    kSequence,  ///< After ESC [: ends with a letter or ~.
    kOneMore,   ///< After ESC O.
  };
  State state_ = State::kText;
};

}  // namespace larder::tools
