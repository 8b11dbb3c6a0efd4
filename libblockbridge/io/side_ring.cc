// SPDX-License-Identifier: Apache-2.0
#include "io/side_ring.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace bb::io {
namespace {

// Not io_uring_queue_init: newer libraries leave out the array that says which entry is next.
int set_up(uint32_t entries, uint32_t flags, io_uring* ring) {
  io_uring_params params{};
  params.flags = flags;
  auto fd = static_cast<int>(::syscall(__NR_io_uring_setup, entries, &params));
  if (fd < 0) return -errno;
  int rc = io_uring_queue_mmap(fd, &params, ring);
  if (rc < 0) ::close(fd);
  return rc;
}

}  // namespace

SideRing::SideRing(Reactor& reactor) : reactor_(reactor) {
  submission_.ring = this;
  submission_.run = [](Work* work) { static_cast<Submission*>(work)->ring->submit(); };
  poll_.ring = this;
  poll_.complete = [](EngineOp* op, int32_t) {
    SideRing* self = static_cast<Poll*>(op)->ring;
    self->listening_ = false;
    self->reap();
  };
}

Result<std::unique_ptr<SideRing>> SideRing::create(Reactor& reactor, uint32_t entries,
                                                   bool wide_completions) {
  std::unique_ptr<SideRing> side(new SideRing(reactor));
  uint32_t flags = IORING_SETUP_SQE128 | (wide_completions ? IORING_SETUP_CQE32 : 0u);
  int rc = set_up(entries, flags, &side->ring_);
  if (rc < 0) {
    return error(Code::k_not_supported,
                 "io_uring with 128-byte entries cannot be set up: {} (errno {}); needs Linux 5.19 "
                 "or newer, and io_uring allowed in the sandbox",
                 std::strerror(-rc), -rc);
  }
  side->made_ = true;
  side->entries_ = entries;
  for (uint32_t entry = entries; entry-- > 0;) side->free_.push_back(entry);
  return side;
}

SideRing::~SideRing() {
  BB_CHECK(idle(), "a side ring was destroyed with {} commands in flight", entries_ - free_.size());
  if (made_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* SideRing::prepare(Op& op) {
  BB_CHECK(!free_.empty(), "a side ring of {} entries is full", entries_);
  op.entry = free_.back();
  free_.pop_back();
  // In place of io_uring_get_sqe, which newer libraries let write to the entry of that place.
  BB_CHECK(io_uring_sq_space_left(&ring_) > 0, "a side ring of {} entries has no place", entries_);
  ring_.sq.array[ring_.sq.sqe_tail++ & ring_.sq.ring_mask] = op.entry;
  io_uring_sqe* sqe = &ring_.sq.sqes[size_t{2} * op.entry];
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);
  io_uring_sqe_set_data(sqe, &op);
  if (!submission_posted_) {
    submission_posted_ = true;
    reactor_.post(submission_);
  }
  return sqe;
}

void SideRing::submit() {
  submission_posted_ = false;
  int rc = io_uring_submit(&ring_);
  BB_CHECK(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY, "io_uring_submit: {}",
           std::strerror(-rc));
  if (io_uring_sq_ready(&ring_) > 0) {  // the kernel was short of something: again, soon
    submission_posted_ = true;
    reactor_.post(submission_);
  }
  listen();
}

// Only a poll that has ended reaps, and one is begun only while something is in flight: a ring at
// rest has no poll, costs nothing, and its end has nothing to cancel.
void SideRing::listen() {
  if (listening_ || idle()) return;
  listening_ = true;
  reactor_.readable(poll_, ring_.ring_fd);
}

void SideRing::reap() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe != nullptr) {
    auto* op = static_cast<Op*>(io_uring_cqe_get_data(cqe));
    int32_t result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    free_.push_back(op->entry);
    op->complete(op, result);
  }
  listen();
}

}  // namespace bb::io
