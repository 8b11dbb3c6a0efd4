// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_run.h"

#include <fmt/format.h>

#include "raid/fan_out.h"
#include "raid/io_batch.h"

namespace bb::sim {
namespace {

using Kind = TinyEvent::Kind;

constexpr uint32_t kForcedTicksMax = 1000;

// Which kind of request one is, told by who is called when it is done.
class Probe final : public io::Device {
 public:
  Probe() { info_.size_bytes = TinyImage::kSectorBytes; }
  io::Task<Status> close() override { co_return Status(); }
  io::IoRequest::Done done = nullptr;

 protected:
  void do_submit(io::IoRequest& request) override {
    done = request.done;
    request.done(&request, Status());
  }
};

io::Task<void> ask_alone(Probe* probe) { (void)co_await probe->flush(); }

io::IoRequest::Done done_of_lone_request() {
  Probe probe;
  SimLoop(1).block_on(ask_alone(&probe));
  return probe.done;
}

io::IoRequest::Done done_of_batch() {
  Probe probe;
  raid::IoBatch batch;
  batch.flush(0, &probe);
  return batch.leg(0).done;
}

bool overlap(const io::IoRequest& a, const io::IoRequest& b) {
  if (a.op == io::IoOp::kRead && b.op == io::IoOp::kRead) return false;
  return a.offset_bytes < b.offset_bytes + b.length_bytes &&
         b.offset_bytes < a.offset_bytes + a.length_bytes;
}

}  // namespace

TinyRun::TinyRun(const TinyConfig& config, const TinyStart& start)
    : config_(config), life_(config, start), model_(config) {
  Status status = life_.assemble(0);
  if (!status.ok()) fail("it does not start: " + status.to_string());
  life_.hold();
}

TinyRun::~TinyRun() {
  crashed_ = true;
  life_.crash();
}

void TinyRun::fail(std::string why) {
  if (violation_.empty()) violation_ = std::move(why);
}

bool TinyRun::working() const {
  return done_[0] < config_.writers[0].size() || done_[1] < config_.writers[1].size();
}

bool TinyRun::may_fail(size_t slot) {
  return !failed_ && config_.failure != TinyTrouble::kNone &&
         life_.shape().survives(uint64_t{1} << slot);
}

std::vector<TinyEvent> TinyRun::enabled() {
  std::vector<TinyEvent> events;
  for (uint32_t slot = 0; slot < life_.devices(); ++slot) {
    for (const TinyDevice::Pending& one : life_.device(slot).pending()) {
      events.push_back({Kind::kComplete, slot, one.number});
    }
  }
  for (uint32_t writer = 0; writer < 2; ++writer) {
    bool waits = begun_[writer] > done_[writer];
    if (!waits && begun_[writer] < config_.writers[writer].size()) {
      events.push_back({Kind::kBegin, writer});
    }
  }
  if (life_.authority().asked()) events.push_back({Kind::kDecide});
  if (life_.authority().decided()) events.push_back({Kind::kAnswer});
  // Time passes where the configuration says so, or nothing else goes on.
  bool forced = events.empty() && working();
  if (forced || (ticks_ < config_.ticks && begun_[0] + begun_[1] > 0)) {
    events.push_back({Kind::kTick});
  }
  for (uint32_t slot = 0; slot < life_.devices(); ++slot) {
    if (may_fail(slot)) events.push_back({Kind::kFail, slot});
  }
  return events;
}

uint64_t TinyRun::take(const TinyEvent& event) {
  for (size_t slot = 0; slot < life_.devices(); ++slot) {
    (void)life_.device(slot).take_asked_order();
  }
  switch (event.kind) {
    case Kind::kBegin:
      begin(event.who);
      break;
    case Kind::kComplete:
      life_.device(event.who).complete(event.number);
      break;
    case Kind::kFail:
      failed_ = true;
      life_.device(event.who).fail(config_.failure);
      break;
    case Kind::kDecide:
      life_.authority().decide();
      if (!life_.authority().unlawful().empty()) fail(life_.authority().unlawful());
      break;
    case Kind::kAnswer:
      life_.authority().answer();
      break;
    case Kind::kTick:
      if (++ticks_ > config_.ticks + kForcedTicksMax) fail("livelock: timers, and nothing is done");
      if (ticks_ <= config_.ticks) {
        life_.pass(config_.clean_after_ns);
      } else if (!life_.tick()) {
        fail("deadlock: something waits for ever");
      }
      break;
  }
  life_.run_ready();
  uint64_t asked = 0;
  for (size_t slot = 0; slot < life_.devices(); ++slot) {
    if (life_.device(slot).take_asked_order()) asked |= uint64_t{1} << slot;
  }
  return asked;
}

void TinyRun::begin(uint32_t writer) {
  size_t index = begun_[writer]++;
  const TinyOp& what = config_.writers[writer][index];
  HostOp& op = ops_.emplace_back();
  op.run = this;
  op.writer = writer;
  op.number = TinyModel::number_of(config_, writer, index);
  op.op = what.sectors == 0 ? io::IoOp::kFlush : io::IoOp::kWrite;
  if (what.sectors != 0) {
    op.fua = what.fua;
    op.offset_bytes = what.first_sector * TinyModel::kSectorBytes;
    op.length_bytes = what.sectors * TinyModel::kSectorBytes;
    op.memory.resize(op.length_bytes);
    TinyModel::fill(op.number, what.first_sector, op.memory);
    op.vector = {.iov_base = op.memory.data(), .iov_len = op.memory.size()};
    op.iov = &op.vector;
    op.iov_count = 1;
  }
  op.done = [](io::IoRequest* request, Status status) {
    auto* done = static_cast<HostOp*>(request);
    done->run->ended(*done, status);
  };
  model_.begin(op.number);
  life_.array().submit(op);
}

void TinyRun::ended(HostOp& op, const Status& status) {
  if (crashed_) return;
  ++done_[op.writer];
  if (status.ok()) return model_.end(op.number);
  fail(fmt::format("write or flush {} failed within the redundancy: {}", op.number,
                   status.to_string()));
}

std::string TinyRun::describe(const TinyEvent& event) {
  switch (event.kind) {
    case Kind::kBegin: {
      const TinyOp& op = config_.writers[event.who][begun_[event.who]];
      if (op.sectors == 0) return fmt::format("writer {}: flush", event.who);
      return fmt::format("writer {}: {} sectors at {}{}", event.who, op.sectors, op.first_sector,
                         op.fua ? ", FUA" : "");
    }
    case Kind::kComplete: {
      const io::IoRequest& request = *life_.device(event.who).find(event.number)->request;
      return fmt::format("member {} completes: {} {} bytes at {}{}", event.who,
                         io::io_op_name(request.op), request.length_bytes, request.offset_bytes,
                         request.fua ? ", FUA" : "");
    }
    case Kind::kFail:
      return fmt::format("member {} fails", event.who);
    case Kind::kDecide:
      return "a commit is decided";
    case Kind::kAnswer:
      return "and answered";
    case Kind::kTick:
      return "time passes";
  }
  return {};
}

TinyMoment TinyRun::moment() {
  return {.drives = life_.remains(),
          .record = *life_.authority().record(),
          .allowed = {model_.allowed(false), model_.allowed(true)}};
}

// --- which events commute

// Requests that one waiter waits for together; null: it waits for this one alone.
const void* TinyRun::group(const io::IoRequest& request) const {
  static const io::IoRequest::Done kLone = done_of_lone_request();
  static const io::IoRequest::Done kBatch = done_of_batch();
  if (request.done == kLone) return nullptr;
  if (request.done == kBatch) return static_cast<const raid::IoBatch::Leg&>(request).batch;
  static const io::IoRequest::Done kFan = request.done;
  BB_CHECK(request.done == kFan, "a kind of request that nobody told how to group");
  return static_cast<const raid::FanOut::Leg&>(request).fan;
}

// Another request of its group is still under way: its waiter is not woken, so all that the array
// does is to note the outcome in the request and to count one down.
bool TinyRun::silent(const TinyEvent& event) {
  const io::IoRequest& request = *life_.device(event.who).find(event.number)->request;
  const void* mine = group(request);
  if (mine == nullptr) return false;
  for (size_t slot = 0; slot < life_.devices(); ++slot) {
    for (const TinyDevice::Pending& one : life_.device(slot).pending()) {
      if (one.request != &request && group(*one.request) == mine) return true;
    }
  }
  return false;
}

// Two completions, both of which succeed, when the array acts upon one of them at most: notes and
// counts of the other are seen by nobody before its group has ended. The last two of a group
// commute too: whichever comes last, the waiter is woken after both. On the same drive the order of
// a read or write and a write that it overlaps can be seen. What the one asks for in consequence
// may see the other, if it is a flush: take() says so, and the caller looks.
bool TinyRun::commute(const TinyEvent& a, const TinyEvent& b) {
  if (a.kind != Kind::kComplete || b.kind != Kind::kComplete) return false;
  const io::IoRequest& first = *life_.device(a.who).find(a.number)->request;
  const io::IoRequest& second = *life_.device(b.who).find(b.number)->request;
  if (a.who == b.who && overlap(first, second)) return false;
  const void* together = group(first);
  if (together != nullptr && together == group(second)) return true;
  return silent(a) || silent(b);
}

}  // namespace bb::sim
