#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "larder/server/copy/copy_loop.h"
#include "larder/server/copy/copy_plan.h"
#include "larder/wire/wire_test_support.h"

/// The common parts of this folder's tests.
namespace larder::server {

using wire::GroupSample;
using wire::KvCacheSample;
using wire::TensorSample;

inline std::vector<std::uint64_t> tight_strides(const std::vector<std::uint64_t>& shape) {
  std::vector<std::uint64_t> stride(shape.size(), 1);
  for (std::size_t i = shape.size() - 1; i-- > 0;) stride[i] = stride[i + 1] * shape[i + 1];
  return stride;
}

/// Tensors of one shape, without gaps, each in memory of its own: /lmcache_kv_1_<number>.
inline std::vector<TensorSample> make_tensors(std::size_t count,
                                              const std::vector<std::uint64_t>& shape,
                                              const std::string& dtype = "float16",
                                              std::uint64_t element_bytes = 2,
                                              std::size_t first = 0) {
  std::uint64_t bytes = element_bytes;
  for (const std::uint64_t size : shape) bytes *= size;
  std::vector<TensorSample> tensors;
  for (std::size_t i = 0; i < count; ++i) {
    tensors.push_back({.name = "/lmcache_kv_1_" + std::to_string(first + i),
                       .bytes = bytes,
                       .dtype = dtype,
                       .shape = shape,
                       .stride = tight_strides(shape)});
  }
  return tensors;
}

/// Bytes that encode their position, and their worker.
inline std::vector<std::byte> pattern(std::size_t bytes, std::uint64_t number) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    const std::uint64_t mixed = (i + 1) * 0x9E37'79B9'7F4A'7C15U + number * 0xBF58'476D'1CE4'E5B9U;
    out[i] = static_cast<std::byte>(mixed >> 56U);
  }
  return out;
}

/// A registration as a worker sends it, with a plain buffer as memory.
class Worker {
 public:
  explicit Worker(const KvCacheSample& sample) : frames_(wire::make_kv_cache(sample)) {
    const std::vector<std::span<const std::byte>> views(frames_.begin(), frames_.end());
    registration_ = wire::decode_kv_cache_registration(views);
    EXPECT_TRUE(registration_) << registration_.error().to_string();
    for (const TensorSample& tensor : sample.tensors) {
      memory_.try_emplace(tensor.name, pattern(tensor.bytes, memory_.size()));
    }
  }

  wire::DecodeResult<CopyPlan> plan(const PlanOptions& options) const {
    return make_copy_plan(*registration_, options);
  }
  std::string plan_error(const PlanOptions& options) const {
    const auto made = plan(options);
    return made ? "no error" : made.error().to_string();
  }
  std::vector<std::byte>& memory(const std::string& name) { return memory_.at(name); }
  std::map<std::string, std::vector<std::byte>>& memories() { return memory_; }
  /// In CellCopy's form.
  std::vector<std::byte*> memories_of(const CopyPlan& plan) {
    std::vector<std::byte*> out;
    for (const PlanMemory& each : plan.memories) {
      EXPECT_LE(each.bytes, memory(each.name).size());
      out.push_back(memory(each.name).data());
    }
    return out;
  }

 private:
  std::vector<wire::Bytes> frames_;
  wire::DecodeResult<wire::KvCacheRegistration> registration_;
  std::map<std::string, std::vector<std::byte>> memory_;
};

/// A file as a worker's shared memory, under a name that no other process has; it goes with this.
class TestSegment {
 public:
  TestSegment(const std::string& directory, std::uint64_t bytes) {
    static std::uint64_t count = 0;
    name_ = "/lmcache_kv_" + std::to_string(::getpid()) + "_" + std::to_string(count++);
    path_ = directory + name_;
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT_NE(memory, MAP_FAILED);
    ::close(fd);
    memory_ = {static_cast<std::byte*>(memory), bytes};
  }
  ~TestSegment() {
    ::munmap(memory_.data(), memory_.size());
    ::unlink(path_.c_str());
  }
  TestSegment(const TestSegment&) = delete;
  TestSegment& operator=(const TestSegment&) = delete;

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }
  std::span<std::byte> memory() const { return memory_; }
  void truncate(std::uint64_t bytes) const {
    EXPECT_EQ(::truncate(path_.c_str(), static_cast<off_t>(bytes)), 0);
  }

 private:
  std::string name_;
  std::string path_;
  std::span<std::byte> memory_;
};

inline wire::BlockIds make_blocks(const std::vector<std::vector<std::uint32_t>>& lists) {
  wire::BlockIds blocks;
  for (const auto& list : lists) {
    blocks.ids.insert(blocks.ids.end(), list.begin(), list.end());
    blocks.ends.push_back(static_cast<std::uint32_t>(blocks.ids.size()));
  }
  return blocks;
}

}  // namespace larder::server
