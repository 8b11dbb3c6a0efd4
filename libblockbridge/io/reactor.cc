// SPDX-License-Identifier: Apache-2.0
#include "io/reactor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/units.h"

namespace bb::io {
namespace {

constexpr uint64_t kSpinNs = 100'000;
constexpr uint32_t kSpinPenaltyMax = 1024;  // short waits
constexpr unsigned kSubmissionEntries = 512;
constexpr unsigned kCompletionEntries = 8192;

uint64_t read_clock(clockid_t clock) {
  timespec ts{};
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * kNsPerSecond + static_cast<uint64_t>(ts.tv_nsec);
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = read_clock(CLOCK_MONOTONIC);
  std::unique_ptr<Reactor> reactor(new Reactor(seed));
  BB_TRY(reactor->init());
  return reactor;
}

Status Reactor::init() {
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
    return error(Code::k_not_supported,
                 "io_uring cannot be set up: {} (errno {}); allow it in the sandbox, or set "
                 "kernel.io_uring_disabled=0",
                 std::strerror(-rc), -rc);
  }
  ring_made_ = true;
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return error(Code::k_internal, "eventfd: {}", std::strerror(errno));
  return {};
}

Reactor::~Reactor() {
  if (ring_made_) io_uring_queue_exit(&ring_);
  for (int fd : {wake_fd_, epoll_fd_, ring_event_fd_, timer_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void Reactor::start() {
  if (started_) return;
  started_ = true;
  // liburing 2.3 declares io_uring_enable_rings but does not export it.
  long rc =
      syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  BB_CHECK(rc == 0, "io_uring: enable: {}", std::strerror(errno));
  wakeup_.reactor = this;
  wakeup_.complete = [](UringOp* op, int32_t) {
    static_cast<Wakeup*>(op)->reactor->wakeup_armed_ = false;
  };
  arm_wakeup();
}

void Reactor::arm_wakeup() {
  if (wakeup_armed_) return;
  wakeup_armed_ = true;
  io_uring_sqe* sqe = prepare(wakeup_);
  io_uring_prep_read(sqe, wake_fd_, &wake_buffer_, sizeof wake_buffer_, 0);
  io_uring_sqe_set_data(sqe, &wakeup_);
}

uint64_t Reactor::now_ns() const { return read_clock(CLOCK_MONOTONIC); }
uint64_t Reactor::wall_ns() const { return read_clock(CLOCK_REALTIME); }

io_uring_sqe* Reactor::prepare(UringOp& op) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {  // the queue is full: hand over what is there
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  std::memset(sqe, 0, sizeof *sqe);
  io_uring_sqe_set_data(sqe, &op);
  return sqe;
}

void Reactor::cancel(UringOp& op) {
  static UringOp ignored{.complete = [](UringOp*, int32_t) {}};
  io_uring_sqe* sqe = prepare(ignored);
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data(sqe, &ignored);
}

void Reactor::post_remote(Work& work) {
  Work* head = remote_.load(std::memory_order_relaxed);
  do {
    work.next_remote = head;
  } while (!remote_.compare_exchange_weak(head, &work, std::memory_order_release,
                                          std::memory_order_relaxed));
  if (head != nullptr) return;  // whoever came first has rung the bell
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void Reactor::take_remote() {
  if (remote_.load(std::memory_order_relaxed) == nullptr) return;
  Work* head = remote_.exchange(nullptr, std::memory_order_acquire);
  Work* in_order = nullptr;  // the stack is newest first
  while (head != nullptr) {
    Work* next = head->next_remote;
    head->next_remote = in_order;
    in_order = head;
    head = next;
  }
  while (in_order != nullptr) {
    Work* next = in_order->next_remote;
    ready_.push_back(*in_order);
    in_order = next;
  }
}

void Reactor::run_ready() {
  // Only what is there now: work that posts itself again must not starve the ring.
  WorkList batch;
  batch.swap(ready_);
  while (!batch.empty()) {
    Work& work = batch.front();
    batch.pop_front();
    work.run(&work);
  }
}

void Reactor::fire_timers() {
  if (!timers_.next_deadline_ns()) return;
  uint64_t now = now_ns();
  while (Timer* timer = timers_.pop_due(now)) timer->fire(timer);
}

void Reactor::reap() {
  io_uring_cqe* cqes[256];
  for (;;) {
    unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, 256);
    if (count == 0) break;
    for (unsigned i = 0; i < count; ++i) {
      auto* op = static_cast<UringOp*>(io_uring_cqe_get_data(cqes[i]));
      int32_t result = cqes[i]->res;
      op->complete(op, result);
    }
    io_uring_cq_advance(&ring_, count);
  }
  if (!wakeup_armed_) arm_wakeup();
}

void Reactor::enter(bool wait) {
  if (!wait) {
    if (deferred_) {
      io_uring_submit_and_get_events(&ring_);
    } else {
      io_uring_submit(&ring_);
    }
    return;
  }
  // Asleep, we would be woken at the cost of an interrupt, ours and the sender's: as long as what
  // we wait for comes soon, looking for it is cheaper for both. Idle, or on a core that the peer
  // needs, it is not: after each time in vain twice as many short waits are slept through, at
  // first.
  uint64_t started_ns = now_ns();
  bool spun = deferred_ && last_wait_short_ && spin_skip_ == 0;
  bool came = spun && spin(started_ns);
  if (!came) sleep();
  last_wait_short_ = now_ns() - started_ns < kSpinNs;
  if (came) {  // on a shared core the peer sometimes runs in the middle of it, too
    spin_penalty_ = std::max(1u, spin_penalty_ / 2);
  } else if (spun) {
    spin_skip_ = spin_penalty_ = std::min(4 * spin_penalty_, kSpinPenaltyMax);
  } else if (last_wait_short_ && spin_skip_ > 0) {
    --spin_skip_;
  }
}

// Looks for completions without sleeping, for a short time; false: nothing came.
bool Reactor::spin(uint64_t started_ns) {
  uint64_t until_ns = started_ns + kSpinNs;
  if (auto deadline = timers_.next_deadline_ns()) until_ns = std::min(until_ns, *deadline);
  io_uring_submit(&ring_);
  do {
    if (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) io_uring_get_events(&ring_);
    if (io_uring_cq_ready(&ring_) > 0) return true;
  } while (now_ns() < until_ns);
  return false;
}

void Reactor::sleep() {
  io_uring_cqe* cqe = nullptr;
  auto deadline = timers_.next_deadline_ns();
  if (!deadline) {
    io_uring_submit_and_wait(&ring_, 1);
    return;
  }
  uint64_t now = now_ns();
  uint64_t left = *deadline > now ? *deadline - now : 0;
  __kernel_timespec ts{.tv_sec = static_cast<int64_t>(left / kNsPerSecond),
                       .tv_nsec = static_cast<long long>(left % kNsPerSecond)};
  io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &ts, nullptr);
}

// Waits first and works after, so that whoever drives the loop sees the outcome before the next
// wait: nothing that could end what the driver waits for may run before enter(). What the work
// submits goes to the kernel with the next entry, all at once.
bool Reactor::run_once(bool wait) {
  // Completions that are being handed out would be handed out again.
  BB_CHECK(!inside_, "the loop was entered from something it runs");
  inside_ = true;
  start();
  if (ring_event_fd_ >= 0) {  // heard: silence the bell before looking, so that no ring is missed
    uint64_t count = 0;
    [[maybe_unused]] ssize_t got = ::read(ring_event_fd_, &count, sizeof count);
  }
  take_remote();  // only moves it to the ready queue
  enter(wait && ready_.empty());
  reap();
  take_remote();
  fire_timers();
  run_ready();
  inside_ = false;
  return true;
}

void Reactor::run() {
  while (!stopping_.load(std::memory_order_acquire)) run_once(true);
  stopping_.store(false, std::memory_order_release);
}

void Reactor::stop() {
  stopping_.store(true, std::memory_order_release);
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

Result<int> Reactor::poll_fd() {
  start();
  if (epoll_fd_ >= 0) return epoll_fd_;
  Status made = make_poll_fd();
  if (made.ok()) return epoll_fd_;
  for (int* fd : {&epoll_fd_, &ring_event_fd_, &timer_fd_}) {  // or half of it passes for a whole
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
  return made;
}

// Not the ring's own descriptor: with deferred completions the kernel does not wake its pollers,
// but it does ring a registered eventfd.
Status Reactor::make_poll_fd() {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  timer_fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  ring_event_fd_ = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);  // 1: look once at what came before
  if (epoll_fd_ < 0 || timer_fd_ < 0 || ring_event_fd_ < 0) {
    return error(Code::k_internal, "descriptors to poll: {}", std::strerror(errno));
  }
  for (int fd : {ring_event_fd_, timer_fd_}) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
      return error(Code::k_internal, "epoll_ctl: {}", std::strerror(errno));
    }
  }
  int rc = io_uring_register_eventfd(&ring_, ring_event_fd_);  // last: nothing has to undo it
  if (rc < 0) return error(Code::k_internal, "io_uring: register eventfd: {}", std::strerror(-rc));
  prepare_poll();
  return {};
}

void Reactor::prepare_poll() {
  io_uring_submit(&ring_);
  if (timer_fd_ < 0) return;
  uint64_t deadline = timers_.next_deadline_ns().value_or(0);
  if (!ready_.empty() || io_uring_cq_ready(&ring_) > 0) deadline = 1;  // long ago: readable at once
  if (deadline == poll_deadline_ns_) return;
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(deadline / kNsPerSecond);
  spec.it_value.tv_nsec = static_cast<long>(deadline % kNsPerSecond);
  timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr);
  poll_deadline_ns_ = deadline;
}

}  // namespace bb::io
