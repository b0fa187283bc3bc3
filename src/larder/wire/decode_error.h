#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "larder/base/result.h"

namespace larder::wire {

/// Why a message was refused, for a person who reads the client's or the server's log.
struct DecodeError {
  std::string field;   ///< Where in the message, e.g. "key.token_ids[17]".
  std::string value;   ///< What stood there, in short and printable, e.g. "float 1.5".
  std::string remedy;  ///< The values that are accepted there.

  /// "key.token_ids[17] is float 1.5; it must be an integer from 0 to 4294967295". At most about
  /// 300 bytes, one line.
  std::string to_string() const { return field + " is " + value + "; it must be " + remedy; }
};

template <class T>
using DecodeResult = Result<T, DecodeError>;
using DecodeStatus = DecodeResult<void>;

}  // namespace larder::wire
