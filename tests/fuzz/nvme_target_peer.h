// SPDX-License-Identifier: Apache-2.0
// One connection of the target's fuzzer: its driver, its device, its host, and what must hold.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "io/nvme/auth_host.h"
#include "nvme_target_device.h"
#include "support/nvme_fake.h"

namespace bb {

using namespace io::nvme;
using test::Buffer;
using test::HostWire;

inline constexpr TargetLimits kLimits{.io_queue_depth = 8,
                                      .admin_queue_depth = 8,
                                      .io_queues = 2,
                                      .async_events = 2,
                                      .controllers = 3,
                                      .subsystems = 2,
                                      .capsule_data_bytes = 2048,
                                      .h2c_data_bytes = 4096,
                                      .transfer_bytes = 8192,
                                      .buffered_bytes = 3 * 4096,
                                      .buffered_reserve_bytes = 4096,
                                      .lent_bytes = 16 * 1024};

struct TargetFuzzOptions {
  bool prepared;
  bool repair;
  Digests digests;
  uint8_t attributes;
  bool single_association;
  bool in_pieces;
  bool discovery;
  bool in_place;  // data so long that they are received where they belong
  bool secret;    // hosts must prove themselves
  bool mutual;    // and ask the same of the target
  bool exchange;  // with a key exchange, whose values are made up
  bool honest;    // whoever connects for the fuzzer also proves itself
  bool lends;     // the device does, and sends take what there is room for
  TargetFuzzOptions(uint8_t bits, uint8_t more)
      : prepared((bits & 1) == 0),
        repair((bits & 2) == 0),
        digests{(bits & 4) != 0, (bits & 8) != 0},
        attributes((bits & 16) != 0 ? kConnectNoFlowControl : uint8_t{0}),
        single_association((bits & 32) != 0),
        in_pieces((bits & 64) != 0),
        discovery((bits & 128) != 0),
        in_place((more & 1) != 0),
        secret((more & 2) != 0),
        mutual((more & 4) != 0),
        exchange((more & 8) != 0),
        honest(secret && (more & 16) != 0),
        lends((more & 32) != 0) {}
};

inline TargetLimits limits_of(const TargetFuzzOptions& options) {
  TargetLimits limits = kLimits;
  if (!options.in_place) return limits;
  limits.h2c_data_bytes = limits.transfer_bytes = 32 * 1024;
  limits.buffered_bytes = 48 * 1024;
  return limits;
}

// Not the same twice in a session, and the same in each: a challenge that comes again is a finding.
inline Prng fuzz_prng(1);
inline void random_bytes(Bytes into) { fuzz_prng.fill(into); }

inline AuthSecret secret_of(int fill) {
  io::Secret key(32);
  std::memset(key.data(), fill, key.size());
  return {.transform = std::nullopt, .key = std::move(key)};
}

inline SecurityConfig security_of(const TargetFuzzOptions& options) {
  SecurityConfig security;
  security.policy = {.hashes = {io::Hash::kSha256},
                     .groups = {options.exchange ? io::DhGroup::kFfdhe2048 : io::DhGroup::kNull}};
  security.hosts.emplace(test::kHostNqn, secret_of(1));
  if (options.mutual) security.controller = secret_of(2);
  return security;
}

inline void make_up(io::DhExchange& exchange) {
  exchange.ours.assign(io::dh_bytes(exchange.group), std::byte{3});
  if (exchange.theirs.empty()) return;
  exchange.shared = io::Secret(io::dh_bytes(exchange.group));
  if (exchange.theirs.size() == io::dh_bytes(exchange.group)) return;
  exchange.status = error(Code::k_invalid_argument, "too short");
}

inline int64_t buffers_out = 0;  // of all connections

class Peer final : public QueueHost {
 public:
  Peer(TargetCore& core, FuzzDevice& device, const TargetFuzzOptions& options)
      : device_(device), options_(options), limits_(core.limits()), queue(core, *this) {
    queue.set_local_host("127.0.0.1");
    queue.set_port(1);
    begin_proof(true);
  }
  ~Peer() {
    land(0);
    queue.close("the stream ended");
    think(false);
    answer_all();
    if (sending_ != nullptr) queue.on_sent();
    BB_CHECK(loans_ == 0 && !queue.has_lent(), "memory is not given back at the end");
  }

  std::byte* take_buffer(uint32_t capacity_bytes) override {
    ++buffers_out;
    taken_bytes_ += capacity_bytes;
    // What may wait; one command that had it all, a fused one thrice; and of each of the 16
    // commands what does not wait: in-capsule data or a list of ranges, what Compare reads, a
    // second half's data.
    uint64_t most = limits_.buffered_bytes + 3 * limits_.transfer_bytes +
                    uint64_t{16} * (4096 + 4096 + limits_.transfer_bytes);
    BB_CHECK(taken_bytes_ <= most, "{} bytes of buffers", taken_bytes_);
    return static_cast<std::byte*>(std::malloc(capacity_bytes));
  }
  void give_buffer(std::byte* buffer, uint32_t capacity_bytes) override {
    --buffers_out;
    taken_bytes_ -= capacity_bytes;
    std::free(buffer);
  }
  bool lends(const Namespace&) const override { return options_.lends && lending_; }
  void give_back(uint16_t slot) override {
    BB_CHECK((loans_ >> slot & 1) != 0, "what slot {} gives back was not lent to it", slot);
    loans_ &= ~(1u << slot);
    device_.lent.release(orders_[slot]);
  }
  void wake() override { woken = true; }
  void compute(io::DhExchange& exchange) override {
    BB_CHECK(computing_ == nullptr, "two key exchanges at once");
    computing_ = &exchange;
    if (!thinking_) think(false);
  }
  // Does the helper thread take its time? Once the connection is over it may not have begun.
  void think(bool slowly) {
    thinking_ = slowly;
    if (slowly || computing_ == nullptr) return;
    if (!queue.closing()) make_up(*computing_);
    computing_ = nullptr;
    queue.on_computed();
  }

  void receive(ConstBytes bytes, bool in_pieces, uint64_t now_ns) {
    land(now_ns);
    size_t held = std::min(std::exchange(hold_back_, 0), bytes.size());
    late_.assign(bytes.end() - static_cast<ptrdiff_t>(held), bytes.end());
    bytes = bytes.first(bytes.size() - held);
    for (bool first = true; !bytes.empty(); first = false) {
      size_t step = in_pieces ? 13 : bytes.size();
      // The header first, then what the socket has; as the driver, into the place named when the
      // receive began, and the rest into memory of its own.
      if (options_.in_place) step = first ? 100 : 5000;
      step = std::min(step, bytes.size());
      arrive(bytes.first(step), now_ns);
      bytes = bytes.subspan(step);
    }
    pump(now_ns);
  }
  // The last bytes of what comes next come with what comes after it.
  void hold_back(size_t bytes) { hold_back_ = bytes; }
  void land(uint64_t now_ns) {
    Buffer late = std::exchange(late_, {});
    if (!late.empty()) arrive(late, now_ns);
  }

  void pump(uint64_t now_ns) {
    queue.pass_time(now_ns);
    queue.retry_connect(now_ns);
    for (bool any = true; any;) {
      any = false;
      check_proof();
      while (auto slot = queue.next_io()) {
        BB_CHECK(queue.authenticated(), "an I/O of a host that has yet to prove itself");
        at_device_[count_++] = *slot;
        any = true;
      }
      any = any || (!held && count_ > 0);
      if (!held) answer_all();
      if (sending_ == nullptr) any = begin_send() || any;
      if (sending_ != nullptr && !slow) any = sent();
    }
    BB_CHECK(loans_ == 0, "memory stays on loan");
  }

  bool sent() {
    if (sending_ == nullptr) return false;
    BB_CHECK(!options_.lends || flat(*sending_) == rest_,
             "what waited for the host is not what was read");
    for (const iovec& one : *sending_) {
      check({static_cast<const std::byte*>(one.iov_base), one.iov_len});
    }
    sending_ = nullptr;
    queue.on_sent();
    return true;
  }
  // How much the socket takes from now on of what is sent at once; then it is full, until told
  // otherwise. And two things besides: the connection is lost, the device is another one.
  void make_room(uint32_t bytes) {
    if (bytes == 0xfffe) lost_ = true;
    if (bytes == 0xffff) lending_ = !lending_;
    room_ = bytes;
  }

  void answer_one(size_t which) {
    if (count_ == 0) return;
    std::swap(at_device_[which % count_], at_device_[count_ - 1]);
    uint16_t slot = at_device_[--count_];
    const TargetIo& io = queue.io(slot);
    bool waits_in_line = io.op != TargetOp::kRead && io.op != TargetOp::kFlush;
    if (!io.may_lend && (!waits_in_line || device_.lent.idle())) return perform(slot);
    Order& order = orders_[slot];
    order.offset_bytes = io.offset_bytes;
    order.length_bytes = io.length_bytes;
    order.mode = io.may_lend ? io::LockMode::kShared : io::LockMode::kExclusive;
    order.slot = slot;
    order.peer = this;
    order.granted = [](io::RangeTicket* granted) {
      auto* self = static_cast<Order*>(granted);
      self->peer->woken = true;
      self->peer->perform_in_line(self->slot);
    };
    if (device_.lent.acquire(order)) perform_in_line(slot);
  }

  uint16_t asked_for() const { return asked_for_; }
  // A host that begins an authentication, with the secret or another one.
  void begin_proof(bool knows) {
    knows_ = knows;
    host_.reset();
  }
  // Its next turn: it says what it has to say, with one byte changed by `damage`, or asks.
  void converse(uint64_t now_ns, size_t at = 0, uint8_t damage = 0) {
    if (host_ == nullptr) make_host();
    Buffer message = host_->next();
    if (host_->done() && message.empty()) return;
    if (message.empty()) {
      ask(kAuthMessageMaxBytes, now_ns);
      if (heard_.empty()) return;
      host_->on_message(std::exchange(heard_, {}));
      if (io::DhExchange* exchange = host_->exchange()) {
        make_up(*exchange);
        host_->on_computed();
      }
      return;
    }
    message_ = message;
    proved_ = proved_ || knows_;
    message[at % message.size()] ^= static_cast<std::byte>(damage);
    tell(message, now_ns);
  }
  void prove(uint64_t now_ns) {
    for (int turn = 0; turn < 6; ++turn) converse(now_ns);
  }
  void tell(ConstBytes message, uint64_t now_ns) {
    if (message.empty()) return;
    receive(wire().capsule(auth_command(FabricsType::kAuthSend, message.size()), message),
            options_.in_pieces, now_ns);
  }
  void ask(size_t length, uint64_t now_ns) {
    heard_.clear();
    Sqe sqe = auth_command(FabricsType::kAuthReceive, length);
    sqe.sgl = transport_sgl(static_cast<uint32_t>(length));
    receive(wire().capsule(sqe), options_.in_pieces, now_ns);
  }
  const Buffer& last_message() const { return message_; }

  bool woken = false;
  bool held = false;  // the device does not answer
  bool slow = false;  // sends do not end
  Code fails = Code::k_ok;

 private:
  HostWire wire() const { return {.format = {.digests = options_.digests}}; }
  static Sqe auth_command(FabricsType type, size_t length) {
    return {.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics),
            .flags = kFlagSgl,
            .command_id = 9,
            .nsid = static_cast<uint32_t>(type),
            .cdw10 = kAuthProtocol,
            .cdw11 = static_cast<uint32_t>(length)};
  }
  void make_host() {
    SecurityConfig security = security_of(options_);
    host_ = std::make_unique<AuthHost>(AuthHost::Options{.policy = security.policy,
                                                         .host = secret_of(knows_ ? 1 : 7),
                                                         .controller = security.controller,
                                                         .host_nqn = test::kHostNqn,
                                                         .subsystem_nqn = test::kNqn,
                                                         .random = random_bytes});
  }
  void check_proof() const {
    if (!options_.secret || !queue.connected() || queue.controller()->discovery()) return;
    BB_CHECK(proved_ || !queue.authenticated(), "a host is believed that proved nothing");
  }

  // An exact copy: whoever reads beyond it is caught.
  void arrive(ConstBytes bytes, uint64_t now_ns) {
    size_t placed = std::min(bytes.size(), place_.size());
    if (placed > 0) {
      std::memcpy(place_.data(), bytes.data(), placed);
      queue.on_bytes(place_.first(placed), now_ns);
    }
    ConstBytes rest = bytes.subspan(placed);
    if (!rest.empty()) {
      std::unique_ptr<std::byte[]> exact(new std::byte[rest.size()]);
      std::memcpy(exact.get(), rest.data(), rest.size());
      queue.on_bytes({exact.get(), rest.size()}, now_ns);
    }
    place_ = options_.in_place ? queue.direct_target() : Bytes{};
  }

  void answer_all() {
    while (count_ > 0) answer_one(0);
  }

  void perform(uint16_t slot) {
    if (fails == Code::k_ok) {
      device_.perform(queue.io(slot));
      note_read(slot);
    }
    queue.on_io_done(slot, fails);
  }
  // A write that ends lets others begin before anybody learns of its end.
  void perform_in_line(uint16_t slot) {
    bool reads = queue.io(slot).op == TargetOp::kRead;
    if (!reads || fails != Code::k_ok) {
      if (fails == Code::k_ok) device_.perform(queue.io(slot));
      device_.lent.release(orders_[slot]);
    } else {
      BB_CHECK((loans_ >> slot & 1) == 0, "slot {} has not given back what it was lent", slot);
      loans_ |= 1u << slot;
      note_read(slot);
      queue.lend(slot, device_.at(queue.io(slot)));
    }
    queue.on_io_done(slot, fails);
  }

  // As the driver: what is lent leaves at once, what there is no room for waits for the host.
  bool begin_send() {
    sending_ = queue.outgoing();
    if (sending_ == nullptr || !options_.lends) return false;
    Buffer bytes = flat(*sending_);
    size_t taken = queue.has_lent() ? std::min<size_t>(room_, bytes.size()) : 0;
    if (queue.has_lent() && room_ < kRoomy) room_ -= static_cast<uint32_t>(taken);
    bool lost = queue.has_lent() && std::exchange(lost_, false);
    if (!lost) sending_ = queue.rest_after(taken);
    BB_CHECK(lost || (sending_ == nullptr) == (taken == bytes.size()), "{} bytes were not all",
             taken);
    if (lost) sending_ = nullptr;
    if (!lost) check(ConstBytes(bytes).first(taken));
    rest_.assign(bytes.begin() + static_cast<ptrdiff_t>(taken), bytes.end());
    BB_CHECK(lost || sending_ == nullptr || loans_ == 0, "memory is on loan to who waits");
    if (sending_ != nullptr) return false;
    queue.on_sent();
    if (lost) queue.close("the connection was lost while sending");
    return true;
  }
  static Buffer flat(const std::vector<iovec>& iov) {
    Buffer bytes;
    for (const iovec& one : iov) {
      test::append(bytes, {static_cast<const std::byte*>(one.iov_base), one.iov_len});
    }
    return bytes;
  }

  // What a read was to find. Not every one is answered with data, so the host looks for its own.
  void note_read(uint16_t slot) {
    const Sqe& sqe = queue.sqe(slot);
    bool read = queue.queue_id() != 0 && sqe.opcode == static_cast<uint8_t>(IoOpcode::kRead);
    if (options_.lends && read) {
      reads_.push_back({.command_id = sqe.command_id, .crc = crc32c(device_.at(queue.io(slot)))});
    }
  }
  void check_read() {
    for (uint32_t slot = 0; slot < queue.slots(); ++slot) {
      const Sqe& sqe = queue.sqe(static_cast<uint16_t>(slot));
      bool other = sqe.opcode == static_cast<uint8_t>(IoOpcode::kReservationReport) ||
                   sqe.opcode == static_cast<uint8_t>(AdminOpcode::kFabrics);
      if (other && sqe.command_id == heard_read_.command_id) return;
    }
    auto found = std::find(reads_.begin(), reads_.end(), heard_read_);
    BB_CHECK(found != reads_.end(), "command {} was sent what the device did not hold",
             heard_read_.command_id);
    reads_.erase(found);
  }

  // What a target sends must always be readable.
  void check(ConstBytes bytes) {
    for (PduEvent event; (event = reader_.next(bytes)).kind != PduEvent::Kind::kNeedMore;) {
      BB_CHECK(event.kind != PduEvent::Kind::kIllegal, "the target sent an illegal PDU: {}",
               reader_.violation().what);
      BB_CHECK(event.digest_ok, "the target sent a wrong data digest");
      if (options_.lends) check_data(event);
      bool room = options_.secret && heard_.size() < kAuthMessageMaxBytes;
      if (event.kind == PduEvent::Kind::kData && room) test::append(heard_, event.bytes);
      if (event.kind != PduEvent::Kind::kHeader) continue;
      if (reader_.header().type == PduType::kR2t) {
        asked_for_ = R2t::decode(event.bytes).transfer_tag;
      }
      if (reader_.header().type == PduType::kIcResp) {
        reader_.negotiated({.digests = IcResp::decode(event.bytes).digests});
      }
    }
  }

  void check_data(const PduEvent& event) {
    bool data = reader_.header().type == PduType::kC2hData;
    if (!data || queue.queue_id() == 0) return;
    if (event.kind == PduEvent::Kind::kHeader) {
      DataHeader header = DataHeader::decode(event.bytes, reader_.header().flags);
      heard_read_ = {.command_id = header.command_id};
    }
    if (event.kind == PduEvent::Kind::kData) {
      heard_read_.crc = crc32c(event.bytes, heard_read_.crc);
    }
    if (event.kind == PduEvent::Kind::kEnd) check_read();
  }

  struct ReadData {
    uint16_t command_id = 0;
    uint32_t crc = 0;
    friend bool operator==(const ReadData&, const ReadData&) = default;
  };
  // A request of a slot that is ordered with what is lent.
  struct Order : io::RangeTicket {
    Peer* peer = nullptr;
    uint16_t slot = 0;
  };
  static constexpr uint32_t kRoomy = 0xf000;  // and more: never full

  FuzzDevice& device_;
  const TargetFuzzOptions& options_;
  TargetLimits limits_;
  PduReader reader_{Role::kHost, {}};
  std::array<uint16_t, 16> at_device_{};
  size_t count_ = 0;
  std::vector<iovec>* sending_ = nullptr;
  uint64_t taken_bytes_ = 0;
  uint16_t asked_for_ = 0;  // the transfer of the last R2T
  Bytes place_;             // where the receive that is under way goes first
  size_t hold_back_ = 0;    // of what comes next
  Buffer late_;             // sent, and not here yet
  io::DhExchange* computing_ = nullptr;
  bool thinking_ = false;
  std::unique_ptr<AuthHost> host_;
  bool knows_ = true;    // the host has the secret
  bool proved_ = false;  // one that has it said something here
  Buffer message_;       // what was said last
  Buffer heard_;         // data that came since it asked
  std::array<Order, 16> orders_;
  uint32_t loans_ = 0;  // slots that have one
  bool lending_ = true;
  bool lost_ = false;            // the next send at once fails
  uint32_t room_ = kRoomy;       // for what is sent at once
  Buffer rest_;                  // what waits for the host
  std::vector<ReadData> reads_;  // what the device held, of reads that are not answered
  ReadData heard_read_;          // whose data come now

 public:
  TargetQueue queue;
};

}  // namespace bb
