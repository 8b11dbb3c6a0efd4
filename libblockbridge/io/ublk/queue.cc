// SPDX-License-Identifier: Apache-2.0
#include "io/ublk/queue.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/units.h"
#include "io/ublk/control.h"
#include "io/uring_engine.h"

namespace bb::io::ublk {
namespace {

constexpr uint64_t kPageBytes = 4096;

Status open_failure(uint32_t device_id, int number) {
  Code code = number == ENOENT                      ? Code::k_not_found
              : number == EACCES || number == EPERM ? Code::k_permission_denied
              : number == EBUSY                     ? Code::k_busy
                                                    : Code::k_io_error;
  return error(code, "{}: {} (errno {})", char_path(device_id), std::strerror(number), number);
}

}  // namespace

Queue::Queue(Reactor& reactor, Device& device, uint32_t device_id, Shape shape)
    : reactor_(reactor),
      device_(device),
      device_id_(device_id),
      shape_(shape),
      tags_(shape.depth),
      idle_(reactor) {
  idle_.set();
  for (uint32_t i = 0; i < shape.depth; ++i) {
    Tag& tag = tags_[i];
    tag.queue = this;
    tag.index = static_cast<uint16_t>(i);
    tag.inner.tag = &tag;
    tag.complete = [](EngineOp* op, int32_t result) {
      auto* self = static_cast<Tag*>(op);
      self->queue->on_command_done(*self, result);
    };
    tag.inner.done = [](IoRequest* request, Status status) {
      Tag* self = static_cast<Inner*>(request)->tag;
      self->queue->on_request_done(*self, status);
    };
  }
}

Queue::~Queue() {
  BB_CHECK(commands_ == 0 && in_device_ == 0, "{}: {} commands with the driver, {} requests",
           block_path(device_id_), commands_, in_device_);
  if (records_ != nullptr) munmap(const_cast<RequestRecord*>(records_), records_bytes_);
  if (buffers_ != nullptr) munmap(buffers_, size_t{shape_.depth} * shape_.io_max_bytes);
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<Queue>> Queue::open(Reactor& reactor, Device& device, uint32_t device_id,
                                           Shape shape) {
  std::unique_ptr<Queue> queue(new Queue(reactor, device, device_id, shape));
  BB_TRY(queue->map(device_id));
  return queue;
}

// The buffers take memory only as far as requests have filled them.
Status Queue::map(uint32_t device_id) {
  fd_ = ::open(char_path(device_id).c_str(), O_RDWR | O_CLOEXEC);
  if (fd_ < 0) return open_failure(device_id, errno);
  records_bytes_ = round_up(shape_.depth * sizeof(RequestRecord), kPageBytes);
  void* records = mmap(nullptr, records_bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, fd_, 0);
  if (records == MAP_FAILED) return open_failure(device_id, errno);
  records_ = static_cast<const RequestRecord*>(records);
  size_t bytes = size_t{shape_.depth} * shape_.io_max_bytes;
  void* buffers = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (buffers == MAP_FAILED) {
    return error(Code::k_no_space, "{}: no room for {} buffers of {} bytes: {}",
                 block_path(device_id), shape_.depth, shape_.io_max_bytes, std::strerror(errno));
  }
  buffers_ = static_cast<std::byte*>(buffers);
  return {};
}

void Queue::fetch_all() {
  idle_.reset();
  for (Tag& tag : tags_) command(tag, IoCommandOp::kFetch, 0);
}

void Queue::command(Tag& tag, IoCommandOp op, int32_t result) {
  IoCommand what{.tag = tag.index,
                 .result = result,
                 .address = reinterpret_cast<uint64_t>(buffer_of(tag.index))};
  io_uring_sqe* sqe = reactor_.uring()->prepare(tag);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd_;
  sqe->cmd_op = static_cast<uint32_t>(op);
  std::memcpy(reinterpret_cast<std::byte*>(sqe) + offsetof(io_uring_sqe, cmd), &what, sizeof what);
  ++commands_;
}

void Queue::on_command_done(Tag& tag, int32_t result) {
  --commands_;
  if (abandoned_) return;  // a request that came: the next server gets it
  if (result == kRequestCame) return start(tag);
  if (result != -ENODEV) {  // ENODEV: the device was stopped
    log_error("{} tag {}: {} -> served no more", block_path(device_id_), tag.index,
              std::strerror(-result));
  }
  if (commands_ == 0 && in_device_ == 0) idle_.set();
}

void Queue::start(Tag& tag) {
  auto request = request_of(records_[tag.index]);
  bool fits = request && (!moves_data(request->op) || request->length_bytes <= shape_.io_max_bytes);
  if (!fits) return command(tag, IoCommandOp::kCommitAndFetch, -EOPNOTSUPP);
  tag.request = *request;
  tag.incarnation = device_.incarnation();
  tag.iov = {.iov_base = buffer_of(tag.index), .iov_len = request->length_bytes};
  IoRequest& inner = tag.inner;
  inner.op = request->op;
  inner.fua = request->fua;
  inner.may_discard = request->may_discard;
  inner.offset_bytes = request->offset_bytes;
  inner.length_bytes = request->length_bytes;
  inner.iov = &tag.iov;
  inner.iov_count = 1;
  ++in_device_;
  if (request->op == IoOp::kFlush) unflushed_.on_flush_begins();
  device_.submit(inner);
}

void Queue::on_request_done(Tag& tag, const Status& status) {
  --in_device_;
  bool writes = tag.request.op == IoOp::kWrite || tag.request.op == IoOp::kWriteZeroes;
  if (writes && status.ok() && !tag.request.fua) unflushed_.on_written(tag.incarnation);
  Status outcome = tag.request.op == IoOp::kFlush ? settle_flush(tag, status) : status;
  count(tag.request, outcome.ok());
  if (!outcome.ok()) {
    log_warn("{}: {} -> the kernel is told of an error", block_path(device_id_),
             outcome.to_string());
  }
  if (abandoned_) {  // never acknowledged: the kernel gives it to the next server
    if (in_device_ == 0) idle_.set();
    return;
  }
  Code code = outcome.ok() ? Code::k_ok : outcome.code();
  command(tag, IoCommandOp::kCommitAndFetch, result_of(tag.request, code));
}

Status Queue::settle_flush(Tag& tag, const Status& status) {
  bool lost = unflushed_.on_flush_ends(status.ok(), device_.incarnation());
  if (!status.ok() || !lost) return status;
  ++stats_.lost_flushes;
  return error(Code::k_io_error,
               "{}: flush: the device came back as incarnation {} after {}: writes that were not "
               "flushed may be lost",
               device_.info().uri, device_.incarnation(), tag.incarnation);
}

void Queue::count(const Request& request, bool succeeded) {
  if (!succeeded) ++stats_.failures;
  if (request.op == IoOp::kRead) {
    ++stats_.reads;
  } else if (request.op == IoOp::kWrite) {
    ++stats_.writes;
  } else {
    ++stats_.others;
  }
}

Task<void> Queue::ended() { co_await idle_.wait(); }

// The driver takes back what it has handed out once, when the first fetch is cancelled. Cancelled
// by a ring that closes under a thread which goes on, a request on its way to this thread would
// still be delivered afterwards: to nobody, and the driver waits for its end for ever. A thread
// that ends refuses it. So the fetches stay until then.
Task<void> Queue::abandon(std::unique_ptr<Queue> queue) {
  queue->reactor_.uring()->stay_open_until_thread_ends();
  queue->abandoned_ = true;
  queue->idle_.reset();
  if (queue->in_device_ > 0) co_await queue->idle_.wait();
  // The driver copies into the buffers, and completes the commands, for as long as we exist.
  [[maybe_unused]] Queue* left_behind = queue.release();
}

}  // namespace bb::io::ublk
