// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_path.h"

#include "raid/array_core.h"

namespace bb::raid {
namespace {

std::span<const iovec> memory_of(const io::IoRequest& request) {
  return {request.iov, request.iov_count};
}

void gather(std::span<const iovec> from, Bytes into) {
  for (const iovec& one : from) {
    std::memcpy(into.data(), one.iov_base, one.iov_len);
    into = into.subspan(one.iov_len);
  }
}

void scatter(ConstBytes from, std::span<const iovec> into) {
  for (const iovec& one : into) {
    std::memcpy(one.iov_base, from.data(), one.iov_len);
    from = from.subspan(one.iov_len);
  }
}

}  // namespace

// The one place of the lock.
class StripePath::Gate : io::RangeTicket {
 public:
  Gate(StripePath& path, io::LockMode how) : path_(path) {
    length_bytes = 1;
    mode = how;
    granted = [](RangeTicket* ticket) {
      auto* gate = static_cast<Gate*>(ticket);
      gate->path_.core_.loop_.post(gate->wake_);
    };
    wake_.run = [](io::Work* work) { io::Trampoline::run(static_cast<Wake*>(work)->handle); };
  }
  Gate(const Gate&) = delete;
  ~Gate() {
    if (held) path_.gate_.release(*this);
  }
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller) {
    wake_.handle = caller;
    return !path_.gate_.acquire(*this);
  }
  void await_resume() const {}

 private:
  struct Wake : io::Work {
    std::coroutine_handle<> handle;
  } wake_;
  StripePath& path_;
};

StripePath::StripePath(ArrayCore& core)
    : core_(core),
      layout_(layout_stripes(core.record_.array, core.geometry_.shape,
                             core.geometry_.data_offset_bytes, core.geometry_.member_bytes)),
      work_(core.loop_) {}

StripePath::~StripePath() {
  BB_CHECK(store_ == nullptr, "the stripes of array \"{}\" are still open", core_.record_.name);
}

// --- opening

io::Task<Status> StripePath::open(Uuid found, uint64_t number) {
  Gate gate(*this, LockMode::kExclusive);
  co_await gate;
  co_return co_await open_held(found, number);
}

io::Task<Status> StripePath::open_held(Uuid found, uint64_t number) {
  if (store_ != nullptr) co_await store_->stop();
  store_ =
      std::make_unique<StripeStore>(core_.loop_, layout_, *this, core_.checked() ? this : nullptr);
  life_ = found;
  number_ = number;
  Status status;
  if (!found.is_nil()) status = co_await store_->recover(found);
  if (status.ok() && !found.is_nil() && core_.checked()) status = co_await doubt_dirty();
  if (status.ok()) {
    // What was dropped stays dropped, also when other members are lost next time.
    life_ = Uuid::random(core_.loop_.prng());
    ++number_;
    status = co_await write_lives();
  }
  if (status.ok()) {
    status = co_await store_->start(life_);
  } else {
    co_await store_->stop();
    store_.reset();
  }
  core_.changed();
  core_.resync_work_.set();
  co_return status;
}

// On all who may ever be read, or they are no members any more.
io::Task<Status> StripePath::write_lives() {
  uint64_t lacking = 0;
  for (size_t i = 0; i < core_.members_.size(); ++i) {
    Member* member = core_.members_[i].get();
    if (!member->writable() || !member->listed) continue;
    Status status = co_await core_.write_member_superblock(member, core_.record_.version);
    if (status.ok()) continue;
    lacking |= member->slot_bit();
    failed(member->slot, status);
  }
  co_return co_await settle(lacking | (core_.geometry_.shape.all_slots() & ~writable_mask()));
}

io::Task<void> StripePath::close() {
  Gate gate(*this, LockMode::kExclusive);
  co_await gate;
  if (serves() && core_.fenced_.empty()) co_await store_->end_all();
  if (store_ != nullptr) co_await store_->stop();
  store_.reset();
}

// Members that failed us and are needed are taken back here only: what they did not write in place
// is done again before anybody reads it.
io::Task<void> StripePath::reopen_loop() {
  while (!core_.stop_background_) {
    work_.reset();
    bool wanted = (!serves() || !core_.may_serve()) && !core_.record_unknown_ &&
                  core_.usable().ok() && core_.may_resume();
    if (!wanted) {
      co_await work_.wait();
      continue;
    }
    Gate gate(*this, LockMode::kExclusive);
    co_await gate;
    bool resumed = core_.resume_keepers();
    if (core_.stop_background_ || (!resumed && serves())) continue;
    if (!core_.holds_all()) continue;
    Status status = co_await open_held(life_, number_);
    log_warn("array \"{}\": its journal is gone through again: {}", core_.record_.name,
             status.to_string());
    if (!status.ok() && !core_.stop_background_) {
      co_await core_.stop_.wait_until(core_.loop_.now_ns() + core_.options_.commit_retry_ns);
      work_.set();
    }
  }
}

// --- for the host

// What could not be done for want of members is tried again while there may be more of them soon.
io::Task<Status> StripePath::serve(Operation operation) {
  uint64_t deadline_ns = core_.loop_.now_ns() + core_.options_.commit_wait_ns;
  for (;;) {
    Status status = error(Code::k_unavailable, "the stripes are not open");
    {
      Gate gate(*this, LockMode::kShared);
      co_await gate;
      if (!core_.fenced_.empty()) co_return core_.usable();
      if (store_ != nullptr) status = co_await operation(store_.get());
      if (!core_.fenced_.empty()) co_return core_.usable();
    }
    if (status.ok()) co_return status;
    wake();
    bool awaited = core_.may_serve() && (!core_.holds_all() || !serves());
    if (!awaited || !core_.usable().ok()) co_return status;
    if (!co_await core_.changed_.wait_until(deadline_ns)) co_return status;
  }
}

io::Task<Status> StripePath::read(io::IoRequest* request) {
  co_return co_await serve([request](StripeStore* store) -> io::Task<Status> {
    if (request->iov_count == 1) {
      auto* base = static_cast<std::byte*>(request->iov[0].iov_base);
      co_return co_await store->read(request->offset_bytes, {base, request->length_bytes});
    }
    io::AlignedBuffer bytes = io::AlignedBuffer::uncleared(request->length_bytes);
    Status status = co_await store->read(request->offset_bytes, bytes.bytes());
    if (status.ok()) scatter(bytes.bytes(), memory_of(*request));
    co_return status;
  });
}

io::Task<Status> StripePath::write(const io::IoRequest* request) {
  for (auto& member : core_.members_) {
    if (member->writable()) member->written_epoch = core_.intent_.epoch();
  }
  co_return co_await serve([request](StripeStore* store) -> io::Task<Status> {
    if (request->iov_count == 1) {
      auto* base = static_cast<std::byte*>(request->iov[0].iov_base);
      ConstBytes from{base, request->length_bytes};
      co_return co_await store->write(request->offset_bytes, from, request->fua);
    }
    // Zeroes have no memory of their own.
    io::AlignedBuffer bytes = request->iov_count == 0
                                  ? io::AlignedBuffer(request->length_bytes)
                                  : io::AlignedBuffer::uncleared(request->length_bytes);
    gather(memory_of(*request), bytes.bytes());
    co_return co_await store->write(request->offset_bytes, bytes.bytes(), request->fua);
  });
}

io::Task<Status> StripePath::flush() {
  co_return co_await serve([](StripeStore* store) { return store->flush(); });
}

// --- members that come in

io::Task<Status> StripePath::admit(uint32_t slot, std::function<void()> activate) {
  {
    Gate gate(*this, LockMode::kExclusive);
    co_await gate;
    if (store_ != nullptr) store_->admit(slot);
    activate();
  }
  co_return co_await serve([](StripeStore* store) { return store->write_map(); });
}

io::Task<Status> StripePath::rebuild(uint64_t stripe, uint64_t slice_bytes) {
  Gate gate(*this, LockMode::kShared);
  co_await gate;
  if (!serves()) co_return error(Code::k_unavailable, "the stripes are not open");
  co_return co_await store_->rebuild(stripe, slice_bytes);
}

io::Task<Status> StripePath::prove(uint64_t stripe) {
  Gate gate(*this, LockMode::kShared);
  co_await gate;
  if (!serves()) co_return error(Code::k_unavailable, "the stripes are not open");
  co_return co_await store_->prove(stripe);
}

io::Task<Status> StripePath::scrub(uint64_t stripe, std::vector<StripeFinding>* findings) {
  Gate gate(*this, LockMode::kShared);
  co_await gate;
  if (!serves()) co_return error(Code::k_unavailable, "the stripes are not open");
  co_return co_await store_->scrub(stripe, findings);
}

// --- members as the store sees them

Member* StripePath::holder(uint32_t slot) const {
  Member* best = nullptr;
  for (Member* member : core_.holders_[slot]) {
    if (member->device == nullptr) continue;
    if (best == nullptr || member->writable()) best = member;
  }
  BB_CHECK(best != nullptr, "slot {} has no device", slot);
  return best;
}

io::Device* StripePath::device(uint32_t slot) { return holder(slot)->device; }

uint64_t StripePath::writable_mask() const {
  uint64_t mask = 0;
  for (const auto& member : core_.members_) {
    if (!member->writable() || !member->listed) continue;
    // It may have come back already, without what it had not flushed.
    if (member->lost() && !BB_MUTANT(kIgnoreIncarnation)) {
      core_.suspect(*member, "the connection was lost");
      continue;
    }
    mask |= member->slot_bit();
  }
  return mask;
}

uint64_t StripePath::readable_mask() const {
  uint64_t mask = 0;
  for (const auto& member : core_.members_) {
    if (member->readable() && !member->lost()) mask |= member->slot_bit();
  }
  return mask;
}

uint64_t StripePath::avoid_mask() {
  uint64_t mask = 0;
  for (const auto& member : core_.members_) {
    if (member->readable() && member->pace.avoid()) mask |= member->slot_bit();
  }
  return mask;
}

void StripePath::failed(uint32_t slot, const Status& why) {
  for (Member* member : core_.holders_[slot]) {
    if (member->writable()) core_.suspect(*member, why.to_string());
  }
}

io::Task<Status> StripePath::settle(uint64_t lacking_mask) {
  uint64_t lacking = lacking_mask & core_.geometry_.shape.all_slots();
  for (const auto& member : core_.members_) {
    if (!member->required() || !member->lost()) continue;
    core_.suspect(*member, "the connection was lost");
    lacking |= member->slot_bit();
  }
  MemberMask ok_mask;  // nobody of these slots has it
  Member* who = nullptr;
  if (core_.settled(ok_mask, lacking, &who) && core_.fenced_.empty()) co_return Status();
  co_return co_await core_.settle(ok_mask, lacking);
}

}  // namespace bb::raid
