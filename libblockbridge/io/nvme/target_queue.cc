// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_queue.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kAdminCapsuleDataBytes = 8192;  // TCP transport 1.0, 3.3.1: always
constexpr uint32_t kDirectBytes = 16 * 1024;

ReaderLimits reader_limits(const TargetLimits& limits) {
  return {.capsule_data_max_bytes = std::max(limits.capsule_data_bytes, kAdminCapsuleDataBytes),
          .data_pdu_max_bytes = limits.h2c_data_bytes};
}

// Twice the depth: a host that has an answer may send its next command, while the send that the
// answer is part of, and with it the slot, goes on.
constexpr size_t slots_for(size_t depth) { return 2 * depth; }
size_t slots_max(const TargetLimits& limits) {
  return slots_for(std::max(limits.io_queue_depth, limits.admin_queue_depth));
}

}  // namespace

TargetQueue::TargetQueue(TargetCore& core, QueueHost& host)
    : core_(core),
      host_(host),
      reader_(Role::kController, reader_limits(core.limits())),
      slots_max_(slots_max(core.limits())),
      io_ready_(slots_max_),
      waiting_(slots_max_),
      to_send_(2 * slots_max_),
      meter_(slots_max_),
      ana_(&core.ana_port(0)) {
  free_.reserve(slots_max_);
  iov_.reserve(6 * slots_max_);
  being_sent_.reserve(2 * slots_max_);
  static_assert(SlotTable::kFirst == slots_for(1), "whoever has not connected has one command");
  add_slots(0);
}

void TargetQueue::accept_depth(size_t depth) {
  size_t before = slots_.size();
  BB_CHECK(depth > 1 && slots_for(depth) <= slots_max_, "{} slots, of at most {}", slots_for(depth),
           slots_max_);
  depth_ = static_cast<uint16_t>(depth);
  slots_.grow(slots_for(depth));
  add_slots(before);
}

void TargetQueue::add_slots(size_t first) {
  for (size_t i = slots_.size(); i > first; --i) {
    auto index = static_cast<uint16_t>(i - 1);
    free_.push_back(index);
    slots_[index].lock.queue = this;
    slots_[index].lock.slot = index;
    slots_[index].lock.granted = [](RangeTicket* ticket) {
      auto* lock = static_cast<SlotLock*>(ticket);
      lock->queue->on_range_granted(lock->slot);
    };
  }
}

void TargetQueue::set_port(uint16_t port) {
  port_ = port;
  ana_ = &core_.ana_port(port);
}

TargetQueue::~TargetQueue() {
  BB_CHECK(io_in_flight_ == 0, "a queue ends with {} I/Os at the device", io_in_flight_);
  close("destroyed");
  for (TargetSlot& slot : slots_) give_data(slot);
}

void TargetQueue::close(const char* why) {
  if (!closing_) {
    closing_ = true;
    close_reason_ = why;
    let_go_of_ranges();
    for (TargetSlot& slot : slots_) {  // what is being sent follows
      if (slot.lent && slot.state == State::kAnswering) give_back(slot);
    }
    io_ready_.clear();
    waiting_.clear();
    if (connecting_) core_.stopped_waiting(*this);
  }
  if (Controller* controller = std::exchange(controller_, nullptr)) {
    leave(*controller);
    core_.disconnected(*this, *controller, queue_id_);
  }
}

void TargetQueue::leave(const Controller& controller) {
  forget_reservations();
  if (io_in_flight_ > 0) core_.left_behind(*this, controller);
}

void TargetQueue::controller_ended(const char* why) {
  if (Controller* controller = std::exchange(controller_, nullptr)) leave(*controller);
  close(why);
  host_.wake();
}

void TargetQueue::fatal(FatalError error, uint32_t information, ConstBytes header,
                        const char* what) {
  if (terminating_ || closing_) return;
  terminating_ = true;
  TermReq term{.error = error, .information = information, .header = header};
  term_bytes_ = term.encode(term_, PduType::kC2hTermReq);
  term_state_ = Control::kQueued;
  to_send_.clear();  // a partly sent answer goes out whole, later ones not at all
  close(what);
}

void TargetQueue::on_bytes(ConstBytes bytes, uint64_t now_ns) {
  now_ns_ = now_ns;
  // A host counts on it that nothing is executed once its keep alive has run out, however late we
  // come to look (this process may have been stopped for a while).
  if (controller_ != nullptr && controller_->expired(now_ns)) close("no keep alive in time");
  while (!closing_ && home_ == 0) {
    PduEvent event = reader_.next(bytes);
    switch (event.kind) {
      case PduEvent::Kind::kNeedMore:
        return;
      case PduEvent::Kind::kHeader:
        on_header(event.bytes, now_ns);
        break;
      case PduEvent::Kind::kData:
        on_data(event);
        break;
      case PduEvent::Kind::kEnd:
        on_data_end(event.digest_ok, now_ns);
        break;
      case PduEvent::Kind::kIllegal: {
        const Violation& violation = reader_.violation();
        if (violation.error == FatalError::kHeaderDigest && controller_ != nullptr) {
          ++controller_->counters.digest_errors;
        }
        fatal(violation.error, violation.information, reader_.illegal_header(), violation.what);
        return;
      }
    }
  }
}

void TargetQueue::resume(ConstBytes received, uint64_t now_ns) {
  on_bytes(received.first(kIcBytes), now_ns);
  hello_state_ = Control::kDone;
  on_bytes(received.subspan(kIcBytes), now_ns);
}

void TargetQueue::on_header(ConstBytes header, uint64_t now_ns) {
  switch (reader_.header().type) {
    case PduType::kIcReq:
      return on_ic_request(header);
    case PduType::kCapsuleCmd:
      return on_capsule(header, now_ns);
    case PduType::kH2cData:
      return on_h2c_data(header);
    case PduType::kH2cTermReq:
      return close("the host sent a termination request");
    case PduType::kIcResp:
    case PduType::kC2hTermReq:
    case PduType::kCapsuleResp:
    case PduType::kC2hData:
    case PduType::kR2t:
      break;
  }
  BB_CHECK(false, "the reader let PDU type {} through", static_cast<int>(reader_.header().type));
}

void TargetQueue::on_ic_request(ConstBytes header) {
  IcReq request = IcReq::decode(header);
  bool both = request.digests.header && request.digests.data;
  if (core_.digest_policy() == DigestPolicy::kRequire && !both) {
    return fatal(FatalError::kUnsupportedParameter, 11, header, "digests are required here");
  }
  Digests digests = core_.digest_policy() == DigestPolicy::kOff ? Digests{} : request.digests;
  out_format_ = {.digests = digests, .alignment_bytes = (request.alignment_dwords + 1u) * 4};
  reader_.negotiated({.digests = digests});
  IcResp response{.digests = digests, .h2c_data_max_bytes = core_.limits().h2c_data_bytes};
  response.encode(hello_);
  hello_state_ = Control::kQueued;
}

void TargetQueue::on_capsule(ConstBytes header, uint64_t now_ns) {
  if (outstanding_ >= depth_ || free_.empty()) {
    return fatal(FatalError::kSequence, 0, header, "more commands than the queue holds");
  }
  uint16_t index = free_.back();
  free_.pop_back();
  ++outstanding_;
  TargetSlot& slot = slots_[index];
  slot.sqe = Sqe::decode(capsule_sqe(header));
  slot.in_capsule = false;
  slot.to_host = false;
  slot.r2t_sent = false;
  slot.send_data = false;
  slot.aborted = false;
  slot.status = NvmeStatus::kSuccess;
  slot.length_bytes = 0;
  slot.received_bytes = 0;
  slot.scratch_bytes = 0;
  slot.range_next = 0;
  slot.work = Work::kNone;
  slot.half = Half::kNone;
  slot.state = State::kReceiving;
  slot.io = {};  // not what the command before asked for
  meter_.begin(slot.times, now_ns);
  sq_head_ = static_cast<uint16_t>((sq_head_ + 1u) % sq_size_);
  bool stranger = queue_id_ != 0 && !authenticated_;  // keeps nobody's controller alive
  if (controller_ != nullptr && !stranger) controller_->heard(now_ns);
  NvmeStatus status = plan(slot);
  if ((slot.sqe.flags & kFlagFuseMask) != 0 || awaits_second_half()) status = pair(index, status);
  if (!note_id(slot)) status = final_status(NvmeStatus::kCommandIdConflict);
  uint32_t there = reader_.data_bytes();
  if (status == NvmeStatus::kSuccess && there != (slot.in_capsule ? slot.length_bytes : 0)) {
    status = final_status(NvmeStatus::kSglDataLengthInvalid);
  }
  if (status != NvmeStatus::kSuccess) {
    slot.status = status;
    slot.length_bytes = 0;
    if (there == 0) return answer(index, status);
    receiving_ = index;  // its data must go by first
    discarding_ = true;
    return;
  }
  start(index, now_ns);
}

void TargetQueue::on_h2c_data(ConstBytes header) {
  constexpr auto kField = FatalError::kInvalidHeaderField;
  DataHeader data = DataHeader::decode(header, reader_.header().flags);
  if (data.transfer_tag >= slots_.size()) {
    return fatal(kField, 10, header, "data with a transfer tag nobody gave");
  }
  TargetSlot& slot = slots_[data.transfer_tag];
  if (slot.state != State::kReceiving || !slot.r2t_sent ||
      slot.received_bytes == slot.length_bytes) {
    return fatal(kField, 10, header, "data for a transfer that is not open");
  }
  if (slot.sqe.command_id != data.command_id) {
    return fatal(kField, 8, header, "data for another command than its transfer tag says");
  }
  if (data.offset_bytes != slot.received_bytes) {
    return fatal(kField, 12, header, "data out of order");
  }
  if (data.length_bytes > slot.length_bytes - slot.received_bytes) {
    return fatal(FatalError::kDataOutOfRange, 0, header, "more data than the R2T asked for");
  }
  bool completes = slot.received_bytes + data.length_bytes == slot.length_bytes;
  if (data.last != completes) return fatal(kField, 1, header, "a wrong mark of the last data");
  receiving_ = data.transfer_tag;
  discarding_ = false;
  long_data_ = data.length_bytes >= 2 * kDirectBytes;
}

Bytes TargetQueue::direct_target() const {
  size_t left = reader_.data_left();
  if (closing_ || discarding_ || receiving_ < 0 || left < kDirectBytes) return {};
  const TargetSlot& slot = slots_[static_cast<size_t>(receiving_)];
  return {slot.data + slot.received_bytes, left};
}

void TargetQueue::on_data(const PduEvent& event) {
  if (discarding_ || receiving_ < 0) return;
  TargetSlot& slot = slots_[static_cast<size_t>(receiving_)];
  BB_CHECK(event.bytes.size() <= slot.length_bytes - slot.received_bytes, "data beyond a buffer");
  std::byte* place = slot.data + slot.received_bytes;
  if (event.bytes.data() != place) std::memcpy(place, event.bytes.data(), event.bytes.size());
  slot.received_bytes += static_cast<uint32_t>(event.bytes.size());
}

void TargetQueue::on_data_end(bool digest_ok, uint64_t now_ns) {
  if (receiving_ < 0) return;
  auto index = static_cast<uint16_t>(std::exchange(receiving_, -1));
  TargetSlot& slot = slots_[index];
  if (!digest_ok) {
    if (controller_ != nullptr) ++controller_->counters.digest_errors;
    if (!discarding_) slot.status = NvmeStatus::kTransientTransportError;
  }
  if (discarding_) return answer(index, slot.status);
  if (slot.received_bytes < slot.length_bytes) return;
  if (slot.status != NvmeStatus::kSuccess) return answer(index, slot.status);
  execute(index, now_ns);
}

}  // namespace bb::io::nvme
