// SPDX-License-Identifier: Apache-2.0
#include "io/side_ring.h"

#include <cerrno>
#include <cstring>

namespace bb::io {

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
  io_uring_params params{};
  params.flags = IORING_SETUP_SQE128 | (wide_completions ? IORING_SETUP_CQE32 : 0u);
  int rc = io_uring_queue_init_params(entries, &side->ring_, &params);
  if (rc < 0) {
    return error(Code::k_not_supported,
                 "io_uring with 128-byte entries cannot be set up: {} (errno {}); needs Linux 5.19 "
                 "or newer, and io_uring allowed in the sandbox",
                 std::strerror(-rc), -rc);
  }
  side->made_ = true;
  side->entries_ = entries;
  return side;
}

SideRing::~SideRing() {
  BB_CHECK(in_flight_ == 0, "a side ring was destroyed with {} commands in flight", in_flight_);
  if (made_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* SideRing::prepare(Op& op) {
  BB_CHECK(in_flight_ < entries_, "a side ring of {} entries is full", entries_);
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  BB_CHECK(sqe != nullptr, "a side ring of {} entries has none left", entries_);
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);
  io_uring_sqe_set_data(sqe, &op);
  ++in_flight_;
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
  if (listening_ || in_flight_ == 0) return;
  listening_ = true;
  reactor_.readable(poll_, ring_.ring_fd);
}

void SideRing::reap() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe != nullptr) {
    auto* op = static_cast<Op*>(io_uring_cqe_get_data(cqe));
    int32_t result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    --in_flight_;
    op->complete(op, result);
  }
  listen();
}

}  // namespace bb::io
