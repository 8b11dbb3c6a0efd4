// SPDX-License-Identifier: Apache-2.0
#include "io/uring_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "base/units.h"

namespace bb::io {
namespace {

constexpr unsigned kSubmissionEntries = 512;
constexpr unsigned kCompletionEntries = 8192;
constexpr unsigned kTransfersAtOnce = 4;  // see docs/decisions/005-engines.md

// The kernel refuses entries with a field set that their kind has no use for.
void set(io_uring_sqe* sqe, io_uring_op opcode, const EngineOp& op, uint64_t length,
         uint64_t offset, uint32_t flags) {
  sqe->opcode = static_cast<uint8_t>(opcode);
  sqe->fd = op.fd;
  sqe->addr = reinterpret_cast<uint64_t>(op.memory);
  sqe->len = static_cast<uint32_t>(length);
  sqe->off = offset;
  sqe->rw_flags = static_cast<int>(flags);
}

void fill(io_uring_sqe* sqe, const EngineOp& op) {
  using Kind = EngineOp::Kind;
  switch (op.kind) {
    case Kind::kRecv:
      return set(sqe, IORING_OP_RECV, op, op.length, 0, 0);
    case Kind::kRecvmsg:
      return set(sqe, IORING_OP_RECVMSG, op, 1, 0, 0);
    case Kind::kSend:
      return set(sqe, IORING_OP_SEND, op, op.length, 0, op.flags);
    case Kind::kSendmsg:
      return set(sqe, IORING_OP_SENDMSG, op, 1, 0, op.flags);
    case Kind::kAccept:
      return set(sqe, IORING_OP_ACCEPT, op, 0, 0, op.flags);
    case Kind::kConnect:
      return set(sqe, IORING_OP_CONNECT, op, 0, op.length, 0);
    case Kind::kReadable:
      return set(sqe, IORING_OP_POLL_ADD, op, 0, 0, POLLIN);
    case Kind::kReadv:
      return set(sqe, IORING_OP_READV, op, op.length, op.offset, op.flags);
    case Kind::kWritev:
      return set(sqe, IORING_OP_WRITEV, op, op.length, op.offset, op.flags);
    case Kind::kFdatasync:
      return set(sqe, IORING_OP_FSYNC, op, 0, 0, IORING_FSYNC_DATASYNC);
    case Kind::kFallocate:
      set(sqe, IORING_OP_FALLOCATE, op, op.flags, op.offset, 0);
      sqe->addr = op.length;
      return;
  }
}

}  // namespace

Result<std::unique_ptr<UringEngine>> UringEngine::create() {
  std::unique_ptr<UringEngine> engine(new UringEngine);
  BB_TRY(engine->init());
  return engine;
}

Status UringEngine::init() {
  io_uring_params params{};
  params.cq_entries = kCompletionEntries;
  // R_DISABLED: the thread that first runs the loop, not the one that made it, becomes the issuer.
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED |
                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG;
  int rc = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  deferred_ = rc == 0;
  if (rc == -EINVAL) {  // before Linux 6.1
    params = {};
    params.cq_entries = kCompletionEntries;
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    rc = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  }
  if (rc < 0) {
    // ENOMEM: of locked memory, before Linux 5.12.
    bool refused = rc == -ENOSYS || rc == -EPERM || rc == -EACCES || rc == -EINVAL || rc == -ENOMEM;
    return error(refused ? Code::k_not_supported : Code::k_no_space,
                 "io_uring cannot be set up: {} (errno {}); allow io_uring_setup in the sandbox, "
                 "or set kernel.io_uring_disabled=0",
                 std::strerror(-rc), -rc);
  }
  made_ = true;
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return error(Code::k_internal, "eventfd: {}", std::strerror(errno));
  return {};
}

UringEngine::~UringEngine() {
  if (made_) io_uring_queue_exit(&ring_);
  for (int fd : {wake_fd_, bell_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void UringEngine::stay_open_until_thread_ends() {
  if (fcntl(ring_.ring_fd, F_DUPFD_CLOEXEC, 0) >= 0) return;  // nobody closes it, by intention
  log_warn("io_uring: a further descriptor of the ring: {}", std::strerror(errno));
}

void UringEngine::start() {
  // liburing 2.3 declares io_uring_enable_rings but does not export it.
  long rc =
      syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  BB_CHECK(rc == 0, "io_uring: enable: {}", std::strerror(errno));
  wakeup_.engine = this;
  wakeup_.complete = [](EngineOp* op, int32_t) {
    static_cast<Wakeup*>(op)->engine->wakeup_armed_ = false;
  };
  arm_wakeup();
}

void UringEngine::arm_wakeup() {
  if (wakeup_armed_) return;
  wakeup_armed_ = true;
  io_uring_sqe* sqe = prepare(wakeup_);
  io_uring_prep_read(sqe, wake_fd_, &wake_buffer_, sizeof wake_buffer_, 0);
  io_uring_sqe_set_data(sqe, static_cast<EngineOp*>(&wakeup_));  // prep clears it
}

io_uring_sqe* UringEngine::prepare(EngineOp& op) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {  // the queue is full: hand over what is there
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  std::memset(sqe, 0, sizeof *sqe);
  io_uring_sqe_set_data(sqe, &op);
  return sqe;
}

// A drive that hears of a whole batch when the loop is about to wait has had nothing to do until
// then.
void UringEngine::submit(EngineOp& op) {
  fill(prepare(op), op);
  bool transfer = op.kind == EngineOp::Kind::kReadv || op.kind == EngineOp::Kind::kWritev;
  if (!transfer || ++transfers_untold_ < kTransfersAtOnce) return;
  transfers_untold_ = 0;
  io_uring_submit(&ring_);
}

void UringEngine::cancel(EngineOp& op) {
  static EngineOp ignored{.complete = [](EngineOp*, int32_t) {}};
  io_uring_sqe* sqe = prepare(ignored);
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data(sqe, &ignored);
}

void UringEngine::close(int fd) { ::close(fd); }

bool UringEngine::kernel_has_events() const {
  return (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void UringEngine::flush() {
  transfers_untold_ = 0;
  if (kernel_has_events()) {
    io_uring_submit_and_get_events(&ring_);
  } else {
    io_uring_submit(&ring_);
  }
}

bool UringEngine::look() {
  if (kernel_has_events()) io_uring_get_events(&ring_);
  return io_uring_cq_ready(&ring_) > 0;
}

void UringEngine::sleep(std::optional<uint64_t> deadline_ns, uint64_t now_ns) {
  transfers_untold_ = 0;
  if (!deadline_ns) {
    io_uring_submit_and_wait(&ring_, 1);
    return;
  }
  io_uring_cqe* cqe = nullptr;
  uint64_t left = *deadline_ns > now_ns ? *deadline_ns - now_ns : 0;
  __kernel_timespec ts{.tv_sec = static_cast<int64_t>(left / kNsPerSecond),
                       .tv_nsec = static_cast<long long>(left % kNsPerSecond)};
  io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &ts, nullptr);
}

void UringEngine::reap() {
  io_uring_cqe* cqes[256];
  for (;;) {
    unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, 256);
    if (count == 0) break;
    for (unsigned i = 0; i < count; ++i) {
      auto* op = static_cast<EngineOp*>(io_uring_cqe_get_data(cqes[i]));
      int32_t result = cqes[i]->res;
      op->complete(op, result);
    }
    io_uring_cq_advance(&ring_, count);
  }
  arm_wakeup();
}

void UringEngine::wake() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

// Not the ring's own descriptor: with deferred completions the kernel does not wake its pollers,
// but it does ring a registered eventfd.
Result<int> UringEngine::poll_fd() {
  if (bell_fd_ >= 0) return bell_fd_;
  int bell = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);  // 1: look once at what came before
  if (bell < 0) return error(Code::k_internal, "eventfd: {}", std::strerror(errno));
  int rc = io_uring_register_eventfd(&ring_, bell);
  if (rc < 0) {
    ::close(bell);
    return error(Code::k_internal, "io_uring: register eventfd: {}", std::strerror(-rc));
  }
  bell_fd_ = bell;
  return bell;
}

void UringEngine::heard() {
  if (bell_fd_ < 0) return;
  uint64_t count = 0;
  [[maybe_unused]] ssize_t got = ::read(bell_fd_, &count, sizeof count);
}

}  // namespace bb::io
