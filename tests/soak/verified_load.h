// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/ranges.h>

#include <map>

#include "base/units.h"
#include "block_model.h"
#include "io/buffer.h"
#include "io/device.h"
#include "io/sync.h"

namespace bb::soak {

// Lets so many I/Os begin in a second, in bursts: one by one no two would ever be in flight.
class Pacer {
 public:
  Pacer(io::Loop& loop, uint64_t iops_max) : loop_(loop), interval_ns_(kNsPerSecond / iops_max) {}
  io::Loop::Sleep turn() {
    next_ns_ = std::max(next_ns_ + interval_ns_, loop_.now_ns());
    constexpr uint64_t kBurst = 64;
    return loop_.sleep_until(round_up(next_ns_, kBurst * interval_ns_));
  }

 private:
  io::Loop& loop_;
  uint64_t interval_ns_;
  uint64_t next_ns_ = 0;
};

struct Tally {
  uint64_t ios = 0;
  uint64_t bytes = 0;
  uint64_t visits = 0;
  std::map<std::string_view, uint64_t> failed;
  std::string wrong;  // the first thing that may not be
  bool stop = false;

  void fail(std::string why) {
    if (wrong.empty()) wrong = std::move(why);
    stop = true;
  }
};

// Workers with a range each, one I/O at a time, all of whose content is known.
class VerifiedLoad {
 public:
  VerifiedLoad(io::Loop& loop, io::Device& device, Pacer& pacer, Tally& tally, uint64_t number,
               bool may_fail)
      : loop_(loop),
        device_(device),
        pacer_(pacer),
        tally_(tally),
        number_(number),
        may_fail_(may_fail) {}

  void start(io::TaskGroup& group, uint64_t depth, Prng& prng) {
    uint64_t blocks = device_.info().size_bytes / device_.info().block_size_bytes / depth;
    filling_ += depth;
    for (uint64_t i = 0; i < depth; ++i) {
      group.spawn(work(this,
                       BlockModel(number_, i * blocks, blocks, device_.info().block_size_bytes),
                       prng.fork()));
    }
  }
  bool filled() const { return filling_ == 0; }

 private:
  struct Worker {
    BlockModel model;
    Prng prng;
    io::AlignedBuffer buffer;
    uint64_t generation = 0;
  };

  // Whether it worked. What may not happen ends it all.
  bool judge(const Status& status, uint64_t bytes) {
    ++tally_.ios;
    if (status.ok()) {
      tally_.bytes += bytes;
      return true;
    }
    ++tally_.failed[code_name(status.code())];
    // A held write whose path stays away for longer than io_timeout is a TIMED_OUT.
    bool expected = status.code() == Code::k_unavailable || status.code() == Code::k_timed_out ||
                    (may_fail_ && status.code() == Code::k_io_error);
    if (!expected) tally_.fail(status.to_string());
    return false;
  }

  static io::Task<bool> write(VerifiedLoad* self, Worker* worker, uint64_t block, uint64_t count) {
    uint64_t generation = ++worker->generation;
    Bytes bytes = worker->buffer.bytes().first(count * worker->model.block_bytes());
    worker->model.stamp(block, generation, bytes);
    uint64_t at = block * worker->model.block_bytes();
    Status status = co_await self->device_.write(at, bytes, worker->prng.chance(8));
    worker->model.changed(block, count, generation, status.ok());
    co_return self->judge(status, bytes.size());
  }
  static io::Task<bool> read(VerifiedLoad* self, Worker* worker, uint64_t block, uint64_t count) {
    Bytes bytes = worker->buffer.bytes().first(count * worker->model.block_bytes());
    Status status = co_await self->device_.read(block * worker->model.block_bytes(), bytes);
    if (status.ok()) {
      std::string wrong = worker->model.check(block, bytes);
      if (!wrong.empty()) self->tally_.fail(self->device_.info().uri + ": " + wrong);
    }
    co_return self->judge(status, bytes.size());
  }
  static io::Task<bool> clear(VerifiedLoad* self, Worker* worker, uint64_t block, uint64_t count) {
    uint64_t at = block * worker->model.block_bytes();
    uint64_t length = count * worker->model.block_bytes();
    Status status;
    bool discard = self->device_.info().discard && worker->prng.chance(2);
    if (discard) {
      status = co_await self->device_.discard(at, length);
    } else {
      status = co_await self->device_.write_zeroes(at, length, worker->prng.chance(4));
    }
    worker->model.changed(block, count, 0, status.ok() && !discard);
    co_return self->judge(status, length);
  }
  static io::Task<bool> flush(VerifiedLoad* self) {
    Status status = co_await self->device_.flush();
    co_return self->judge(status, 0);
  }

  static io::Task<bool> any(VerifiedLoad* self, Worker* worker) {
    uint64_t most = worker->buffer.bytes().size() / worker->model.block_bytes();
    uint64_t limit = std::max<uint64_t>(most >> worker->prng.below(12), 1);
    uint64_t count = worker->prng.below(limit) + 1;
    uint64_t block =
        worker->model.first_block() + worker->prng.below(worker->model.blocks() - count + 1);
    uint64_t what = worker->prng.below(100);
    if (what < 45) co_return co_await read(self, worker, block, count);
    if (what < 85) co_return co_await write(self, worker, block, count);
    if (what < 95) co_return co_await clear(self, worker, block, count);
    co_return co_await flush(self);
  }

  // All of the range, by the largest I/Os, each until it works.
  template <typename What>
  static io::Task<void> all(VerifiedLoad* self, Worker* worker, What what) {
    uint64_t step = worker->buffer.bytes().size() / worker->model.block_bytes();
    uint64_t end = worker->model.first_block() + worker->model.blocks();
    int patience = 2000;
    for (uint64_t block = worker->model.first_block(); block < end;) {
      uint64_t count = std::min(step, end - block);
      if (co_await what(self, worker, block, count)) {
        block += count;
      } else if (--patience == 0) {
        self->tally_.fail(self->device_.info().uri + ": does not come back");
      } else {
        co_await self->loop_.sleep_for(50 * kNsPerMs);
      }
      if (!self->tally_.wrong.empty()) co_return;
    }
  }

  static io::Task<void> work(VerifiedLoad* self, BlockModel model, Prng prng) {
    const io::DeviceInfo& info = self->device_.info();
    uint64_t range_bytes = model.blocks() * model.block_bytes();
    uint64_t most = std::min({range_bytes, MiB, uint64_t{info.transfer_max_bytes}});
    Worker worker{std::move(model), prng, io::AlignedBuffer(most)};
    co_await all(self, &worker, write);
    --self->filling_;
    while (!self->tally_.stop) {
      co_await self->pacer_.turn();
      bool worked = co_await any(self, &worker);
      if (!worked) co_await self->loop_.sleep_for(20 * kNsPerMs);
    }
    if (self->tally_.wrong.empty()) co_await all(self, &worker, read);
  }

  io::Loop& loop_;
  io::Device& device_;
  Pacer& pacer_;
  Tally& tally_;
  uint64_t number_;
  bool may_fail_;
  uint64_t filling_ = 0;
};

}  // namespace bb::soak
