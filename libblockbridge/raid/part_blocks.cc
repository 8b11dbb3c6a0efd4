// SPDX-License-Identifier: Apache-2.0
// Requests that begin or end within a block that has one checksum: the block is read and, to write
// a part of it, written as a whole, while nobody else uses it.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {
namespace {

// Slices of a request: a part of one block, or whole blocks.
class Slices {
 public:
  explicit Slices(const io::IoRequest& whole) : whole_(whole) {}
  Slices(const Slices&) = delete;

  bool next() {
    if (done_bytes_ == whole_.length_bytes) return false;
    uint64_t at = whole_.offset_bytes + done_bytes_;
    uint64_t left = whole_.length_bytes - done_bytes_;
    within_bytes_ = at % kCheckedBlockBytes;
    uint64_t length = std::min(left, kCheckedBlockBytes - within_bytes_);
    if (within_bytes_ == 0 && left > kCheckedBlockBytes) {
      length = round_down(left, kCheckedBlockBytes);
    }
    request_.op = whole_.op;
    request_.fua = whole_.fua;
    request_.may_discard = whole_.may_discard;
    request_.offset_bytes = at;
    request_.length_bytes = length;
    memory_.clear();
    if (whole_.iov_count > 0) cut(length);
    request_.iov = memory_.data();
    request_.iov_count = static_cast<uint32_t>(memory_.size());
    done_bytes_ += length;
    return true;
  }
  io::IoRequest& request() { return request_; }
  bool whole_blocks() const {
    return (request_.offset_bytes | request_.length_bytes) % kCheckedBlockBytes == 0;
  }

  // Between the request's memory and the place of the slice in its block.
  void copy_out(Bytes block) const {
    Bytes part = block.subspan(within_bytes_, request_.length_bytes);
    if (memory_.empty()) std::ranges::fill(part, std::byte{0});  // zeroes carry no memory
    if (!memory_.empty()) io::iov_gather(request_.iov, request_.iov_count, 0, part);
  }
  void copy_in(ConstBytes block) const {
    io::iov_scatter(request_.iov, request_.iov_count, 0,
                    block.subspan(within_bytes_, request_.length_bytes));
  }

 private:
  void cut(uint64_t length_bytes) {
    uint64_t skip = done_bytes_;
    for (uint32_t i = 0; i < whole_.iov_count && length_bytes > 0; ++i) {
      const iovec& part = whole_.iov[i];
      uint64_t skipped = std::min<uint64_t>(skip, part.iov_len);
      uint64_t here = std::min<uint64_t>(length_bytes, part.iov_len - skipped);
      skip -= skipped;
      length_bytes -= here;
      if (here == 0) continue;
      memory_.push_back(
          {.iov_base = static_cast<std::byte*>(part.iov_base) + skipped, .iov_len = here});
    }
  }

  const io::IoRequest& whole_;
  uint64_t done_bytes_ = 0;
  uint64_t within_bytes_ = 0;
  std::vector<iovec> memory_;
  io::IoRequest request_;
};

// The block that a slice is a part of, in memory of its own.
struct Block {
  io::AlignedBuffer buffer{kCheckedBlockBytes};
  iovec memory = buffer.as_iovec();
  io::IoRequest request;

  Block(const io::IoRequest& part, io::IoOp op) {
    request.op = op;
    request.offset_bytes = round_down(part.offset_bytes, kCheckedBlockBytes);
    request.length_bytes = kCheckedBlockBytes;
    request.iov = &memory;
    request.iov_count = 1;
    request.fua = part.fua;
  }
};

}  // namespace

// Whole blocks, under an exclusive lock of the caller's.
io::Task<Status> ArrayCore::read_settled(io::IoRequest* request) {
  if (stripes_) co_return co_await stripes_->read(request);
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  if (!has_unequal(regions)) {
    Status status = co_await read_held(request);
    if (status.ok() || !has_unequal(regions)) co_return status;
  }
  co_return co_await read_unequal_held(request);
}

io::Task<Status> ArrayCore::read_parts(io::IoRequest* request) {
  RangeHold hold(*this, request->offset_bytes, request->length_bytes, LockMode::kExclusive);
  co_await hold;
  Slices slices(*request);
  while (slices.next()) {
    if (slices.whole_blocks()) {
      BB_CO_TRY(co_await read_settled(&slices.request()));
      continue;
    }
    Block block(slices.request(), io::IoOp::kRead);
    BB_CO_TRY(co_await read_settled(&block.request));
    slices.copy_in(block.buffer.bytes());
  }
  co_return Status();
}

io::Task<Status> ArrayCore::write_parts(const io::IoRequest* request) {
  Slices slices(*request);
  while (slices.next()) {
    if (slices.whole_blocks()) {
      BB_CO_TRY(co_await write_held(&slices.request()));
      continue;
    }
    Block block(slices.request(), io::IoOp::kRead);
    BB_CO_TRY(co_await read_settled(&block.request));
    slices.copy_out(block.buffer.bytes());
    block.request.op = io::IoOp::kWrite;
    BB_CO_TRY(co_await write_held(&block.request));
  }
  co_return Status();
}

}  // namespace bb::raid
