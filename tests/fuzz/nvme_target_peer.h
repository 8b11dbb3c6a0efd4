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
                                      .buffered_reserve_bytes = 4096};

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
        honest(secret && (more & 16) != 0) {}
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
  Peer(TargetCore& core, Bytes memory, const TargetFuzzOptions& options)
      : memory_(memory), options_(options), limits_(core.limits()), queue(core, *this) {
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
      if (!held) answer_all();
      if (sending_ == nullptr) sending_ = queue.outgoing();
      if (sending_ != nullptr && !slow) any = sent();
    }
  }

  bool sent() {
    if (sending_ == nullptr) return false;
    for (const iovec& one : *sending_) {
      check({static_cast<const std::byte*>(one.iov_base), one.iov_len});
    }
    sending_ = nullptr;
    queue.on_sent();
    return true;
  }

  void answer_one(size_t which) {
    if (count_ == 0) return;
    std::swap(at_device_[which % count_], at_device_[count_ - 1]);
    uint16_t slot = at_device_[--count_];
    queue.on_io_done(slot, perform(queue.io(slot)));
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

  Code perform(const TargetIo& io) {
    if (fails != Code::k_ok) return fails;
    BB_CHECK(
        io.offset_bytes <= memory_.size() && io.length_bytes <= memory_.size() - io.offset_bytes,
        "an I/O beyond the device");
    std::byte* at = memory_.data() + io.offset_bytes;
    if (io.op == TargetOp::kRead) std::memcpy(io.data, at, io.length_bytes);
    if (io.op == TargetOp::kWrite) std::memcpy(at, io.data, io.length_bytes);
    return Code::k_ok;
  }

  // What a target sends must always be readable.
  void check(ConstBytes bytes) {
    for (PduEvent event; (event = reader_.next(bytes)).kind != PduEvent::Kind::kNeedMore;) {
      BB_CHECK(event.kind != PduEvent::Kind::kIllegal, "the target sent an illegal PDU: {}",
               reader_.violation().what);
      BB_CHECK(event.digest_ok, "the target sent a wrong data digest");
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

  Bytes memory_;
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

 public:
  TargetQueue queue;
};

}  // namespace bb
