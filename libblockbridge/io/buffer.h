// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <sys/uio.h>

#include <memory>

#include "base/bytes.h"

namespace bb::io {

// Memory aligned for direct I/O, zeroed, owned.
class AlignedBuffer {
 public:
  static constexpr size_t kAlignmentBytes = 4096;

  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size_bytes);
  // As it comes: for whoever writes all of it before any of it is read or sent.
  static AlignedBuffer uncleared(size_t size_bytes);

  std::byte* data() { return memory_.get(); }
  const std::byte* data() const { return memory_.get(); }
  size_t size() const { return size_; }
  Bytes bytes() { return {memory_.get(), size_}; }
  ConstBytes bytes() const { return {memory_.get(), size_}; }
  iovec as_iovec() { return {.iov_base = memory_.get(), .iov_len = size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  size_t size_ = 0;
};

}  // namespace bb::io
