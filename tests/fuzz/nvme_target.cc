// SPDX-License-Identifier: Apache-2.0
// A target's state machine between two connections that send anything and a device that answers
// when it likes. Input: two bytes of options, then steps: raw bytes, capsules and data PDUs with a
// right frame and any fields (or one byte of them damaged), messages of authentication, Connects,
// the device's and the sender's doings, time, and changes of what is published. The first PDUs of a
// session (ICReq, Connect, enable) are made for the fuzzer unless the options forbid it, or it
// would spend its life on them. Each of the two connections is a host of its own, as reservations
// see them, unless it joins the other's controller; records of reservations are saved when the
// input says so.
#include "fuzz.h"
#include "input.h"
#include "io/nvme/reservation_store.h"
#include "nvme_target_peer.h"
#include "nvme_target_seeds.h"

namespace bb {
namespace {

using fuzz::Input;

constexpr int kStepsMax = 64;

void repair_digests(Bytes stream, Digests digests) {
  if (!digests.header) return;
  for (size_t at = 0; at + kCommonHeaderBytes <= stream.size();) {
    PduHeader header = PduHeader::decode(stream.data() + at);
    size_t end = at + header.hlen + kDigestBytes;
    if (end > stream.size()) return;
    store_digest(stream.data() + at + header.hlen, crc32c(stream.subspan(at, header.hlen)));
    at += std::max<size_t>(header.plen, kCommonHeaderBytes);
  }
}

// That it is there says that reservations may persist; the session saves them.
class NoStore final : public ReservationStore {
  io::Task<Result<ReservationState>> load() override { co_return ReservationState(); }
  io::Task<Status> save(ReservationState) override { co_return Status(); }
};

SubsystemConfig subsystem_of(const TargetFuzzOptions& options) {
  static NoStore store;
  SubsystemConfig config = test::fake_subsystem(FuzzDevice::kBytes);
  config.namespaces[0].reservation_store = &store;
  config.single_association = options.single_association;
  if (options.secret) config.security = security_of(options);
  return config;
}

class Session {
 public:
  Session(uint8_t bits, uint8_t more, FuzzDevice& device)
      : bits_(bits), options_(bits, more), device_(device) {
    core_.set_addresses({{.port = "4420"}});
    core_.set_save_reservation([this](NamespaceRef of, const ReservationState& state) {
      BB_CHECK(consistent(state), "a reservation that cannot be is to be saved");
      saving_.push_back(std::move(of));
      if (!hold_saves_) saved(true);
    });
    publish();
    peers_[0] = std::make_unique<Peer>(core_, device_, options_);
    if (!options_.prepared) return;
    connect(0, 0, 7, kControllerIdAny);
    const TargetQueue& admin = peers_[0]->queue;
    BB_CHECK(admin.connected(), "the admin queue did not connect");
    bool proved = !options_.secret || options_.discovery || options_.honest;
    BB_CHECK(admin.authenticated() == proved, "the admin queue's host is {}believed",
             proved ? "not " : "");
  }

  void run(Input& input) {
    for (int i = 0; i < kStepsMax && !input.empty(); ++i) {
      step(input);
      pump_woken();
    }
    hold_saves_ = false;
    saved(true);
    for (auto& peer : peers_) {
      if (peer == nullptr) continue;
      peer->held = peer->slow = false;
      peer->land(++now_ns_);
      peer->think(false);
      peer->sent();
      peer->pump(now_ns_);
    }
    pump_woken();
    for (size_t which : {1u, 0u}) {
      if (peers_[which] == nullptr) continue;
      Peer& peer = *peers_[which];
      BB_CHECK(peer.queue.io_in_flight() == 0, "an I/O was forgotten");
      bool ready = !peer.queue.closing() && peer.queue.has_ready_io();
      BB_CHECK(!ready, "an I/O was never begun");
      peer.queue.close("the end");
    }
    BB_CHECK(core_.controllers().empty(), "a controller outlived its admin queue");
    for (const auto& [nqn, subsystem] : core_.subsystems()) {
      for (uint32_t nsid : subsystem->nsids()) {
        BB_CHECK(subsystem->find(nsid)->writes.idle(), "a range is held by nobody");
        BB_CHECK(subsystem->find(nsid)->io_in_flight == 0, "an I/O of nobody");
      }
    }
  }

 private:
  void publish() {
    Status added = core_.add_subsystem(subsystem_of(options_));
    BB_CHECK(added.ok() || added.code() == Code::k_already_exists, "{}", added.to_string());
  }

  void saved(bool durable) {
    for (const NamespaceRef& of : std::exchange(saving_, {})) {
      of->reservation->on_saved(durable);
    }
  }

  // ICReq, Connect and, on an admin queue, the enabling of the controller: whole, and made once
  // where they are always the same.
  void connect(size_t which, uint16_t queue_id, uint16_t queue_size, uint16_t controller_id) {
    Peer& peer = *peers_[which];
    unsigned digests = (options_.digests.header ? 1u : 0u) + (options_.digests.data ? 2u : 0u);
    static std::array<Buffer, 4> hellos;
    static std::array<Buffer, 4> enables;
    HostWire wire{.format = {.digests = options_.digests}};
    if (hellos[digests].empty()) {
      hellos[digests] = HostWire::ic_req(options_.digests);
      enables[digests] = wire.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable));
    }
    peer.receive(hellos[digests], false, ++now_ns_);
    peer.receive(connect_pdu(queue_id, queue_size, controller_id, host_of(which, controller_id)),
                 false, ++now_ns_);
    // Not while the Connect waits for the end of an association before: a host waits for its
    // answer.
    if (options_.honest && peer.queue.connected()) peer.prove(++now_ns_);
    bool enable = queue_id == 0 && peer.queue.connected();
    if (enable) peer.receive(enables[digests], false, ++now_ns_);
  }
  uint8_t host_of(size_t which, uint16_t controller_id) const {
    for (const auto& one : core_.controllers()) {
      if (one->id() == controller_id) return static_cast<uint8_t>(one->host().host_id.bytes[0]);
    }
    return static_cast<uint8_t>(which + 1);
  }
  const Buffer& connect_pdu(uint16_t queue_id, uint16_t queue_size, uint16_t controller_id,
                            uint8_t host) {
    static std::array<Buffer, 256 * 2 * 2 * 2> usual;
    static Buffer other;
    bool first = queue_size == 7 && queue_id <= 1 &&
                 (controller_id == 1 || controller_id == kControllerIdAny);
    size_t at =
        bits_ * size_t{8} + (host & 1u) * 4u + (queue_id & 1u) * 2u + (controller_id & 2u) / 2u;
    Buffer& pdu = first ? usual[at] : other;
    if (first && !pdu.empty()) return pdu;
    HostWire wire{.format = {.digests = options_.digests}};
    pdu = wire.connect(queue_id, queue_size, controller_id,
                       options_.discovery ? std::string(kDiscoveryNqn) : test::kNqn, test::kHostNqn,
                       options_.attributes, 5000, host);
    return pdu;
  }
  void give(Peer& peer, ConstBytes bytes) { peer.receive(bytes, options_.in_pieces, ++now_ns_); }

  void step(Input& input) {
    uint8_t action = input.byte();
    size_t which = (action >> 3) & 1;
    if (peers_[which] == nullptr) open_io();
    Peer& peer = *peers_[which];
    uint8_t more = action >> 4;
    switch (action & 7) {
      case 0:
        return raw(peer, input);
      case 1:
        return command(peer, input, more);
      case 2:
        return data(peer, input, more);
      case 3:
        return device(peer, input, more);
      case 4:
        if ((more & 8) != 0) return authenticate(peer, input);
        if ((more & 4) != 0 && options_.lends) peer.make_room(input.take(2));
        peer.slow = (more & 1) != 0;
        peer.think((more & 2) != 0);
        peer.sent();
        return peer.pump(now_ns_);
      case 5:
        core_.expire(now_ns_ += more * uint64_t{1'000'000'000});
        return pump_both();
      case 6:
        target(more);
        return pump_both();
      default:
        return reconnect(which, input, more);
    }
  }
  // Not before it is used: many inputs never do.
  void open_io() {
    peers_[1] = std::make_unique<Peer>(core_, device_, options_);
    if (!options_.prepared || options_.discovery) return;
    Controller* controller = peers_[0]->queue.controller();
    connect(1, 1, 7, controller == nullptr ? kControllerIdAny : controller->id());
  }
  void pump_both() {
    for (auto& peer : peers_) {
      if (peer != nullptr) peer->pump(now_ns_);
    }
  }

  // What one connection's doing sets going on another.
  void pump_woken() {
    for (bool any = true; any;) {
      any = false;
      for (auto& peer : peers_) {
        if (peer == nullptr || !std::exchange(peer->woken, false)) continue;
        peer->pump(now_ns_);
        any = true;
      }
    }
  }

  void raw(Peer& peer, Input& input) {
    ConstBytes bytes = input.raw(input.byte());
    Buffer piece(bytes.begin(), bytes.end());
    if (options_.repair) repair_digests(piece, options_.digests);
    give(peer, piece);
  }

  void command(Peer& peer, Input& input, uint8_t more) {
    Sqe sqe{.opcode = input.byte(), .flags = kFlagSgl};
    uint8_t mask = input.byte();  // which of the following fields the input gives
    if ((mask & 1) != 0) sqe.flags = input.byte();
    if ((mask & 2) != 0) sqe.command_id = input.byte();
    uint8_t nsid = (mask & 4) != 0 ? input.byte() : uint8_t{1};
    sqe.nsid = nsid == 0xff ? kNsidAll : nsid;
    if ((mask & 8) != 0) sqe.cdw10 = input.take(4);
    if ((mask & 16) != 0) sqe.cdw11 = input.take(4);
    if ((mask & 32) != 0) sqe.cdw12 = input.take(4);
    if ((mask & 64) != 0) sqe.cdw14 = input.take(2);
    Buffer data;
    if ((mask & 128) != 0) {
      sqe.sgl = transport_sgl(input.take(2));
      uint8_t kind = input.byte();
      if ((kind & 1) != 0) sqe.sgl = in_capsule_sgl(sqe.sgl.length_bytes);
      if ((kind & 2) != 0) sqe.sgl.type = input.byte();
      if ((kind & 1) != 0)
        data.resize(std::min(sqe.sgl.length_bytes, kLimits.capsule_data_bytes + 1));
      ConstBytes head = input.raw(std::min<size_t>(data.size(), kind >> 2));
      std::copy(head.begin(), head.end(), data.begin());
    }
    Buffer pdu = HostWire{.format = {.digests = options_.digests}}.capsule(sqe, data);
    send(peer, pdu, input, more);
  }

  void data(Peer& peer, Input& input, uint8_t more) {
    DataHeader header{.command_id = input.byte(), .last = (more & 4) == 0};
    header.transfer_tag = input.byte();
    if (header.transfer_tag == 0xff) header.transfer_tag = peer.asked_for();
    header.offset_bytes = input.byte() * 512u;
    Buffer bytes(input.take(2) % (core_.limits().h2c_data_bytes + 2));
    if ((more & 8) != 0) peer.hold_back(input.take(2));
    Buffer pdu = HostWire{.format = {.digests = options_.digests}}.h2c(header, bytes);
    send(peer, pdu, input, more);
  }

  // With one byte damaged before or after the header digest is made, if `more` says so.
  void send(Peer& peer, Buffer& pdu, Input& input, uint8_t more) {
    if ((more & 3) != 0) {
      size_t at = input.take(2) % pdu.size();
      pdu[at] ^= static_cast<std::byte>(input.byte());
      if ((more & 2) != 0) repair_digests(pdu, options_.digests);
    }
    give(peer, pdu);
  }

  // A message, or a wish for one: of a host that knows the secret, of one that does not, or of
  // neither.
  void authenticate(Peer& peer, Input& input) {
    uint8_t what = input.byte();
    switch (what & 7) {
      case 0:
        return peer.converse(++now_ns_);
      case 1:
        return peer.ask(input.take(2), ++now_ns_);
      case 2:
        return peer.tell(input.raw(input.byte()), ++now_ns_);
      case 3:
        return peer.converse(++now_ns_, input.take(2), input.byte());
      case 4:
        return peer.tell(replayed_, ++now_ns_);
      case 5:
        return peer.prove(++now_ns_);
      case 6:
        replayed_ = peer.last_message();
        return;
      default:
        return peer.begin_proof((what & 8) == 0);
    }
  }

  void device(Peer& peer, Input& input, uint8_t more) {
    constexpr std::array<Code, 4> kCodes = {Code::k_ok, Code::k_io_error, Code::k_no_space,
                                            Code::k_unavailable};
    if ((more & 8) != 0) {
      peer.answer_one(input.byte());
    } else {
      peer.held = (more & 1) != 0;
      peer.fails = kCodes[(more >> 1) & 3];
    }
    peer.pump(now_ns_);
    pump_both();
  }

  void target(uint8_t more) {
    Geometry geometry = test::fake_geometry(FuzzDevice::kBytes);
    switch (more) {
      case 0:
        geometry.read_only = true;
        break;
      case 1:
        geometry.discard = false;
        break;
      case 2:
        geometry.block_count /= 2;
        break;
      case 3:
        (void)core_.remove_subsystem(test::kNqn);
        return;
      case 4:
        return publish();
      case 5:
        return peers_[0]->queue.close("the stream ended");
      case 6:
        if (peers_[1] != nullptr) peers_[1]->queue.close("the stream ended");
        return;
      case 7:
        hold_saves_ = true;
        return;
      case 8:
      case 9:
        hold_saves_ = false;
        return saved(more == 8);
      case 10:
        (void)core_.add_namespace(test::kNqn, {.nsid = 2, .geometry = geometry, .ana_group = 2});
        return;
      case 11:
      case 12:
        (void)core_.remove_namespace(test::kNqn, 13u - more);
        return;
      case 13:
        (void)core_.set_ana_state(1, 1, AnaState::kInaccessible);
        return;
      case 14:
        (void)core_.set_ana_state(1, 2, AnaState::kPersistentLoss);
        return;
      case 15:
        (void)core_.add_namespace(test::kNqn, {.geometry = geometry});
        (void)core_.set_ana_state(1, 1, AnaState::kOptimized);
        (void)core_.set_ana_state(1, 2, AnaState::kOptimized);
        return;
      default:
        break;
    }
    (void)core_.update_geometry(test::kNqn, 1, geometry);
  }

  void reconnect(size_t which, Input& input, uint8_t more) {
    peers_[which].reset();
    peers_[which] = std::make_unique<Peer>(core_, device_, options_);
    uint16_t queue_id = (more & 1) != 0 ? uint16_t(which) : input.byte();
    uint16_t queue_size = (more & 2) != 0 ? uint16_t{7} : input.byte();
    const auto& other = peers_[1 - which];
    Controller* controller = other == nullptr ? nullptr : other->queue.controller();
    uint16_t id = (more & 4) != 0 ? uint16_t(input.byte()) : kControllerIdAny;
    if (queue_id != 0 && controller != nullptr && (more & 4) == 0) id = controller->id();
    if ((more & 8) != 0) return;  // the input sends its own
    connect(which, queue_id, queue_size, id);
    pump_both();
  }

  uint8_t bits_;
  TargetFuzzOptions options_;
  FuzzDevice& device_;
  TargetCore core_{limits_of(options_), DigestPolicy::kAllow, random_bytes};
  Buffer replayed_;  // a message of authentication, for another connection
  std::vector<NamespaceRef> saving_;
  bool hold_saves_ = false;
  std::array<std::unique_ptr<Peer>, 2> peers_;
  uint64_t now_ns_ = 1;
};

}  // namespace

const size_t fuzz::kInputMax = 512;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (unsigned bits : {0x00u, 0x04u, 0x0cu, 0x1cu, 0x30u, 0x60u}) {
    std::string suffix = std::to_string(bits);
    all.emplace_back("admin-" + suffix, admin_session(bits));
    all.emplace_back("io-" + suffix, io_session(bits));
    all.emplace_back("fused-" + suffix, fused_session(bits));
    all.emplace_back("direct-" + suffix, direct_session(bits));
    all.emplace_back("lent-" + suffix, lent_session(bits));
    all.emplace_back("lent-io-" + suffix, io_session(bits, 0x21));
  }
  for (unsigned bits : {0x00u, 0x0cu}) {
    all.emplace_back("reservation-" + std::to_string(bits), reservation_session(bits));
  }
  for (unsigned more : {0x02u, 0x06u, 0x0au, 0x0eu}) {
    std::string suffix = std::to_string(more);
    all.emplace_back("proof-" + suffix, proof_session(more));
    all.emplace_back("strangers-" + suffix, strangers_session(more));
    all.emplace_back("secret-io-" + suffix, io_session(0x20, more | 0x10));
  }
  all.emplace_back("discovery", admin_session(0x80));
  all.emplace_back("discovery-changes", discovery_session());
  Buffer hello{std::byte{1}, std::byte{0}};
  put(hello, {0x00, kIcBytes});
  test::append(hello, HostWire::ic_req());
  put(hello, {0x00, 72});
  test::append(hello, HostWire{}.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)));
  all.emplace_back("hello", hello);
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  static FuzzDevice device;
  device.begin();
  Input input({reinterpret_cast<const std::byte*>(data + 2), size - 2});
  fuzz_prng = Prng(1);
  std::make_unique<Session>(data[0], data[1], device)->run(input);
  BB_CHECK(buffers_out == 0, "{} buffers were not given back", buffers_out);
  return 0;
}
