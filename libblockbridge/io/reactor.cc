// SPDX-License-Identifier: Apache-2.0
#include "io/reactor.h"

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/units.h"
#include "io/epoll_engine.h"
#include "io/uring_engine.h"

namespace bb::io {
namespace {

constexpr uint64_t kSpinNs = 100'000;
constexpr uint32_t kSpinPenaltyMax = 1024;  // short waits

uint64_t read_clock(clockid_t clock) {
  timespec ts{};
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * kNsPerSecond + static_cast<uint64_t>(ts.tv_nsec);
}

uint64_t random_seed() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = read_clock(CLOCK_MONOTONIC);
  return seed;
}

// Once in a process, however many reactors it has: it is a fact about the machine.
void warn_of_epoll(const Status& refusal) {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  log_warn("{} -> epoll and up to {} threads do the I/O: files cost more CPU, no ublk",
           refusal.text(), BlockingPool::kThreadsMax);
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create(ReactorOptions options) {
  if (options.engine != EngineKind::kEpoll) {
    Result<std::unique_ptr<UringEngine>> made = UringEngine::create();
    if (made.ok()) {
      UringEngine* uring = made->get();
      return std::unique_ptr<Reactor>(new Reactor(std::move(made).value(), uring, options.spin));
    }
    bool refused = made.code() == Code::k_not_supported;
    if (options.engine == EngineKind::kUring || !refused) return made.status();
    warn_of_epoll(made.status());
  }
  BB_ASSIGN(std::unique_ptr<EpollEngine> engine, EpollEngine::create());
  return std::unique_ptr<Reactor>(new Reactor(std::move(engine), nullptr, options.spin));
}

Reactor::Reactor(std::unique_ptr<Engine> engine, UringEngine* uring, bool spin)
    : engine_(std::move(engine)),
      uring_(uring),
      may_spin_(spin && engine_->may_spin()),
      prng_(random_seed()) {}

Reactor::~Reactor() {
  for (int fd : {epoll_fd_, timer_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void Reactor::start() {
  if (started_) return;
  started_ = true;
  engine_->start();
}

uint64_t Reactor::now_ns() const { return read_clock(CLOCK_MONOTONIC); }
uint64_t Reactor::wall_ns() const { return read_clock(CLOCK_REALTIME); }

void Reactor::accept(EngineOp& op, int fd, int flags) {
  op.kind = EngineOp::Kind::kAccept;
  op.fd = fd;
  op.memory = nullptr;
  op.flags = static_cast<uint32_t>(flags);
  engine_->submit(op);
}

void Reactor::connect(EngineOp& op, int fd, const sockaddr* to, socklen_t length) {
  op.kind = EngineOp::Kind::kConnect;
  op.fd = fd;
  op.memory = const_cast<sockaddr*>(to);
  op.length = length;
  engine_->submit(op);
}

void Reactor::readable(EngineOp& op, int fd) {
  op.kind = EngineOp::Kind::kReadable;
  op.fd = fd;
  op.memory = nullptr;
  engine_->submit(op);
}

void Reactor::fdatasync(EngineOp& op, int fd) {
  op.kind = EngineOp::Kind::kFdatasync;
  op.fd = fd;
  op.memory = nullptr;
  engine_->submit(op);
}

void Reactor::fallocate(EngineOp& op, int fd, int mode, uint64_t offset, uint64_t length) {
  op.kind = EngineOp::Kind::kFallocate;
  op.fd = fd;
  op.flags = static_cast<uint32_t>(mode);
  op.offset = offset;
  op.length = length;
  engine_->submit(op);
}

void Reactor::post_remote(Work& work) {
  Work* head = remote_.load(std::memory_order_relaxed);
  do {
    work.next_remote = head;
  } while (!remote_.compare_exchange_weak(head, &work, std::memory_order_release,
                                          std::memory_order_relaxed));
  if (head == nullptr) engine_->wake();  // else whoever came first has done it
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
  // Only what is there now: work that posts itself again must not starve the kernel.
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

void Reactor::enter(bool wait) {
  if (!wait) {
    engine_->flush();
    return begin_batch();
  }
  // Asleep, we would be woken at the cost of an interrupt, ours and the sender's: as long as what
  // we wait for comes soon, looking for it is cheaper for both. Idle, or on a core that the peer
  // needs, it is not: after each time in vain twice as many short waits are slept through, at
  // first.
  uint64_t started_ns = now_ns();
  bool spun = may_spin_ && last_wait_short_ && spin_skip_ == 0;
  bool came = spun && spin(started_ns);
  if (!came) engine_->sleep(timers_.next_deadline_ns(), spun ? now_ns() : started_ns);
  begin_batch();
  last_wait_short_ = batch_ns_ - started_ns < kSpinNs;
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
  ++spins_;
  uint64_t until_ns = started_ns + kSpinNs;
  if (auto deadline = timers_.next_deadline_ns()) until_ns = std::min(until_ns, *deadline);
  engine_->flush();
  do {
    if (engine_->look()) return true;
  } while (now_ns() < until_ns);
  return false;
}

// Waits first and works after, so that whoever drives the loop sees the outcome before the next
// wait: nothing that could end what the driver waits for may run before enter(). What the work
// submits goes to the kernel with the next entry, all at once.
bool Reactor::run_once(bool wait) {
  // Completions that are being handed out would be handed out again.
  BB_CHECK(!inside_, "the loop was entered from something it runs");
  inside_ = true;
  start();
  if (epoll_fd_ >= 0) engine_->heard();
  take_remote();  // only moves it to the ready queue
  enter(wait && ready_.empty());
  engine_->reap();
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
  engine_->wake();
}

Result<int> Reactor::poll_fd() {
  start();
  if (epoll_fd_ >= 0) return epoll_fd_;
  Status made = make_poll_fd();
  if (made.ok()) return epoll_fd_;
  for (int* fd : {&epoll_fd_, &timer_fd_}) {  // or half of it passes for a whole
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
  return made;
}

Status Reactor::make_poll_fd() {
  BB_ASSIGN(int engine_fd, engine_->poll_fd());
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  timer_fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (epoll_fd_ < 0 || timer_fd_ < 0) {
    return error(Code::k_internal, "descriptors to poll: {}", std::strerror(errno));
  }
  for (int fd : {engine_fd, timer_fd_}) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
      return error(Code::k_internal, "epoll_ctl: {}", std::strerror(errno));
    }
  }
  prepare_poll();
  return {};
}

void Reactor::prepare_poll() {
  engine_->flush();
  if (timer_fd_ < 0) return;
  uint64_t deadline = timers_.next_deadline_ns().value_or(0);
  if (!ready_.empty() || engine_->look()) deadline = 1;  // long ago: readable at once
  if (deadline == poll_deadline_ns_) return;
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(deadline / kNsPerSecond);
  spec.it_value.tv_nsec = static_cast<long>(deadline % kNsPerSecond);
  timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr);
  poll_deadline_ns_ = deadline;
}

}  // namespace bb::io
