// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_request.h"

#include <algorithm>

namespace bb::io::nvme {
namespace {

constexpr uint64_t kBlocksMax = 65536;            // of one Write Zeroes
constexpr uint64_t kRangeBlocksMax = UINT32_MAX;  // of one deallocated range

}  // namespace

void NvmeRequest::begin(IoRequest& of, uint64_t now_ns, uint64_t timeout_ns) {
  request = &of;
  retries = 0;
  moved_bytes = 0;
  aborting = false;
  deadline_ns = now_ns + timeout_ns;
}

// NVM command set 1.0, 3.2: Read, Write, Flush, Write Zeroes, Dataset Management.
void NvmeRequest::build(const NamespaceShape& shape) {
  uint64_t left = request->length_bytes - moved_bytes;
  uint64_t first = (request->offset_bytes + moved_bytes) / shape.block_bytes;
  sqe = Sqe();
  sqe.nsid = shape.nsid;
  iov = request->iov;
  iov_count = request->iov_count;
  length_bytes = 0;
  to_controller = request->op != IoOp::kRead;
  step_bytes = left;
  IoOpcode opcode = IoOpcode::kFlush;
  uint32_t flags = request->fua ? kForceUnitAccess : 0;
  auto carry = [this](const std::byte* data, size_t length) {
    single = {.iov_base = const_cast<std::byte*>(data), .iov_len = length};
    iov = &single;
    iov_count = 1;
    length_bytes = static_cast<uint32_t>(length);
  };
  switch (request->op) {
    case IoOp::kRead:
    case IoOp::kWrite:
      opcode = request->op == IoOp::kRead ? IoOpcode::kRead : IoOpcode::kWrite;
      if (request->op == IoOp::kRead) flags = 0;
      length_bytes = static_cast<uint32_t>(left);
      break;
    case IoOp::kFlush:
      break;
    case IoOp::kWriteZeroes:
      opcode = shape.can_zero ? IoOpcode::kWriteZeroes : IoOpcode::kWrite;
      step_bytes =
          std::min(left, shape.can_zero ? kBlocksMax * shape.block_bytes : shape.zeroes->size());
      if (shape.can_zero && request->may_discard) flags |= kDeallocate;
      if (!shape.can_zero) carry(shape.zeroes->data(), step_bytes);
      break;
    case IoOp::kDiscard:
      opcode = IoOpcode::kDatasetManagement;
      step_bytes = std::min(left, kRangeBlocksMax * shape.block_bytes);
      store_le<uint32_t>(range, 0);
      store_le<uint32_t>(range + 4, static_cast<uint32_t>(step_bytes / shape.block_bytes));
      store_le<uint64_t>(range + 8, first);
      carry(range, sizeof range);
      sqe.cdw11 = kDsmDeallocate;  // cdw10: one range, 0's based
      break;
  }
  sqe.opcode = static_cast<uint8_t>(opcode);
  if (request->op == IoOp::kFlush || request->op == IoOp::kDiscard) return;
  sqe.cdw10 = static_cast<uint32_t>(first);
  sqe.cdw11 = static_cast<uint32_t>(first >> 32);
  sqe.cdw12 = static_cast<uint32_t>(step_bytes / shape.block_bytes - 1) | flags;
}

void RequestList::push(IoRequest& request, uint64_t deadline_ns) {
  new (request.scratch) Place{.next = nullptr, .deadline_ns = deadline_ns};
  (last_ == nullptr ? first_ : place(*last_).next) = &request;
  last_ = &request;
}

IoRequest* RequestList::pop() {
  IoRequest* request = first_;
  if (request == nullptr) return nullptr;
  first_ = place(*request).next;
  if (first_ == nullptr) last_ = nullptr;
  return request;
}

IoRequest* RequestList::pop_due(uint64_t now_ns) {
  IoRequest* before = nullptr;
  for (IoRequest* request = first_; request != nullptr; request = place(*request).next) {
    if (place(*request).deadline_ns <= now_ns) {
      (before == nullptr ? first_ : place(*before).next) = place(*request).next;
      if (last_ == request) last_ = before;
      return request;
    }
    before = request;
  }
  return nullptr;
}

void RequestList::set_deadlines(uint64_t deadline_ns) {
  for (IoRequest* request = first_; request != nullptr; request = place(*request).next) {
    place(*request).deadline_ns = deadline_ns;
  }
}

}  // namespace bb::io::nvme
