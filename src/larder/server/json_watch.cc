#include "larder/server/json_watch.h"

#include <utility>

namespace larder::server {

bool JsonWatch::operator()(int depth, nlohmann::ordered_json::parse_event_t event,
                           nlohmann::ordered_json& value) {
  using Event = nlohmann::ordered_json::parse_event_t;
  if (depth > kDepthMax) is_too_deep_ = true;
  if (is_too_deep_) return false;
  if (event == Event::object_start) keys_.emplace_back();
  if (event == Event::object_end && !keys_.empty()) keys_.pop_back();
  if (event == Event::key && !keys_.empty()) {
    auto key = value.get<std::string>();
    if (!keys_.back().insert(key).second && twice_.empty()) twice_ = std::move(key);
  }
  return true;
}

}  // namespace larder::server
