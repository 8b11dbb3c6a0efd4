// SPDX-License-Identifier: Apache-2.0
// The nbd: device's requests: each becomes one command, or several one after the other.
#include <algorithm>

#include "base/units.h"
#include "io/nbd/nbd_device.h"

namespace bb::io::nbd {
namespace {

// A server may have to write what it zeroes: in pieces that end within the time for one command.
constexpr uint64_t kZeroPieceBytes = 256 * MiB;
constexpr uint64_t kRangeMaxBytes = 1ull << 31;  // headers that are not extended hold 32 bits

// A server may count in smaller blocks than we do: a block that is data in part is data.
std::vector<Extent> whole_blocks(const std::vector<BlockState>& states, uint64_t offset_bytes,
                                 uint64_t block_bytes) {
  std::vector<Extent> list;
  uint64_t at = offset_bytes;
  uint64_t end = offset_bytes;
  for (const BlockState& each : states) {
    end += each.length_bytes;
    bool data = !each.hole && !each.zero;
    uint64_t whole = data ? round_up(end, block_bytes) : round_down(end, block_bytes);
    if (whole <= at) continue;
    append_extent(list, {.length_bytes = whole - at, .hole = each.hole, .zero = each.zero});
    at = whole;
  }
  if (list.empty()) list.push_back({.length_bytes = block_bytes});
  return list;
}

}  // namespace

Status NbdDevice::unavailable(const IoRequest& request) const {
  return error(Code::k_unavailable, "{}: {} of {} bytes at {}: {}", info_.uri,
               io_op_name(request.op), request.length_bytes, request.offset_bytes,
               stats_.last_error.ok() ? "not connected" : stats_.last_error.text());
}

void NbdDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  bool needless = request.op == IoOp::kFlush && !offers(kSendFlush);  // nothing is kept back
  bool impossible = request.op == IoOp::kDiscard && !info_.discard;
  if (needless || impossible) {
    Status status;
    if (impossible)
      status = error(Code::k_not_supported, "{}: the server cannot discard", info_.uri);
    count(request, status);
    request.done(&request, std::move(status));
    return gate_.leave();
  }
  if (usable_ && !free_.empty() && parked_first_ == nullptr) return start(request);
  if (usable_ || options_.wait_ns > 0) return park(request);
  Status status = unavailable(request);
  count(request, status);
  request.done(&request, std::move(status));
  gate_.leave();
}

void NbdDevice::park(IoRequest& request) {
  uint64_t deadline_ns = usable_ ? 0 : context_.loop.now_ns() + options_.wait_ns;
  new (request.scratch) Parked{.next = nullptr, .deadline_ns = deadline_ns};
  (parked_last_ == nullptr ? parked_first_ : parked(*parked_last_).next) = &request;
  parked_last_ = &request;
}

IoRequest* NbdDevice::unpark() {
  IoRequest* request = parked_first_;
  parked_first_ = parked(*request).next;
  if (parked_first_ == nullptr) parked_last_ = nullptr;
  return request;
}

void NbdDevice::fail_parked(uint64_t until_ns) {
  while (parked_first_ != nullptr && parked(*parked_first_).deadline_ns <= until_ns) {
    IoRequest* request = unpark();
    Status status = unavailable(*request);
    count(*request, status);
    request->done(request, std::move(status));
    gate_.leave();
  }
}

void NbdDevice::start_parked() {
  while (usable_ && parked_first_ != nullptr && !free_.empty()) start(*unpark());
}

void NbdDevice::start(IoRequest& request) {
  Slot& slot = slots_[free_.back()];
  free_.pop_back();
  slot.request_of = &request;
  slot.moved_bytes = 0;
  slot.flushing = false;
  issue(slot);
}

void NbdDevice::issue(Slot& slot) {
  if (!usable_) {  // between two commands of one request the connection has gone
    on_done(slot, error(Code::k_unavailable, "not connected"));
    return;
  }
  slot.deadline_ns = context_.loop.now_ns() + options_.io_timeout_ns;
  build(slot);
  connections_[slot.index % connections_.size()]->submit(slot);
}

void NbdDevice::build(Slot& slot) {
  const IoRequest& from = *slot.request_of;
  Request& to = slot.request;
  uint64_t left = from.length_bytes - slot.moved_bytes;
  to = {.offset_bytes = from.offset_bytes + slot.moved_bytes, .length_bytes = left};
  slot.iov = from.iov;
  slot.iov_count = from.iov_count;
  if (slot.flushing) {
    to = {.command = Command::kFlush};
    return;
  }
  switch (from.op) {
    case IoOp::kRead:
      to.command = Command::kRead;
      break;
    case IoOp::kWrite:
      to.command = Command::kWrite;
      break;
    case IoOp::kFlush:
      to = {.command = Command::kFlush};
      break;
    case IoOp::kDiscard:
      to.command = Command::kTrim;
      if (remote_.framing != Framing::kExtended) to.length_bytes = std::min(left, kRangeMaxBytes);
      break;
    case IoOp::kWriteZeroes:
      build_zeroes(slot);
      break;
  }
  bool writes = from.op == IoOp::kWrite || from.op == IoOp::kWriteZeroes;
  if (writes && from.fua && offers(kSendFua)) to.flags |= kFua;
}

void NbdDevice::build_zeroes(Slot& slot) {
  const IoRequest& from = *slot.request_of;
  Request& to = slot.request;
  if (!offers(kSendWriteZeroes)) {
    to.command = Command::kWrite;
    to.length_bytes = std::min<uint64_t>(to.length_bytes, zeroes_.size());
    slot.zeroes = {.iov_base = zeroes_.data(), .iov_len = to.length_bytes};
    slot.iov = &slot.zeroes;
    slot.iov_count = 1;
    return;
  }
  to.command = Command::kWriteZeroes;
  to.length_bytes = std::min(to.length_bytes, kZeroPieceBytes);
  if (!from.may_discard) to.flags |= kNoHole;
  if (from.fast_only) to.flags |= kFastZero;
}

void NbdDevice::on_done(Slot& slot, Status lost) {
  const IoRequest& request = *slot.request_of;
  auto failed = [&](Code code, std::string_view why) {
    return error(code, "{}: {} of {} bytes at {}: {}", info_.uri, io_op_name(request.op),
                 request.length_bytes, request.offset_bytes, why);
  };
  if (!lost.ok()) return finish(slot, failed(Code::k_unavailable, lost.text()));
  if (slot.error != Errno::kNone) {
    std::string_view text = slot.error_text.empty() ? errno_text(slot.error) : slot.error_text;
    return finish(slot, failed(code_of(slot.error), text));
  }
  // A flush has no range, whatever its length says.
  if (slot.flushing || request.op == IoOp::kFlush) return finish(slot, Status());
  slot.moved_bytes += slot.request.length_bytes;
  if (slot.moved_bytes < request.length_bytes) return issue(slot);
  bool changes = request.op == IoOp::kWrite || request.op == IoOp::kWriteZeroes;
  if (changes && request.fua && !offers(kSendFua) && offers(kSendFlush)) {
    slot.flushing = true;
    return issue(slot);
  }
  finish(slot, Status());
}

void NbdDevice::finish(Slot& slot, Status status) {
  IoRequest& request = *slot.request_of;
  slot.request_of = nullptr;
  free_.push_back(slot.index);
  count(request, status);
  start_parked();
  request.done(&request, std::move(status));
  gate_.leave();
}

void NbdDevice::count(const IoRequest& request, const Status& status) {
  bool reads = request.op == IoOp::kRead;
  ++(reads ? stats_.reads : request.op == IoOp::kWrite ? stats_.writes : stats_.others);
  if (!status.ok()) ++stats_.failures;
}

// Coarse on purpose: one timer for all commands, not one each.
void NbdDevice::on_tick() {
  uint64_t now_ns = context_.loop.now_ns();
  if (usable_) {
    for (auto& each : connections_) each->check_deadlines(now_ns);
  } else if (options_.wait_ns > 0) {
    fail_parked(now_ns);
  }
  if (stopping_) return;
  uint64_t shortest_ns = options_.io_timeout_ns;
  if (options_.wait_ns > 0) shortest_ns = std::min(shortest_ns, options_.wait_ns);
  uint64_t pause_ns = std::clamp(shortest_ns / 8, 5 * kNsPerMs, kNsPerSecond);
  context_.loop.arm(tick_, now_ns + pause_ns);
}

// A block status that a coroutine waits for.
struct NbdDevice::StatusQuery : ClientCommand {
  Event ended;
  Status lost;
  explicit StatusQuery(Loop& loop) : ended(loop) {
    done = [](ClientCommand* command, Status why) {
      auto* self = static_cast<StatusQuery*>(command);
      self->lost = std::move(why);
      self->ended.set();
    };
  }
};

Task<Result<std::vector<Extent>>> NbdDevice::do_extents(uint64_t offset_bytes,
                                                        uint64_t length_bytes, uint32_t limit) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  co_await queries_.acquire();
  StatusQuery query(context_.loop);
  bool asks = usable_ && remote_.allocation;
  query.lost = usable_ ? Status() : error(Code::k_unavailable, "not connected");
  if (asks) {
    bool wide = remote_.framing == Framing::kExtended;
    query.request = {.flags = static_cast<uint16_t>(limit == 1 ? kReqOne : 0),
                     .command = Command::kBlockStatus,
                     .offset_bytes = offset_bytes,
                     .length_bytes = wide ? length_bytes : std::min(length_bytes, kRangeMaxBytes)};
    query.deadline_ns = context_.loop.now_ns() + options_.io_timeout_ns;
    connections_.front()->submit(query);
    co_await query.ended.wait();
    ++stats_.others;
  }
  queries_.release();
  Status status = query.lost;
  if (status.ok() && query.error != Errno::kNone) {
    status = error(code_of(query.error), "{}",
                   query.error_text.empty() ? errno_text(query.error) : query.error_text);
  }
  auto list = asks ? whole_blocks(query.states, offset_bytes, info_.block_size_bytes)
                   : std::vector<Extent>{{.length_bytes = length_bytes}};
  gate_.leave();
  if (!status.ok()) {
    co_return status.with_context(
        fmt::format("{}: extents of {} bytes at {}", info_.uri, length_bytes, offset_bytes));
  }
  co_return list;
}

}  // namespace bb::io::nbd
