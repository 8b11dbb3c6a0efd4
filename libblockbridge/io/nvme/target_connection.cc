// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_connection.h"

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "base/units.h"
#include "base/uri.h"

namespace bb::io::nvme {
namespace {

constexpr size_t kReceiveBytes = 256 * 1024;
constexpr size_t kGreetingBytes = TlsStream::kBufferBytes;  // until Connect
// Beside long data: what is received here has to be copied.
constexpr size_t kLongDataRoomBytes = 4 * 1024;
constexpr uint64_t kTerminationWaitNs = 2 * kNsPerSecond;

IoOp op_of(TargetOp op) {
  switch (op) {
    case TargetOp::kRead:
      return IoOp::kRead;
    case TargetOp::kWrite:
      return IoOp::kWrite;
    case TargetOp::kFlush:
      return IoOp::kFlush;
    case TargetOp::kDiscard:
      return IoOp::kDiscard;
    case TargetOp::kWriteZeroes:
      return IoOp::kWriteZeroes;
  }
  return IoOp::kRead;
}

}  // namespace

TargetConnection::TargetConnection(Loop& loop, TargetCore& core, BufferPool& pool,
                                   KeyExchanger& exchanger, Event& progress,
                                   std::unique_ptr<Stream> stream, std::shared_ptr<TlsContext> tls,
                                   bool tls_required)
    : loop_(loop),
      core_(core),
      pool_(pool),
      exchanger_(exchanger),
      progress_(progress),
      stream_(std::move(stream)),
      tls_(std::move(tls)),
      tls_required_(tls_required),
      queue_(core, *this),
      started_ns_(loop.now_ns()),
      idle_(loop),
      computing_(loop) {
  receive_into(kGreetingBytes);
  queue_.set_local_address(stream_->local());
  Result<HostPort> local = HostPort::parse(stream_->local());
  if (local.ok()) queue_.set_local_host(local->host);
  pump_.owner = this;
  pump_.run = [](Work* work) {
    TargetConnection* owner = static_cast<Pump*>(work)->owner;
    owner->pump_posted_ = false;
    owner->pump();
  };
  send_.owner = this;
  send_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Send*>(op)->owner->on_sent(length);
  };
  alarm_.owner = this;
  alarm_.fire = [](Timer* timer) { static_cast<Alarm*>(timer)->owner->stream_->shutdown(); };
}

// Not cleared: pages that small messages never reach cost no memory.
void TargetConnection::receive_into(size_t bytes) {
  receive_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)));
  BB_CHECK(receive_ != nullptr, "out of memory for {} bytes", bytes);
  receive_bytes_ = bytes;
}

void TargetConnection::schedule() {
  if (pump_posted_ || ended_) return;
  pump_posted_ = true;
  idle_.reset();
  loop_.post(pump_);
}

void TargetConnection::close(const char* why) {
  queue_.close(why);
  schedule();
}

void TargetConnection::turn_away(const char* why) {
  turned_away_ = true;
  close(why);
}

// Of one turned away the kernel keeps nothing either.
void TargetConnection::shut_down() {
  if (shut_down_) return;
  shut_down_ = true;
  turned_away_ ? stream_->abort() : stream_->shutdown();
}

void TargetConnection::check_handshake(uint64_t now_ns) {
  bool done = queue_.connected() && queue_.authenticated();
  if (!done && !queue_.closing() && now_ns - started_ns_ > core_.limits().handshake_ns) {
    close(queue_.connected() ? "no authentication in time" : "no Connect in time");
  }
}

void TargetConnection::note_host() {
  if (!nqn_.empty() || !queue_.connected()) return;
  Controller* controller = queue_.controller();
  nqn_ = controller->nqn();
  host_ = controller->host();
  if (queue_.queue_id() == 0) {
    log_info("{}: host {} connected to {} -> controller {}, digests {}{}", peer(), host_.host_nqn,
             nqn_, controller->id(), queue_.digests().header ? "header " : "",
             queue_.digests().data ? "data" : "");
  }
}

void TargetConnection::begin_batch() {
  loop_.begin_batch();
  queue_.pass_time(loop_.batch_ns());
}

// Starts what can be started, sends what can be sent.
void TargetConnection::pump() {
  queue_.pass_time(loop_.batch_ns());
  queue_.retry_connect(loop_.batch_ns());
  note_host();
  pumping_ = true;
  bool any = false;
  while (auto slot = queue_.next_io()) {
    submit(*slot);
    any = true;
  }
  pumping_ = false;
  if (any) begin_batch();  // what the device did meanwhile was its time
  flush();
  if (queue_.home() != 0 && !queue_.sending() && !pump_posted_) idle_.set();
  if (!queue_.closing()) return;
  if (!queue_.terminating()) shut_down();  // ends the pending receive
  if (queue_.io_in_flight() == 0) {
    progress_.set();
    if (!queue_.sending() && !pump_posted_) idle_.set();
  }
}

void TargetConnection::submit(uint16_t slot) {
  const TargetIo& wanted = queue_.io(slot);
  if (ios_ == nullptr) ios_.reset(new Io[queue_.slots()]);  // all: no I/O comes before Connect
  Io& io = ios_[slot];
  io.owner = this;
  io.slot = slot;
  io.op = op_of(wanted.op);
  io.fua = wanted.fua && wanted.op != TargetOp::kRead;
  io.may_discard = wanted.may_discard;
  io.may_lend = wanted.may_lend;
  io.offset_bytes = wanted.offset_bytes;
  io.length_bytes = wanted.length_bytes;
  bool data = (wanted.op == TargetOp::kRead && !wanted.may_lend) || wanted.op == TargetOp::kWrite;
  io.one = {.iov_base = wanted.data, .iov_len = wanted.length_bytes};
  io.iov = data ? &io.one : nullptr;
  io.iov_count = data ? 1 : 0;
  io.done = [](IoRequest* request, Status status) {
    Io* done = static_cast<Io*>(request);
    done->owner->on_io_done(done->slot, status);
  };
  io.device = queue_.name_space(slot).device;
  io.device->submit(io);
}

bool TargetConnection::works_on_other(const Namespace& of, const Device* device) const {
  for (uint32_t slot = 0; slot < queue_.slots(); ++slot) {
    if (!queue_.is_with_device(static_cast<uint16_t>(slot), of)) continue;
    if (ios_[slot].device != device) return true;
  }
  return false;
}

void TargetConnection::on_io_done(uint16_t slot, const Status& status) {
  if (!status.ok()) log_debug("{}: {} -> reported to the host", peer(), status.to_string());
  bool awaited = queue_.is_awaited(slot);
  if (status.ok() && ios_[slot].may_lend) queue_.lend(slot, ios_[slot].lent);
  queue_.on_io_done(slot, status.code());
  if (awaited) progress_.set();
  if (!pumping_) schedule();  // later, so that completions that come together are sent together
}

void TargetConnection::flush() {
  if (flushing_) return;
  flushing_ = true;
  bool any = false;
  while (std::vector<iovec>* iov = queue_.outgoing()) {
    if (!send(*iov)) break;
    any = true;
  }
  flushing_ = false;
  if (any && queue_.has_ready_io()) schedule();
}

// What is lent leaves at once, as far as the socket has room. False: the rest waits for the host.
bool TargetConnection::send(const std::vector<iovec>& iov) {
  Result<size_t> taken = size_t{0};
  if (queue_.has_lent()) {
    taken = stream_->send_at_once(iov.data(), iov.size());
    begin_batch();  // for the time the send took
  }
  std::vector<iovec>* rest = taken.ok() ? queue_.rest_after(*taken) : nullptr;
  if (rest == nullptr) {
    queue_.on_sent();
    if (!taken.ok()) queue_.close("the connection was lost while sending");
    return true;
  }
  send_.iov = rest->data();
  send_.iov_count = static_cast<uint32_t>(rest->size());
  stream_->send(send_);
  return !queue_.sending();
}

void TargetConnection::give_back(uint16_t slot) {
  bool awaited = queue_.is_awaited(slot);
  ios_[slot].device->give_back(ios_[slot]);
  if (awaited) progress_.set();
}

void TargetConnection::on_sent(const Result<size_t>& sent) {
  begin_batch();  // for the time the send took
  queue_.on_sent();
  if (!sent.ok()) queue_.close("the connection was lost while sending");
  schedule();
}

Task<void> TargetConnection::run_exchange(DhExchange* exchange) {
  auto wanted = [this] { return !queue_.closing(); };
  co_await exchanger_.compute(exchange, &wanted);
  queue_.on_computed();
  schedule();
}

// The host gets a moment to read why it is being cut off.
Task<void> TargetConnection::drain() {
  alarm_.deadline_ns = 0;
  loop_.arm(alarm_, loop_.now_ns() + kTerminationWaitNs);
  for (size_t seen = 0; seen < 16 * kReceiveBytes;) {
    auto got = co_await stream_->recv_some({receive_.get(), receive_bytes_});
    if (!got.ok() || *got == 0) break;
    seen += *got;
  }
  loop_.disarm(alarm_);
}

// Where TLS is spoken, the first byte tells who speaks it: a handshake record begins with 22, a
// connection in the clear with the type of its ICReq, 0. False: the connection is over.
Task<bool> TargetConnection::secure() {
  constexpr std::byte kHandshakeRecord{22};
  auto got = co_await stream_->recv_some({receive_.get(), kGreetingBytes});
  if (!got.ok() || *got == 0) {
    queue_.close(got.ok() ? "the host closed the connection" : "the connection was lost");
    co_return false;
  }
  ConstBytes first(receive_.get(), *got);
  if (first[0] != kHandshakeRecord) {
    if (tls_required_) {
      queue_.close("a host in the clear where TLS is required");
      co_return false;
    }
    hear(first, loop_.batch_ns());
    pump();
    co_return true;
  }
  auto made = std::make_unique<TlsStream>(loop_, tls_, std::move(stream_), first);
  TlsStream* tls = made.get();
  stream_ = std::move(made);
  Status status = co_await tls->handshake(started_ns_ + core_.limits().handshake_ns);
  std::optional<PskIdentity> identity;
  if (status.ok()) identity = PskIdentity::parse(tls->peer_identity());
  if (!identity) {
    log_warn("{} -> refused", status.to_string());
    queue_.close("no TLS handshake");
    co_return false;
  }
  log_info("{}: {} by TLS, {}", peer(), identity->host_nqn, tls->suite());
  queue_.set_tls_identity(std::move(*identity));
  co_return true;
}

void TargetConnection::hear(ConstBytes bytes, uint64_t now_ns) {
  if (!queue_.answered()) heard_.insert(heard_.end(), bytes.begin(), bytes.end());
  queue_.on_bytes(bytes, now_ns);
  if (queue_.answered() && !heard_.empty()) std::vector<std::byte>().swap(heard_);
}

void TargetConnection::resume(Handover handover) {
  queue_.set_port(handover.port);
  if (handover.tls_identity) queue_.set_tls_identity(std::move(*handover.tls_identity));
  tls_.reset();
  queue_.resume(handover.received, loop_.batch_ns());
  schedule();
}

// Once the ICResp has left, and from a stack of our own: the receive that brought Connect is over.
// False: the connection ends instead.
Task<bool> TargetConnection::departed() {
  schedule();
  idle_.reset();
  while (!idle_.is_set()) co_await idle_.wait();
  if (queue_.closing()) co_return false;
  ended_ = true;
  queue_.close("its subsystem lives on another loop");
  departure_.emplace(Handover{.stream = std::move(stream_),
                              .received = std::move(heard_),
                              .tls_identity = queue_.tls_identity(),
                              .port = queue_.port(),
                              .home = queue_.home()});
  co_return true;
}

Task<void> TargetConnection::run() {
  if (tls_ != nullptr) (void)co_await secure();
  while (!queue_.closing()) {
    if (queue_.home() != 0) {
      if (co_await departed()) co_return;
      break;
    }
    Bytes direct = queue_.direct_target();
    if (queue_.connected() && receive_bytes_ < kReceiveBytes) receive_into(kReceiveBytes);
    size_t room = queue_.expects_long_data() ? kLongDataRoomBytes : receive_bytes_;
    receive_iov_[0] = {.iov_base = direct.data(), .iov_len = direct.size()};
    receive_iov_[1] = {.iov_base = receive_.get(), .iov_len = room};
    bool both = !direct.empty();
    auto got = co_await stream_->recv_some(receive_iov_ + (both ? 0 : 1), both ? 2 : 1);
    if (!got.ok() || *got == 0) {
      queue_.close(got.ok() ? "the host closed the connection" : "the connection was lost");
      break;
    }
    size_t placed = std::min(*got, direct.size());
    uint64_t now_ns = loop_.batch_ns();
    if (placed > 0) hear(ConstBytes(direct).first(placed), now_ns);
    hear({receive_.get(), *got - placed}, now_ns);
    note_host();
    pump();
  }
  schedule();
  if (queue_.terminating()) co_await drain();
  shut_down();
  co_await computing_.join();
  while (!idle_.is_set()) co_await idle_.wait();
  ended_ = true;  // nothing is posted from here on
  co_await stream_->close();
  if (turned_away_) co_return;  // there may be thousands: no word of each
  log_info("{}: queue {} of {} ended: {} -> closed", peer(), queue_.queue_id(),
           nqn_.empty() ? "nobody" : nqn_, queue_.close_reason());
}

}  // namespace bb::io::nvme
