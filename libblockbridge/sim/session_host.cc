// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/session_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSector = DiskModel::kSectorBytes;

// Awaits one request and counts how often it completes: exactly once.
struct CountedIo : io::IoRequest {
  io::Device& device;
  iovec vector{};
  Status status;
  std::coroutine_handle<> waiter;
  uint32_t completions = 0;

  explicit CountedIo(io::Device& to) : device(to) {}
  CountedIo(const CountedIo&) = delete;
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller) {
    iov = &vector;
    iov_count = 1;
    done = [](io::IoRequest* request, Status result) {
      auto* self = static_cast<CountedIo*>(request);
      BB_CHECK(++self->completions == 1, "a request completed {} times", self->completions);
      self->status = std::move(result);
      if (self->waiter) io::Trampoline::run(self->waiter);
    };
    device.submit(*this);
    if (completions > 0) return false;
    waiter = caller;
    return true;
  }
  Status await_resume() { return std::move(status); }
};

}  // namespace

void SessionWorld::end_op(DiskModel::OpId op, io::IoOp kind, Before before, const Status& status,
                          uint64_t first, ConstBytes bytes) {
  note("host done", op, static_cast<uint64_t>(status.code()));
  if (!status.ok()) {
    ++stats_.host_errors;
    // What fails for any reason but the connection would be a fault of ours: the drive is healthy.
    bool connection = status.code() == Code::k_unavailable || status.code() == Code::k_timed_out;
    bool damaged = status.code() == Code::k_io_error && net_.flips() > 0;  // again and again
    if (!connection && !damaged) fail("a healthy drive answers: " + status.to_string());
  }
  if (kind == io::IoOp::kRead) {
    if (!status.ok()) return model_->drop_read(op);
    std::string problem = model_->end_read(op, first, bytes);
    if (!problem.empty()) fail("read: " + problem);
  } else if (kind == io::IoOp::kFlush) {
    // A flush says nothing of writes from before a reconnect: the incarnation told so.
    model_->end_flush(op, status.ok() && before.incarnation == device_->incarnation());
  } else {
    // An answer may come late, when the drive has lost the write again with its power; the raised
    // incarnation that follows tells so. It binds then as little as an error.
    bool bound = before.fua || before.power_losses == stats_.power_losses;
    model_->end_write(op, status.ok() && bound);
  }
}

// However bad things are, an answer comes: after a turn in each line (behind unsettled writes, for
// a path, for the answer), and the time it takes to give the path up.
void SessionWorld::check_times(uint64_t began_ns, uint64_t op) {
  uint64_t limit_ns = 3 * io_timeout_ns_ + 3 * keep_alive_ns_ + 5'000 * kMs;
  uint64_t took_ns = world_.now_ns() - began_ns;
  if (took_ns <= limit_ns) return;
  fail(fmt::format("operation {} took {} ms, allowed are {}", op, took_ns / kMs, limit_ns / kMs));
}

io::Task<void> SessionWorld::one_op(Prng* prng, std::vector<std::byte>* buffer) {
  uint64_t sectors = model_->sectors();
  uint64_t count = prng->chance(8) ? prng->between(1, 256) : prng->between(1, 24);
  uint64_t first = prng->chance(2) ? prng->below(48) : prng->below(sectors);
  count = std::min(count, sectors - first);
  uint64_t kind = prng->below(100);
  CountedIo io(*device_);
  io.offset_bytes = first * kSector;
  io.length_bytes = count * kSector;
  io.fua = kind < 50 && prng->chance(5);
  buffer->assign(count * kSector, std::byte{0xee});
  io.vector = {.iov_base = buffer->data(), .iov_len = buffer->size()};
  DiskModel::OpId op = 0;
  if (kind < 50) {
    io.op = io::IoOp::kWrite;
    op = model_->begin_write(first, count, false, io.fua);
    model_->fill(op, first, *buffer);
  } else if (kind < 88) {
    io.op = io::IoOp::kRead;
    op = model_->begin_read();
  } else if (kind < 94) {
    io.op = io::IoOp::kFlush;
    op = model_->begin_flush();
  } else {
    io.op = io::IoOp::kWriteZeroes;
    op = model_->begin_write(first, count, true, false);
  }
  Before before{
      .incarnation = device_->incarnation(), .power_losses = stats_.power_losses, .fua = io.fua};
  note("host op", op, static_cast<uint64_t>(io.op), first);
  uint64_t began_ns = world_.now_ns();
  Status status = co_await io;
  check_times(began_ns, op);
  end_op(op, io.op, before, status, first, *buffer);
}

io::Task<void> SessionWorld::worker(Prng prng) {
  std::vector<std::byte> buffer;
  while (ops_left_ > 0) {
    co_await host_->sleep_for(prng.chance(3) ? 1'000 : prng.below(8 * kMs));
    if (ops_left_ == 0) break;
    if (device_->state() != io::DeviceState::kReady && !prng.chance(8)) {
      co_await host_->sleep_for(20 * kMs);
      continue;
    }
    --ops_left_;
    ++stats_.host_ops;
    co_await one_op(&prng, &buffer);
  }
}

// Reads everything; one more lost connection is forgiven, because one may be on its way.
io::Task<void> SessionWorld::verify() {
  std::vector<std::byte> buffer;
  for (uint64_t first = 0; first < model_->sectors(); first += 256) {
    uint64_t count = std::min<uint64_t>(256, model_->sectors() - first);
    bool read = false;
    for (int tries = 0; tries < 3 && !read; ++tries) {
      buffer.assign(count * kSector, std::byte{0xee});
      DiskModel::OpId op = model_->begin_read();
      Status status = co_await device_->read(first * kSector, buffer);
      end_op(op, io::IoOp::kRead, {}, status, first, buffer);
      read = status.ok();
      if (!read) co_await wait_ready(60'000 * kMs);
    }
    if (!read) fail("the device cannot be read although the network is well");
    if (!violation_.empty()) co_return;
  }
}

// What is there at last is what all that was answered has made of it.
io::Task<void> SessionWorld::verify_shared() {
  std::vector<std::byte> buffer(SharedBlocks::kBlockBytes);
  for (size_t block = 0; block < SharedBlocks::kCount; ++block) {
    auto op = shared_.models[block].begin_read(world_.now_ns());
    Status status = co_await device_->read((shared_.first_block + block) * kSector, buffer);
    if (!status.ok()) co_return fail("a shared block cannot be read: " + status.to_string());
    if (!SharedBlocks::whole(buffer)) co_return fail("a shared block holds no one's write");
    auto value = load_le<SharedBlocks::Value>(buffer.data());
    shared_.models[block].end_read(op, value, world_.now_ns());
  }
  std::string problem = shared_.check();
  if (!problem.empty()) fail(std::move(problem));
}

}  // namespace bb::sim
