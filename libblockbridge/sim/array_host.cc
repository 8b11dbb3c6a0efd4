// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/array_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSector = DiskModel::kSectorBytes;
constexpr uint64_t kMs = 1'000'000;

}  // namespace

void ArrayWorld::host_error(const Life& life, const Status& status) {
  ++stats_.host_errors;
  if (errors_allowed_ || life.superseded || life.ended()) return;
  fail("the host saw an error although the faults were within the budget: " + status.to_string());
}

void ArrayWorld::end_host_op(Life& life, DiskModel::OpId op, bool flush, const Status& status) {
  note("host done", op, status.ok() ? 0 : static_cast<uint64_t>(status.code()));
  if (life.crashed) return;  // given up at the crash; the host is gone with it
  std::erase(life.pending, op);
  if (flush) {
    model_->end_flush(op, status.ok());
  } else {
    model_->end_write(op, status.ok());
  }
  if (!status.ok()) host_error(life, status);
}

io::Task<void> ArrayWorld::host_write(Life* life, uint64_t first, uint64_t count,
                                      std::vector<std::byte>* buf, bool fua) {
  DiskModel::OpId op = model_->begin_write(first, count, false, fua);
  buf->resize(count * kSector);
  model_->fill(op, first, *buf);
  life->pending.push_back(op);
  note(fua ? "host write fua" : "host write", op, first, count);
  Status status = co_await life->array->write(first * kSector, *buf, fua);
  end_host_op(*life, op, false, status);
}

io::Task<void> ArrayWorld::host_clear(Life* life, uint64_t first, uint64_t count, bool discard) {
  DiskModel::OpId op = model_->begin_write(first, count, true, false);
  life->pending.push_back(op);
  note(discard ? "host discard" : "host zero", op, first, count);
  Status status;
  if (discard) {
    status = co_await life->array->discard(first * kSector, count * kSector);
  } else {
    status = co_await life->array->write_zeroes(first * kSector, count * kSector);
  }
  end_host_op(*life, op, false, status);
}

io::Task<void> ArrayWorld::host_flush(Life* life) {
  DiskModel::OpId op = model_->begin_flush();
  life->pending.push_back(op);
  note("host flush", op);
  Status status = co_await life->array->flush();
  end_host_op(*life, op, true, status);
}

io::Task<void> ArrayWorld::host_read(Life* life, uint64_t first, uint64_t count,
                                     std::vector<std::byte>* buf) {
  buf->assign(count * kSector, std::byte{0xee});
  DiskModel::OpId op = model_->begin_read();
  note("host read", op, first, count);
  Status status = co_await life->array->read(first * kSector, *buf);
  note("host done", op, status.ok() ? 0 : static_cast<uint64_t>(status.code()));
  // A superseded life may not know yet that its data is old; only its writes are bound.
  if (life->crashed || life->superseded || !status.ok()) {
    model_->drop_read(op);
    if (!status.ok()) host_error(*life, status);
    co_return;
  }
  std::string problem = model_->end_read(op, first, *buf);
  if (!problem.empty()) fail("read: " + problem);
}

io::Task<void> ArrayWorld::host_worker(Life* life, Prng prng) {
  std::vector<std::byte> buffer;
  uint64_t per_block = block_ / kSector;
  uint64_t blocks = model_->sectors() / per_block;
  while (ops_left_ > 0 && !life->ended()) {
    co_await life->node.sleep_for(prng.chance(3) ? 1'000 : prng.below(4 * kMs));
    if (life->ended() || ops_left_ == 0) break;
    --ops_left_;
    ++stats_.host_ops;
    uint64_t length = prng.chance(12) ? prng.between(1, 65'536 / block_)
                                      : prng.between(1, std::max<uint64_t>(1, 8192 / block_));
    uint64_t first = prng.chance(3) ? prng.below(blocks) : hot_first_ + prng.below(hot_count_);
    length = std::min(length, blocks - first);
    uint64_t kind = prng.below(100);
    bool fua = prng.chance(6);
    if (kind < 48) {
      co_await host_write(life, first * per_block, length * per_block, &buffer, fua);
    } else if (kind < 86) {
      co_await host_read(life, first * per_block, length * per_block, &buffer);
    } else if (kind < 92) {
      co_await host_flush(life);
    } else {
      co_await host_clear(life, first * per_block, length * per_block, kind >= 96);
    }
  }
}

// What the backplane does for an array: connects drives that came back and asks for their return.
io::Task<void> ArrayWorld::healer(Life* life, Prng prng) {
  while (!life->ended()) {
    co_await life->node.sleep_for(settling_ ? 5 * kMs : prng.between(1, 2 * heal_pause_ns_));
    if (life->ended()) break;
    if (options_.checked && prng.chance(6)) co_await scrub(life);
    if (life->ended()) break;
    raid::ArrayInfo info = life->array->describe();
    for (size_t slot = 0; slot < slots_.size() && !life->ended(); ++slot) {
      for (const raid::ArrayMemberInfo& member : info.members) {
        if (member.label != slots_[slot].label || member.state == raid::MemberState::kRemoved) {
          continue;
        }
        co_await heal_member(life, slot, &member);
        break;
      }
    }
  }
}

io::Task<void> ArrayWorld::heal_member(Life* life, size_t slot, const raid::ArrayMemberInfo* info) {
  bool away = info->state == raid::MemberState::kFailed ||
              (info->state == raid::MemberState::kRecovering && !info->present);
  if (!away || slots_[slot].fault_active || !slots_[slot].drive->powered()) co_return;
  if (life->superseded) co_return;
  raid::MemberDevice device;
  if (life->cables[slot] == nullptr) {
    connect(*life, slot);
    device = raid::MemberDevice::borrow(*life->cables[slot], slots_[slot].label);
  } else if (life->cables[slot]->state() != io::DeviceState::kReady) {
    co_return;
  } else {
    device = raid::MemberDevice::borrow(*life->cables[slot], slots_[slot].label);
  }
  note("readmit", slot, static_cast<uint64_t>(info->state));
  Status status = co_await life->array->readmit_member(info->uuid, std::move(device));
  note("readmit done", slot, static_cast<uint64_t>(status.code()));
  // Both superblocks are damaged: no fault is active any more, so it stays so.
  bool unusable = status.code() == Code::k_corrupt || status.code() == Code::k_io_error;
  if (unusable && settling_ && slots_.size() < kDrivesMax) {
    add_drive(true);
    size_t fresh = slots_.size() - 1;
    connect(*life, fresh);
    co_await run_replace(life, info->uuid, slot, fresh);
  }
}

// The answer to a command that removes the member of `slot`. An uncertain one leaves the slot as it
// is: the commit may still come, until a later epoch.
void ArrayWorld::end_leaving(const Life& life, size_t slot, const Status& status) {
  bool uncertain = status.code() == Code::k_timed_out || status.code() == Code::k_cancelled ||
                   status.code() == Code::k_fenced || status.code() == Code::k_unavailable;
  if (uncertain || life.crashed || slots_[slot].leaving_epoch != life.epoch) return;
  slots_[slot].leaving_epoch = 0;
}

io::Task<void> ArrayWorld::run_replace(Life* life, Uuid old, size_t slot, size_t fresh) {
  ++stats_.replacements;
  ++life->commands;
  raid::MemberDevice device = raid::MemberDevice::borrow(*life->cables[fresh], slots_[fresh].label);
  Status status = co_await life->array->replace_member(old, std::move(device));
  note("replace done", fresh, static_cast<uint64_t>(status.code()));
  end_leaving(*life, slot, status);
  --life->commands;
}

io::Task<void> ArrayWorld::run_fail(Life* life, Uuid member, size_t slot) {
  ++life->commands;
  Status status = co_await life->array->fail_member(member, "by hand");
  note("fail done", static_cast<uint64_t>(status.code()));
  end_leaving(*life, slot, status);
  --life->commands;
}

}  // namespace bb::sim
