// SPDX-License-Identifier: Apache-2.0
#include "backplane/offset_device.h"

namespace bb::backplane {

OffsetDevice::OffsetDevice(io::Loop& loop, io::Device& inner, uint64_t offset_bytes,
                           uint64_t size_bytes, uint32_t block_size_bytes)
    : inner_(inner), offset_bytes_(offset_bytes), gate_(loop) {
  const io::DeviceInfo& under = inner.info();
  BB_CHECK(offset_bytes <= under.size_bytes && size_bytes <= under.size_bytes - offset_bytes,
           "{} bytes at {} of a device of {}", size_bytes, offset_bytes, under.size_bytes);
  BB_CHECK(
      block_size_bytes % under.block_size_bytes == 0 && offset_bytes % under.block_size_bytes == 0,
      "block size {} at offset {} over {}", block_size_bytes, offset_bytes, under.block_size_bytes);
  info_ = under;
  info_.size_bytes = size_bytes;
  info_.block_size_bytes = block_size_bytes;
  inner_.watch(*this);
}

OffsetDevice::~OffsetDevice() { inner_.unwatch(*this); }

io::Task<Status> OffsetDevice::close() {
  co_await gate_.close();
  set_state(io::DeviceState::kClosed);
  co_return Status();
}

void OffsetDevice::on_device_state(io::Device&, io::DeviceState state) {
  if (this->state() != io::DeviceState::kClosed) set_state(state);
}

void OffsetDevice::do_submit(io::IoRequest& request) {
  if (!gate_.enter()) {
    request.done(&request, error(Code::k_bad_state, "{}: the device is closing", info_.uri));
    return;
  }
  std::unique_ptr<Child> child;
  if (free_.empty()) {
    child = std::make_unique<Child>();
    child->owner = this;
    child->done = on_done;
  } else {
    child = std::move(free_.back());
    free_.pop_back();
  }
  child->op = request.op;
  child->fua = request.fua;
  child->may_discard = request.may_discard;
  child->fast_only = request.fast_only;
  child->offset_bytes = request.op == io::IoOp::kFlush ? 0 : request.offset_bytes + offset_bytes_;
  child->length_bytes = request.length_bytes;
  child->iov = request.iov;
  child->iov_count = request.iov_count;
  child->parent = &request;
  inner_.submit(*child.release());  // on_done takes it back
}

void OffsetDevice::on_done(io::IoRequest* request, Status status) {
  std::unique_ptr<Child> child(static_cast<Child*>(request));
  OffsetDevice* self = child->owner;
  io::IoRequest* parent = child->parent;
  bool reads = child->op == io::IoOp::kRead;
  ++(reads ? self->counters_.reads : self->counters_.writes);
  if (!status.ok()) {
    ++(reads ? self->counters_.read_errors : self->counters_.write_errors);
    self->counters_.last_error = status;
  }
  self->free_.push_back(std::move(child));
  parent->done(parent, std::move(status));
  self->gate_.leave();
}

}  // namespace bb::backplane
