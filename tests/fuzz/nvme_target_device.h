// SPDX-License-Identifier: Apache-2.0
// The device of the target's fuzzer: memory that both connections use. It may lend it to reads, as
// `mem:` does: nobody changes what is lent until it is given back.
#pragma once

#include <cstring>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb {

class FuzzDevice {
 public:
  static constexpr size_t kBytes = 64 * 1024;

  // What the input before has written is gone, and each block tells where it is.
  void begin() {
    BB_CHECK(lent.idle(), "somebody waits for what is lent");
    for (size_t at = first_dirty_; at < end_dirty_; at += kBlock) {
      std::memset(memory_ + at, 0, kBlock);
      store_le<uint64_t>(memory_ + at, at + 1);
    }
    first_dirty_ = kBytes;
    end_dirty_ = 0;
  }

  ConstBytes at(const io::nvme::TargetIo& io) const {
    BB_CHECK(io.offset_bytes <= kBytes && io.length_bytes <= kBytes - io.offset_bytes,
             "an I/O beyond the device");
    return {memory_ + io.offset_bytes, io.length_bytes};
  }
  void perform(const io::nvme::TargetIo& io) {
    using Op = io::nvme::TargetOp;
    ConstBytes range = at(io);
    if (io.op == Op::kRead) std::memcpy(io.data, range.data(), range.size());
    if (io.op != Op::kWrite) return;
    std::memcpy(memory_ + io.offset_bytes, io.data, io.length_bytes);
    first_dirty_ = std::min<size_t>(first_dirty_, io.offset_bytes / kBlock * kBlock);
    end_dirty_ = std::max<size_t>(end_dirty_, io.offset_bytes + io.length_bytes);
  }

  io::RangeLock lent;

 private:
  static constexpr size_t kBlock = 512;

  alignas(4096) std::byte memory_[kBytes] = {};
  size_t first_dirty_ = 0;
  size_t end_dirty_ = kBytes;
};

}  // namespace bb
