// SPDX-License-Identifier: Apache-2.0
#include "sim/raw_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace bb::sim {

using namespace io::nvme;  // NOLINT: the wire's other end

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kPatienceNs = 3'000 * kMs;  // then a connection is given up
constexpr uint64_t kCalmNs = 60'000 * kMs;     // in which all is answered that is not lost
constexpr uint64_t kCalmActions = 12;
constexpr uint16_t kQueueSize = 31;

}  // namespace

RawHost::RawHost(RawHostOptions options, Prng prng)
    : options_(std::move(options)),
      prng_(prng),
      node_(*options_.world, SimClock{.boot_ns = prng_.between(1, 1u << 30)}, prng_.fork()),
      actions_left_(prng_.between(20, 80)),
      calm_(node_) {
  network_ = options_.net->attach(options_.name, node_);
}

void RawHost::calm() { calm_.set(); }

void RawHost::note(const char* what, uint64_t a, uint64_t b, uint64_t c) {
  options_.world->trace().event(options_.world->now_ns(), what, a, b, c);
}

void RawHost::fail(const char* what, const Command& command) {
  failed_ = true;
  options_.fail(fmt::format("{}: command of kind {} on shared block {}, status {:#x}: {}",
                            options_.name, static_cast<int>(command.kind), command.block,
                            static_cast<int>(command.status), what));
}

io::Task<void> RawHost::run() {
  while (!calm_.is_set() && !failed_) {
    if (co_await attach()) co_await work(actions_left_);
    if (alive() && !impatient()) (void)co_await calm_.wait_until(node_.now_ns() + 5'000 * kMs);
    co_await detach(prng_.chance(2));
    if (!calm_.is_set()) co_await node_.sleep_for(prng_.between(1, 200) * kMs);
  }
  bool attached = false;
  for (int tries = 0; tries < 5 && !attached && !failed_; ++tries) {
    attached = co_await attach();
    if (!attached) co_await detach(false);
  }
  if (!attached) {
    options_.fail(options_.name + " cannot connect although the network is well");
  } else {
    co_await work(kCalmActions);
    co_await settle();
  }
  co_await detach(false);
}

io::Task<bool> RawHost::join_queue(RawQueue* queue, uint16_t queue_id, uint16_t controller) {
  uint64_t deadline = node_.now_ns() + (calm_.is_set() ? kCalmNs / 4 : kPatienceNs);
  if (!co_await queue->open(network_.get(), options_.target, deadline)) co_return false;
  Sqe sqe;
  ConnectCommand{.queue_id = queue_id, .queue_size = kQueueSize}.encode(sqe);
  ConnectData connect{.controller_id = controller, .subsystem_nqn = options_.nqn};
  connect.host.host_nqn = "nqn.2026-11.io.blockbridge:host:" + options_.name;
  connect.host.host_id.bytes[0] = static_cast<std::byte>(options_.name.back());
  std::byte data[kConnectDataBytes];
  connect.encode(data);
  queue->send(sqe, data, true);
  auto answered = [this, queue_id] {
    return queue_id == 0 ? control_answers_ > 0 : lines_[queue_id - 1u].waiting == 0;
  };
  while (queue->alive() && !answered() && node_.now_ns() < deadline) {
    co_await node_.sleep_for(kMs / 4);
  }
  co_return queue->alive() && answered();
}

io::Task<bool> RawHost::attach() {
  Digests digests{.header = options_.digests, .data = options_.digests};
  control_answers_ = 0;
  control_ = std::make_unique<RawQueue>(
      node_, digests, [this](const RawQueue::Answer& answer) { on_control(answer); });
  if (!co_await join_queue(control_.get(), 0, kControllerIdAny)) co_return false;
  if (last_control_.status != NvmeStatus::kSuccess) co_return false;
  auto controller = static_cast<uint16_t>(last_control_.result);
  control_->send({.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics),
                  .flags = kFlagSgl,
                  .command_id = 1,
                  .cdw11 = static_cast<uint32_t>(Property::kCc),
                  .cdw12 = kCcEntrySizes | kCcEnable},
                 {}, true);
  size_t queues = prng_.between(1, 2);
  lines_.reserve(queues);
  for (size_t i = 0; i < queues; ++i) {
    Line& line = lines_.emplace_back();
    line.queue = std::make_unique<RawQueue>(
        node_, digests, [this, i](const RawQueue::Answer& answer) { on_answer(i, answer); });
    line.commands.push_back({.sent_ns = node_.now_ns()});  // the Connect
    line.waiting = 1;
    auto queue_id = static_cast<uint16_t>(i + 1);
    if (!co_await join_queue(line.queue.get(), queue_id, controller)) co_return false;
    if (line.commands[0].status != NvmeStatus::kSuccess) co_return false;
  }
  note("raw host attached", controller, queues);
  co_return control_->alive();
}

io::Task<void> RawHost::detach(bool abort) {
  for (Line& line : lines_) line.queue->end(abort);
  if (control_ != nullptr) control_->end(abort);
  for (Line& line : lines_) co_await line.queue->close();
  if (control_ != nullptr) co_await control_->close();
  lines_.clear();
  aborts_.clear();
  aborts_waiting_ = 0;
  control_.reset();
}

bool RawHost::alive() const {
  bool all = control_ != nullptr && control_->alive() && !failed_;
  for (const Line& line : lines_) all = all && line.queue->alive();
  return all;
}

size_t RawHost::unanswered() const {
  size_t all = aborts_waiting_;
  for (const Line& line : lines_) all += line.waiting;
  return all;
}

bool RawHost::impatient() const {
  return std::ranges::any_of(lines_, [this](const Line& line) {
    return std::ranges::any_of(line.commands, [this](const Command& command) {
      return !command.answered && command.sent_ns + kPatienceNs < node_.now_ns();
    });
  });
}

io::Task<void> RawHost::work(uint64_t steps) {
  bool calm = calm_.is_set();
  for (; steps > 0 && alive() && calm == calm_.is_set(); --steps) {
    co_await node_.sleep_for(prng_.chance(3) ? 1'000 : prng_.below(2 * kMs));
    if (!alive() || (!calm && impatient())) break;
    act();
    if (!calm && actions_left_ > 0) --actions_left_;
  }
}

// Nothing breaks any more, so nothing stays without an answer.
io::Task<void> RawHost::settle() {
  uint64_t deadline = node_.now_ns() + kCalmNs;
  while (alive() && unanswered() > 0 && node_.now_ns() < deadline) co_await node_.sleep_for(kMs);
  if (failed_) co_return;
  if (!alive()) {
    options_.fail(options_.name + " lost a connection although the network is well");
  } else if (unanswered() > 0) {
    options_.fail(fmt::format("{}: {} commands are never answered", options_.name, unanswered()));
  }
  for (const Line& line : lines_) {
    for (const Command& command : line.commands) {
      bool so = command.answered && command.status == NvmeStatus::kAbortRequested;
      if (so && !command.aborted) fail("aborted, and no Abort says so", command);
    }
  }
}

}  // namespace bb::sim
