// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_drive.h"

#include <algorithm>

namespace bb::sim {
namespace {

constexpr uint64_t kSector = SectorStore::kSectorBytes;

uint64_t code_of(io::IoOp op) { return static_cast<uint64_t>(op); }

}  // namespace

SimDrive::SimDrive(SimLoop& world, SectorStore::Pool* pool, SimDriveOptions options, Prng prng)
    : world_(world),
      options_(std::move(options)),
      medium_(options_.size_bytes, pool),
      prng_(prng) {}

SimDrive::~SimDrive() { BB_CHECK(cables_.empty(), "a cable outlives its drive"); }

std::unique_ptr<SimCable> SimDrive::connect(io::Loop& owner) {
  return std::make_unique<SimCable>(*this, owner);
}

SimDrive::Slot& SimDrive::take_slot() {
  if (free_.empty()) {
    Slot& slot = *slots_.emplace_back(std::make_unique<Slot>());
    slot.drive = this;
    slot.alarm.slot = &slot;
    slot.alarm.fire = [](io::Timer* timer) {
      Slot* due = static_cast<Slot::Alarm*>(timer)->slot;
      due->drive->due(*due);
    };
    slot.reply.slot = &slot;
    slot.reply.run = [](io::Work* work) {
      Slot& done = *static_cast<Slot::Reply*>(work)->slot;
      io::IoRequest* request = done.request;
      Status status = std::move(done.status);
      done.status = Status();
      --done.cable->in_flight_;
      done.drive->free_.push_back(&done);
      request->done(request, std::move(status));
    };
    return slot;
  }
  Slot& slot = *free_.back();
  free_.pop_back();
  return slot;
}

void SimDrive::begin(SimCable& cable, io::IoRequest& request) {
  ++requests_;
  Slot& slot = take_slot();
  slot.cable = &cable;
  slot.request = &request;
  slot.applied = false;
  slot.early = prng_.below(2) == 0;
  ++cable.in_flight_;
  world_.trace().event(world_.now_ns(), "drive", code_of(request.op), request.offset_bytes,
                       request.length_bytes);
  if (slot.early && !stuck_ && !broken_) {
    slot.status = apply(request);
    slot.applied = true;
  }
  if (stuck_) {
    parked_.push_back(slot);
    return;
  }
  uint64_t latency = prng_.between(options_.latency_min_ns, options_.latency_max_ns);
  if (prng_.chance(faults_.slow_one_in)) latency += faults_.slow_ns;
  flying_.push_back(slot);
  world_.arm(slot.alarm, world_.now_ns() + latency);
}

void SimDrive::due(Slot& slot) {
  flying_.erase(flying_.iterator_to(slot));
  if (stuck_) {
    parked_.push_back(slot);
    return;
  }
  if (broken_) {
    finish(slot, error(Code::k_io_error, "{}: the drive is broken", options_.name));
    return;
  }
  if (!slot.applied) slot.status = apply(*slot.request);
  finish(slot, std::move(slot.status));
}

void SimDrive::finish(Slot& slot, Status status) {
  slot.status = std::move(status);
  slot.cable->owner_.post(slot.reply);
}

Status SimDrive::apply(io::IoRequest& request) {
  switch (request.op) {
    case io::IoOp::kRead:
      return apply_read(request);
    case io::IoOp::kWrite:
    case io::IoOp::kWriteZeroes:
      return apply_write(request);
    case io::IoOp::kDiscard:
      apply_discard(request);
      return {};
    case io::IoOp::kFlush:
      if (prng_.chance(faults_.flush_error_one_in)) {
        return error(Code::k_io_error, "{}: flush failed", options_.name);
      }
      if (!options_.lies_about_flush) medium_.flush();
      return {};
  }
  return {};
}

Status SimDrive::apply_read(io::IoRequest& request) {
  buffer_.resize(request.length_bytes);
  bool readable = medium_.read(request.offset_bytes, buffer_);
  io::iov_scatter(request.iov, request.iov_count, 0, buffer_);
  if (!readable || prng_.chance(faults_.read_error_one_in)) {
    return error(Code::k_io_error, "{}: read of {} bytes at {}: unreadable sector", options_.name,
                 request.length_bytes, request.offset_bytes);
  }
  return {};
}

void SimDrive::mark_wrong(uint64_t offset_bytes, ConstBytes right) {
  for (uint64_t at = 0; at < right.size(); at += kSector) {
    medium_.mark_wrong(offset_bytes + at, right.subspan(at, kSector));
  }
}

// Where a write lands that does not land where it should.
uint64_t SimDrive::misplace(const io::IoRequest& request) {
  uint64_t end = std::min(faults_.silent_to_bytes, options_.size_bytes);
  uint64_t places =
      (end - faults_.silent_from_bytes - request.length_bytes) / options_.block_size_bytes;
  return faults_.silent_from_bytes + prng_.below(places + 1) * options_.block_size_bytes;
}

Status SimDrive::apply_write(io::IoRequest& request) {
  ++writes_;
  if (full_) {
    return error(Code::k_no_space, "{}: write of {} bytes at {}: the drive is full", options_.name,
                 request.length_bytes, request.offset_bytes);
  }
  bool here = request.offset_bytes >= faults_.silent_from_bytes &&
              request.offset_bytes + request.length_bytes <= faults_.silent_to_bytes;
  buffer_.assign(request.length_bytes, std::byte{0});
  if (request.op == io::IoOp::kWrite) io::iov_gather(request.iov, request.iov_count, 0, buffer_);
  if (here && prng_.chance(faults_.lost_write_one_in)) {
    mark_wrong(request.offset_bytes, buffer_);
    return {};
  }
  bool elsewhere = here && prng_.chance(faults_.misdirected_one_in);
  uint64_t offset = elsewhere ? misplace(request) : request.offset_bytes;
  bool fails = prng_.chance(faults_.write_error_one_in);
  bool durable = !options_.lies_about_flush && (request.fua || !options_.volatile_cache);
  std::vector<std::byte> hit(elsewhere ? request.length_bytes : 0);  // what it falls on
  if (elsewhere) medium_.read_right(offset, hit);
  uint64_t mode = fails ? prng_.below(3) : 0;  // 0 all of it, 1 nothing, 2 some sectors
  for (uint64_t at = 0; at < request.length_bytes; at += kSector) {
    if (mode == 1 || (mode == 2 && prng_.below(2) == 0)) continue;
    medium_.write(offset + at, ConstBytes(buffer_).subspan(at, kSector), durable && !fails);
  }
  if (elsewhere) {
    mark_wrong(offset, hit);
    mark_wrong(request.offset_bytes, buffer_);
  }
  if (!fails) return {};
  return error(Code::k_io_error, "{}: {} of {} bytes at {}: write error", options_.name,
               io::io_op_name(request.op), request.length_bytes, request.offset_bytes);
}

// The contents are undefined afterwards: each block stays, or reads as zeroes.
void SimDrive::apply_discard(const io::IoRequest& request) {
  uint64_t block = options_.block_size_bytes;
  for (uint64_t at = 0; at < request.length_bytes; at += block) {
    if (prng_.below(2) == 0) medium_.write_zeroes(request.offset_bytes + at, block, false);
  }
}

// The connection broke while the request was on its way: no sector of it, all, or some.
void SimDrive::apply_in_part(Slot& slot) {
  io::IoRequest& request = *slot.request;
  if (slot.applied) return;
  slot.applied = true;
  if (broken_) return;
  if (request.op == io::IoOp::kFlush) {
    if (prng_.below(2) == 0) medium_.flush();
    return;
  }
  if (request.op != io::IoOp::kWrite && request.op != io::IoOp::kWriteZeroes) return;
  uint64_t mode = prng_.below(3);
  if (mode == 0) return;
  buffer_.assign(request.length_bytes, std::byte{0});
  if (request.op == io::IoOp::kWrite) io::iov_gather(request.iov, request.iov_count, 0, buffer_);
  for (uint64_t at = 0; at < request.length_bytes; at += kSector) {
    if (mode == 2 && prng_.below(2) == 0) continue;
    medium_.write(request.offset_bytes + at, ConstBytes(buffer_).subspan(at, kSector), false);
  }
}

void SimDrive::abandon(SimCable* cable) {
  for (SlotList* list : {&flying_, &parked_}) {
    for (auto it = list->begin(); it != list->end();) {
      Slot& slot = *it;
      if (cable != nullptr && slot.cable != cable) {
        ++it;
        continue;
      }
      it = list->erase(it);
      world_.disarm(slot.alarm);
      apply_in_part(slot);
      finish(slot, error(Code::k_unavailable, "{}: connection lost", options_.name));
    }
  }
}

void SimDrive::power_off() {
  if (!powered_) return;
  powered_ = false;
  stuck_ = false;
  abandon(nullptr);
  uint64_t lost = medium_.lose_unflushed(prng_);
  world_.trace().event(world_.now_ns(), "drive power off", lost);
  std::vector<SimCable*> cables = cables_;
  for (SimCable* cable : cables) cable->disconnect();
}

void SimDrive::power_on() { powered_ = true; }

void SimDrive::set_stuck(bool stuck) {
  stuck_ = stuck;
  if (stuck) return;
  while (!parked_.empty()) {
    Slot& slot = parked_.front();
    parked_.pop_front();
    flying_.push_back(slot);
    world_.arm(slot.alarm, world_.now_ns() + prng_.between(0, options_.latency_max_ns));
  }
}

SimCable::SimCable(SimDrive& drive, io::Loop& owner) : drive_(drive), owner_(owner) {
  const SimDriveOptions& options = drive.options();
  info_.uri = "sim:" + options.name;
  info_.size_bytes = options.size_bytes;
  info_.block_size_bytes = options.block_size_bytes;
  info_.volatile_cache = options.volatile_cache;
  info_.discard = options.discard;
  drive_.cables_.push_back(this);
  if (!drive_.powered_) set_state(io::DeviceState::kUnavailable);
}

SimCable::~SimCable() {
  BB_CHECK(in_flight_ == 0, "{}: {} requests in flight at its end", info_.uri, in_flight_);
  std::erase(drive_.cables_, this);
}

void SimCable::do_submit(io::IoRequest& request) {
  if (cut_ || state() != io::DeviceState::kReady) {
    request.done(&request, error(Code::k_unavailable, "{}: not connected", info_.uri));
    return;
  }
  drive_.begin(*this, request);
}

void SimCable::disconnect() {
  if (state() != io::DeviceState::kReady) return;
  drive_.world_.trace().event(drive_.world_.now_ns(), "cable disconnect", in_flight_);
  drive_.abandon(this);
  set_state(io::DeviceState::kUnavailable);
}

void SimCable::reconnect() {
  if (cut_ || !drive_.powered_ || state() != io::DeviceState::kUnavailable) return;
  raise_incarnation();
  set_state(io::DeviceState::kReady);
}

void SimCable::cut() {
  disconnect();
  cut_ = true;
}

io::Task<Status> SimCable::close() {
  while (in_flight_ > 0) co_await owner_.sleep_for(1'000'000);
  set_state(io::DeviceState::kClosed);
  co_return Status();
}

}  // namespace bb::sim
