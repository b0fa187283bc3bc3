#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "larder/base/mutex.h"
#include "larder/base/result.h"

namespace larder {

/// The keys that calls are working on, for backends that users write (Python classes, plugins).
/// Many calls may read a key at a time, or one may change it, so a backend needs no lock against
/// another operation on the same key.
///
/// Threads: any. Cost: a short lock and a map's entry per operation; no more entries than threads.
class KeysInUse {
 public:
  /// `name` says in an error whose it is; a literal.
  explicit KeysInUse(const char* name) noexcept : name_(name) {}

  /// One key's use, from use() until it is destroyed.
  class Use {
   public:
    Use(Use&& other) noexcept
        : keys_(std::exchange(other.keys_, nullptr)),
          key_(std::move(other.key_)),
          is_change_(other.is_change_) {}
    Use& operator=(Use&&) = delete;
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (keys_ != nullptr) keys_->end(key_, is_change_);
    }

   private:
    friend class KeysInUse;
    Use(KeysInUse* keys, std::string key, bool is_change)
        : keys_(keys), key_(std::move(key)), is_change_(is_change) {}
    KeysInUse* keys_;
    std::string key_;
    bool is_change_;
  };

  /// Waits for others; kDeadlineExceeded when they take longer.
  Result<Use> use(std::span<const std::byte> key, bool is_change, std::uint64_t deadline_ns)
      LARDER_EXCLUDES(mutex_);

 private:
  struct Entry {
    std::uint32_t readers = 0;
    std::uint32_t waiting_changes = 0;  ///< New readers wait for them, so that they get their turn.
    std::uint32_t waiting = 0;
    bool is_changing = false;
  };

  void end(const std::string& key, bool is_change) noexcept LARDER_EXCLUDES(mutex_);
  void drop_if_unused(const std::string& key) noexcept LARDER_REQUIRES(mutex_);

  const char* const name_;
  Mutex mutex_;
  CondVar changed_;
  std::unordered_map<std::string, Entry> entries_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder
