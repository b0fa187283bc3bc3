#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace larder::server {

/// Watches the parser while it reads JSON from outside; give it to parse() by std::ref().
///
/// Depth: values are printed, copied and destroyed recursively, so one that is nested a hundred
///   thousand times would overflow the stack. Deeper values are not kept beyond kDepthMax; check
///   is_too_deep() before the value.
/// Twice: if an object has a key twice, it is not clear which one was meant; see twice().
class JsonWatch {
 public:
  static constexpr int kDepthMax = 16;

  bool operator()(int depth, nlohmann::ordered_json::parse_event_t event,
                  nlohmann::ordered_json& value);

  bool is_too_deep() const noexcept { return is_too_deep_; }
  /// The first such key; empty: there is none.
  const std::string& twice() const noexcept { return twice_; }

 private:
  std::vector<std::set<std::string>> keys_;  ///< Of the open objects.
  std::string twice_;
  bool is_too_deep_ = false;
};

}  // namespace larder::server
