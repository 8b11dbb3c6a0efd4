// SPDX-License-Identifier: Apache-2.0
// A drive of any size that takes memory only where something was written to, none of it of the
// heap, and counts what is written. Answers within submit().
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "io/device.h"

namespace bb {

class SparseDevice final : public io::Device {
 public:
  SparseDevice(std::string name, uint64_t size_bytes)
      : file_(memfd_create(name.c_str(), MFD_CLOEXEC)) {
    BB_CHECK(file_ >= 0 && ftruncate(file_, static_cast<off_t>(size_bytes)) == 0,
             "{}: no file of {} bytes in memory: {}", name, size_bytes, std::strerror(errno));
    info_.uri = std::move(name);
    info_.size_bytes = size_bytes;
    info_.discard = true;
    info_.fast_zero = true;
  }
  ~SparseDevice() override { ::close(file_); }

  // From now on nothing reaches it, as when the process that uses it dies.
  bool cut_off = false;
  // Bytes that writes brought to this range.
  uint64_t counted_from_bytes = 0, counted_to_bytes = UINT64_MAX;
  uint64_t written_bytes = 0;

  io::Task<Status> close() override {
    set_state(io::DeviceState::kClosed);
    co_return Status();
  }
  void reopen() { set_state(io::DeviceState::kReady); }

 protected:
  void do_submit(io::IoRequest& request) override {
    if (cut_off) return request.done(&request, error(Code::k_io_error, "cut off"));
    request.done(&request, run(request));
  }

 private:
  Status run(const io::IoRequest& request) {
    auto at = static_cast<off_t>(request.offset_bytes);
    auto count = static_cast<int>(request.iov_count);
    ssize_t done = static_cast<ssize_t>(request.length_bytes);
    switch (request.op) {
      case io::IoOp::kRead:
        done = preadv(file_, request.iov, count, at);
        break;
      case io::IoOp::kWrite:
        done = pwritev(file_, request.iov, count, at);
        if (request.offset_bytes >= counted_from_bytes && request.offset_bytes < counted_to_bytes) {
          written_bytes += request.length_bytes;
        }
        break;
      case io::IoOp::kWriteZeroes:
      case io::IoOp::kDiscard:
        if (fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
                      static_cast<off_t>(request.length_bytes)) != 0) {
          done = -1;
        }
        break;
      case io::IoOp::kFlush:
        break;
    }
    if (done == static_cast<ssize_t>(request.length_bytes)) return {};
    return error(Code::k_io_error, "{}: {} bytes at {}: {}", info_.uri, request.length_bytes,
                 request.offset_bytes, done < 0 ? std::strerror(errno) : "cut short");
  }

  int file_;
};

}  // namespace bb
