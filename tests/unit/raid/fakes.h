// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "io/device.h"
#include "io/reactor.h"
#include "io/tcp.h"
#include "raid/array.h"

namespace bb::raid {

// A drive with a volatile cache: what was not flushed is gone after power_cycle(). Answers from the
// loop, never within submit().
class FakeDrive final : public io::Device {
 public:
  FakeDrive(io::Loop& loop, std::string name, uint64_t size_bytes, uint32_t block_size = 512)
      : loop_(loop), platter_(size_bytes), cache_(size_bytes) {
    info_.uri = std::move(name);
    info_.size_bytes = size_bytes;
    info_.block_size_bytes = block_size;
    info_.volatile_cache = true;
    info_.discard = true;
  }

  // Says what a request ends with instead of being done; null: everything works.
  std::function<Status(const io::IoRequest&)> fault;
  uint64_t latency_ns = 0;

  void lose_connection() { set_state(io::DeviceState::kUnavailable); }
  void resume() { set_state(io::DeviceState::kReady); }  // nothing was lost
  void reconnect(bool lost_writes) {
    if (lost_writes) cache_ = platter_;
    raise_incarnation();
    set_state(io::DeviceState::kReady);
  }
  // The connection drops and is back before anybody looked; the cache is lost.
  void blink() {
    cache_ = platter_;
    raise_incarnation();
  }
  void power_cycle() { cache_ = platter_; }

  Bytes seen() { return cache_; }
  Bytes platter() { return platter_; }
  uint64_t writes = 0, reads = 0, flushes = 0, data_bytes_written = 0;
  std::vector<uint64_t> order;  // offsets of writes as they arrived

  io::Task<Status> close() override {
    set_state(io::DeviceState::kClosed);
    co_return Status();
  }
  // The same drive opened again after a close.
  void reopen() { set_state(io::DeviceState::kReady); }

 protected:
  struct Pending : io::Work {
    FakeDrive* drive;
    io::IoRequest* request;
  };
  struct Delayed : io::Timer {
    FakeDrive* drive;
    io::IoRequest* request;
  };
  void do_submit(io::IoRequest& request) override {
    if (latency_ns != 0) {
      static_assert(sizeof(Delayed) <= sizeof(request.scratch));
      auto* delayed = new (request.scratch) Delayed;
      delayed->drive = this;
      delayed->request = &request;
      delayed->fire = [](io::Timer* timer) {
        auto* self = static_cast<Delayed*>(timer);
        FakeDrive* drive = self->drive;
        io::IoRequest* io = self->request;
        self->~Delayed();
        drive->finish(io);
      };
      loop_.arm(*delayed, loop_.now_ns() + latency_ns);
      return;
    }
    static_assert(sizeof(Pending) <= sizeof(request.scratch));
    auto* pending = new (request.scratch) Pending;
    pending->drive = this;
    pending->request = &request;
    pending->run = [](io::Work* work) {
      auto* self = static_cast<Pending*>(work);
      FakeDrive* drive = self->drive;
      io::IoRequest* io = self->request;
      self->~Pending();
      drive->finish(io);
    };
    loop_.post(*pending);
  }

 private:
  void finish(io::IoRequest* request) {
    Status status;
    if (state() != io::DeviceState::kReady) {
      status = error(Code::k_unavailable, "{}: connection lost", info_.uri);
    } else if (fault) {
      status = fault(*request);
    }
    if (status.ok()) apply(*request);
    request->done(request, std::move(status));
  }
  void apply(const io::IoRequest& request) {
    Bytes range = Bytes(cache_).subspan(request.offset_bytes, request.length_bytes);
    switch (request.op) {
      case io::IoOp::kRead:
        ++reads;
        io::iov_scatter(request.iov, request.iov_count, 0, range);
        return;
      case io::IoOp::kWrite:
        io::iov_gather(request.iov, request.iov_count, 0, range);
        break;
      case io::IoOp::kWriteZeroes:
      case io::IoOp::kDiscard:
        std::fill(range.begin(), range.end(), std::byte{0});
        break;
      case io::IoOp::kFlush:
        ++flushes;
        std::copy(cache_.begin() + dirty_from_, cache_.begin() + dirty_to_,
                  platter_.begin() + dirty_from_);
        dirty_from_ = dirty_to_ = 0;
        return;
    }
    ++writes;
    order.push_back(request.offset_bytes);
    if (request.offset_bytes >= (1u << 20)) data_bytes_written += request.length_bytes;
    auto from = static_cast<ptrdiff_t>(request.offset_bytes);
    auto to = from + static_cast<ptrdiff_t>(request.length_bytes);
    dirty_from_ = dirty_to_ == 0 ? from : std::min(dirty_from_, from);
    dirty_to_ = std::max(dirty_to_, to);
    if (request.fua) {
      std::copy(range.begin(), range.end(),
                platter_.begin() + static_cast<ptrdiff_t>(request.offset_bytes));
    }
  }

  io::Loop& loop_;
  std::vector<std::byte> platter_, cache_;
  ptrdiff_t dirty_from_ = 0, dirty_to_ = 0;  // all that was written and not flushed lies in it
};

class FakeAuthority final : public MembershipAuthority {
 public:
  std::map<Uuid, MembershipRecord> records;
  std::vector<MembershipRecord> history;
  // The next commits end with these; `store`: it was stored all the same.
  struct Trouble {
    Code code;
    bool store;
  };
  std::vector<Trouble> troubles;
  bool unreachable = false;
  uint64_t commits = 0;
  std::function<void()> before_commit;

  io::Task<Result<MembershipRecord>> load(Uuid array) override {
    if (unreachable) co_return error(Code::k_unavailable, "no majority");
    auto it = records.find(array);
    if (it == records.end()) {
      co_return error(Code::k_not_found, "no record of array {}", array.to_string());
    }
    co_return it->second;
  }
  io::Task<Status> create(MembershipRecord record) override {
    if (unreachable) co_return error(Code::k_unavailable, "no majority");
    if (records.contains(record.array)) co_return error(Code::k_already_exists, "it exists");
    BB_CO_TRY(validate_record(record));
    records[record.array] = record;
    history.push_back(record);
    co_return Status();
  }
  io::Task<Status> commit(MembershipRecord record, uint64_t expected) override {
    ++commits;
    if (before_commit) before_commit();
    if (unreachable) co_return error(Code::k_unavailable, "no majority");
    MembershipRecord& stored = records.at(record.array);
    if (record.epoch < stored.epoch) {
      co_return error(Code::k_fenced, "epoch {} < {}", record.epoch, stored.epoch);
    }
    if (stored.version != expected) co_return error(Code::k_bad_state, "version moved");
    BB_CO_TRY(validate_transition(stored, record));
    std::optional<Trouble> trouble;
    if (!troubles.empty()) {
      trouble = troubles.front();
      troubles.erase(troubles.begin());
    }
    if (!trouble || trouble->store) {
      stored = record;
      history.push_back(record);
    }
    if (trouble) co_return error(trouble->code, "planted trouble");
    co_return Status();
  }
};

}  // namespace bb::raid
