#pragma once

#include "larder/base/check.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

/// A first-in, first-out list of requests, linked through Request::queue_next: no allocation, no
/// limit. Owns nothing. One thread at a time.
class RequestQueue {
 public:
  bool empty() const noexcept { return head_ == nullptr; }

  void push(Request& request) noexcept {
    request.queue_next = nullptr;
    if (tail_ == nullptr) {
      head_ = &request;
    } else {
      tail_->queue_next = &request;
    }
    tail_ = &request;
  }

  /// For a request that was taken too early and must be the next one again.
  void push_front(Request& request) noexcept {
    request.queue_next = head_;
    head_ = &request;
    if (tail_ == nullptr) tail_ = &request;
  }

  /// Null when empty.
  Request* pop() noexcept {
    Request* const request = head_;
    if (request == nullptr) return nullptr;
    head_ = request->queue_next;
    if (head_ == nullptr) tail_ = nullptr;
    request->queue_next = nullptr;
    return request;
  }

  void clear() noexcept { head_ = tail_ = nullptr; }

 private:
  Request* head_ = nullptr;
  Request* tail_ = nullptr;
};

}  // namespace larder::io
