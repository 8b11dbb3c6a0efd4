// SPDX-License-Identifier: Apache-2.0
#include "io/epoll_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/units.h"

namespace bb::io {
namespace {

using Kind = EngineOp::Kind;

constexpr uint32_t kReadEvents = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr uint32_t kWriteEvents = EPOLLOUT | EPOLLHUP | EPOLLERR;
constexpr int kEventsAtOnce = 128;

bool writes(Kind kind) {
  return kind == Kind::kSend || kind == Kind::kSendmsg || kind == Kind::kConnect;
}

bool on_file(Kind kind) {
  return kind == Kind::kReadv || kind == Kind::kWritev || kind == Kind::kFdatasync ||
         kind == Kind::kFallocate;
}

// Accept and connect have no flag that says "do not wait": the socket itself has to.
void set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

ssize_t poll_readable(int fd) {
  pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
  int ready = ::poll(&one, 1, 0);
  if (ready == 0) errno = EAGAIN;
  return ready > 0 ? one.revents : -1;
}

ssize_t connect_now(const EngineOp& op) {
  set_nonblocking(op.fd);
  return ::connect(op.fd, static_cast<const sockaddr*>(op.memory),
                   static_cast<socklen_t>(op.length));
}

ssize_t accept_now(const EngineOp& op) {
  set_nonblocking(op.fd);
  return ::accept4(op.fd, nullptr, nullptr, static_cast<int>(op.flags));
}

ssize_t call(const EngineOp& op) {
  int flags = static_cast<int>(op.flags) | MSG_DONTWAIT;
  switch (op.kind) {
    case Kind::kRecv:
      return ::recv(op.fd, op.memory, op.length, MSG_DONTWAIT);
    case Kind::kRecvmsg:
      return ::recvmsg(op.fd, static_cast<msghdr*>(op.memory), MSG_DONTWAIT);
    case Kind::kSend:
      return ::send(op.fd, op.memory, op.length, flags);
    case Kind::kSendmsg:
      return ::sendmsg(op.fd, static_cast<msghdr*>(op.memory), flags);
    case Kind::kAccept:
      return accept_now(op);
    case Kind::kConnect:
      return connect_now(op);
    case Kind::kReadable:
      return poll_readable(op.fd);
    case Kind::kReadv:
    case Kind::kWritev:
    case Kind::kFdatasync:
    case Kind::kFallocate:
      break;
  }
  BB_CHECK(false, "operation {} is none on a socket", static_cast<int>(op.kind));
  return -1;
}

int32_t connect_result(int fd) {
  int number = 0;
  socklen_t length = sizeof number;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0) number = errno;
  return -number;
}

timespec timespec_of(uint64_t ns) {
  return {.tv_sec = static_cast<time_t>(ns / kNsPerSecond),
          .tv_nsec = static_cast<long>(ns % kNsPerSecond)};
}

}  // namespace

Result<std::unique_ptr<EpollEngine>> EpollEngine::create() {
  std::unique_ptr<EpollEngine> engine(new EpollEngine);
  BB_TRY(engine->init());
  return engine;
}

Status EpollEngine::init() {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_fd_ < 0 || wake_fd_ < 0) {
    return error(Code::k_no_space, "epoll: {}", std::strerror(errno));
  }
  // Edge-triggered, so that nobody has to read them.
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = wake_fd_}};
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) {
    return error(Code::k_internal, "epoll_ctl: {}", std::strerror(errno));
  }
  timespec none{};
  if (epoll_pwait2(epoll_fd_, &event, 1, &none, nullptr) >= 0) return {};
  timer_fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);  // before Linux 5.11
  event = {.events = EPOLLIN | EPOLLET, .data = {.fd = timer_fd_}};
  if (timer_fd_ < 0 || epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, timer_fd_, &event) != 0) {
    return error(Code::k_no_space, "timerfd: {}", std::strerror(errno));
  }
  return {};
}

EpollEngine::~EpollEngine() {
  pool_.stop();  // its threads write to a descriptor that is closed here
  for (int fd : {epoll_fd_, wake_fd_, timer_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

EpollEngine::Descriptor& EpollEngine::descriptor(int fd) {
  auto index = static_cast<size_t>(fd);
  if (index >= descriptors_.size()) descriptors_.resize(index + 1);
  return descriptors_[index];
}

void EpollEngine::end(EngineOp& op, int32_t result) {
  op.result = result;
  ended_.push_back(op);
}

void EpollEngine::start_submitted() {
  while (EngineOp* op = submitted_.pop_front()) on_file(op->kind) ? try_file(*op) : try_socket(*op);
  pool_.submit(for_pool_);
}

// Until the kernel says that it would have to wait, an operation is tried at once; from then on
// only after an edge.
void EpollEngine::try_socket(EngineOp& op) {
  Descriptor& at = descriptor(op.fd);
  bool& blocked = writes(op.kind) ? at.unwritable : at.unreadable;
  if (blocked) return park(op, at);
  ssize_t result = call(op);
  if (result >= 0) return end(op, static_cast<int32_t>(result));
  bool waits = errno == EAGAIN || (op.kind == Kind::kConnect && errno == EINPROGRESS);
  // A Unix socket whose listener has no room says EAGAIN to connect, and no edge follows.
  if (!waits || (op.kind == Kind::kConnect && errno == EAGAIN)) return end(op, -errno);
  if (!at.watched && !watch(op, at)) return;
  blocked = true;
  at.connecting = op.kind == Kind::kConnect;
  park(op, at);
}

// The edge of what happened between the attempt and this is told, too: adding a descriptor reports
// what it is ready for.
bool EpollEngine::watch(EngineOp& op, Descriptor& at) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.fd = op.fd}};
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, op.fd, &event) != 0) {
    end(op, -errno);
    return false;
  }
  at.watched = true;
  return true;
}

void EpollEngine::park(EngineOp& op, Descriptor& at) {
  EngineOp*& slot = writes(op.kind) ? at.writer : at.reader;
  BB_CHECK(slot == nullptr, "descriptor {}: a second operation {} while one waits", op.fd,
           static_cast<int>(op.kind));
  slot = &op;
}

// What the page cache has is not worth a thread's attention.
void EpollEngine::try_file(EngineOp& op) {
  Descriptor& at = descriptor(op.fd);
  if (!at.flags_known) {
    at.flags_known = true;
    int flags = fcntl(op.fd, F_GETFL);
    at.never_cached = flags < 0 || (flags & O_DIRECT) != 0;
  }
  if (op.kind == Kind::kReadv && !at.never_cached) {
    int32_t result = run_blocking(op, RWF_NOWAIT);
    if (result == -EOPNOTSUPP) at.never_cached = true;
    if (result != -EAGAIN && result != -EOPNOTSUPP) return end(op, result);
  }
  for_pool_.push_back(op);
}

void EpollEngine::cancel(EngineOp& op) {
  if (submitted_.remove(op)) return end(op, -ECANCELED);
  if (on_file(op.kind)) {
    if (pool_.take_back(op)) end(op, -ECANCELED);
    return;
  }
  Descriptor& at = descriptor(op.fd);
  EngineOp*& slot = writes(op.kind) ? at.writer : at.reader;
  if (slot != &op) return;  // it has ended
  slot = nullptr;
  at.connecting = at.connecting && !writes(op.kind);
  end(op, -ECANCELED);
}

void EpollEngine::close(int fd) {
  forget(fd);
  ::close(fd);
}

// Whoever gets the number next begins anew.
void EpollEngine::forget(int fd) {
  Descriptor& at = descriptor(fd);
  BB_CHECK(at.reader == nullptr && at.writer == nullptr, "descriptor {}: let go of while in use",
           fd);
  // Not left to the kernel: a child of the host's may hold a copy, which keeps the set's entry.
  if (at.watched) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  at = Descriptor();
}

void EpollEngine::flush() {
  start_submitted();
  look();
}

bool EpollEngine::look() {
  timespec none{};
  wait(&none);
  return something_ended();
}

void EpollEngine::sleep(std::optional<uint64_t> deadline_ns, uint64_t now_ns) {
  start_submitted();
  if (something_ended()) {
    look();
    return;
  }
  if (!deadline_ns) return wait(nullptr);
  timespec left = timespec_of(*deadline_ns > now_ns ? *deadline_ns - now_ns : 0);
  wait(&left);
}

void EpollEngine::wait(const timespec* timeout) {
  epoll_event events[kEventsAtOnce];
  int count = 0;
  if (timer_fd_ < 0) {
    count = epoll_pwait2(epoll_fd_, events, kEventsAtOnce, timeout, nullptr);
  } else {
    bool at_once = timeout != nullptr && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    if (!at_once) set_timer(timeout);
    count = epoll_wait(epoll_fd_, events, kEventsAtOnce, at_once ? 0 : -1);
  }
  for (int i = 0; i < count; ++i) on_event(events[i]);
}

void EpollEngine::set_timer(const timespec* timeout) {
  itimerspec spec{};
  if (timeout != nullptr) spec.it_value = *timeout;
  timerfd_settime(timer_fd_, 0, &spec, nullptr);
}

void EpollEngine::on_event(const epoll_event& event) {
  int fd = event.data.fd;
  if (fd == timer_fd_) return;  // to end the wait is all it is for
  if (fd == wake_fd_) {
    woken_ = true;
    return;
  }
  Descriptor& at = descriptor(fd);
  if ((event.events & kReadEvents) != 0) {
    at.unreadable = false;
    if (EngineOp* reader = std::exchange(at.reader, nullptr)) try_socket(*reader);
  }
  if ((event.events & kWriteEvents) != 0) {
    at.unwritable = false;
    EngineOp* writer = std::exchange(at.writer, nullptr);
    if (writer == nullptr) return;
    if (std::exchange(at.connecting, false)) return end(*writer, connect_result(fd));
    try_socket(*writer);
  }
}

void EpollEngine::reap() {
  woken_ = false;
  EngineOpQueue ended;
  ended.append(ended_);
  pool_.take_ended(&ended);
  while (EngineOp* op = ended.pop_front()) op->complete(op, op->result);
}

void EpollEngine::wake() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

}  // namespace bb::io
