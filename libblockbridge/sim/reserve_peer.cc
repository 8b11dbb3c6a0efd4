// SPDX-License-Identifier: Apache-2.0
#include "sim/reserve_peer.h"

#include <cstdlib>

#include "base/check.h"

namespace bb::sim {

using namespace io::nvme;  // NOLINT: the wire's other end

ReservePeer::ReservePeer(TargetCore& core) : reader_(Role::kHost, {}), queue_(core, *this) {}

ReservePeer::~ReservePeer() { queue_.close("the stream ended"); }

std::byte* ReservePeer::take_buffer(uint32_t capacity_bytes) {
  return static_cast<std::byte*>(std::malloc(capacity_bytes));
}

void ReservePeer::give_buffer(std::byte* buffer, uint32_t) { std::free(buffer); }

void ReservePeer::compute(io::DhExchange& exchange) {
  exchange.compute();
  queue_.on_computed();
}

bool ReservePeer::connect(uint16_t queue_id, uint16_t controller, const Uuid& host) {
  std::byte hello[kIcBytes];
  IcReq{}.encode(hello);
  queue_.on_bytes(hello, 1);
  Sqe sqe;
  ConnectCommand{.queue_id = queue_id, .queue_size = 15}.encode(sqe);
  ConnectData connect{.controller_id = controller, .subsystem_nqn = kReserveNqn};
  connect.host = {.host_nqn = "nqn.2026-11.io.blockbridge:host:sim", .host_id = host};
  std::byte data[kConnectDataBytes];
  connect.encode(data);
  send(sqe, data);
  if (queue_id == 0) {
    Sqe enable{.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics),
               .flags = kFlagSgl,
               .command_id = 1,  // the Connect has not been answered yet
               .cdw11 = static_cast<uint32_t>(Property::kCc),
               .cdw12 = kCcEntrySizes | kCcEnable};
    send(enable, {});
  }
  (void)answers();
  return queue_.connected();
}

void ReservePeer::send(Sqe sqe, ConstBytes data) {
  if (!data.empty()) sqe.sgl = in_capsule_sgl(static_cast<uint32_t>(data.size()));
  std::byte entry[kSqeBytes];
  sqe.encode(entry);
  std::vector<std::byte> pdu(kHeaderRoomBytes);
  pdu.resize(encode_capsule_cmd(pdu, entry, static_cast<uint32_t>(data.size()), {}));
  pdu.insert(pdu.end(), data.begin(), data.end());
  queue_.on_bytes(pdu, 1);
}

std::vector<ReservePeer::Answer> ReservePeer::answers() {
  while (std::vector<iovec>* iov = queue_.outgoing()) {
    for (const iovec& one : *iov) read({static_cast<const std::byte*>(one.iov_base), one.iov_len});
    queue_.on_sent();
  }
  return std::exchange(answers_, {});
}

void ReservePeer::read(ConstBytes bytes) {
  for (PduEvent event; (event = reader_.next(bytes)).kind != PduEvent::Kind::kNeedMore;) {
    BB_CHECK(event.kind != PduEvent::Kind::kIllegal, "the target sent an illegal PDU");
    if (event.kind != PduEvent::Kind::kHeader) continue;
    if (reader_.header().type == PduType::kIcResp) reader_.negotiated({});
    if (reader_.header().type != PduType::kCapsuleResp) continue;
    Cqe cqe = Cqe::decode(capsule_cqe(event.bytes));
    answers_.push_back({.command_id = cqe.command_id, .status = cqe.status});
  }
}

}  // namespace bb::sim
