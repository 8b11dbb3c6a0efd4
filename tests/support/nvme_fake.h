// SPDX-License-Identifier: Apache-2.0
// The target's state machine without sockets: a queue over memory, and the host's side of the wire
// byte by byte.
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "io/nvme/pdu_reader.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme::test {

using Buffer = std::vector<std::byte>;

inline constexpr const char* kNqn = "nqn.2026-11.io.blockbridge:drive:test";
inline constexpr const char* kHostNqn = "nqn.2026-11.io.blockbridge:host:test";

inline void append(Buffer& to, ConstBytes bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// What a host writes.
struct HostWire {
  PduFormat format;

  static Buffer ic_req(Digests digests = {}, uint8_t alignment_dwords = 0) {
    Buffer out(kIcBytes);
    IcReq{.alignment_dwords = alignment_dwords, .digests = digests}.encode(out);
    return out;
  }
  void put_data(Buffer& out, ConstBytes data) const {
    append(out, data);
    if (!format.digests.data || data.empty()) return;
    std::byte digest[kDigestBytes];
    store_digest(digest, crc32c(data));
    append(out, digest);
  }
  Buffer capsule(Sqe sqe, ConstBytes data = {}) const {
    if (!data.empty() && sqe.sgl.type == 0) {
      sqe.sgl = in_capsule_sgl(static_cast<uint32_t>(data.size()));
    }
    std::byte entry[kSqeBytes];
    sqe.encode(entry);
    Buffer out(kHeaderRoomBytes);
    out.resize(encode_capsule_cmd(out, entry, static_cast<uint32_t>(data.size()), format));
    put_data(out, data);
    return out;
  }
  Buffer h2c(DataHeader header, ConstBytes data) const {
    header.length_bytes = static_cast<uint32_t>(data.size());
    Buffer out(kHeaderRoomBytes);
    out.resize(encode_h2c_data(out, header, format));
    put_data(out, data);
    return out;
  }
  Buffer connect(uint16_t queue_id, uint16_t queue_size, uint16_t controller_id,
                 const std::string& nqn = kNqn, const std::string& host = kHostNqn,
                 uint8_t attributes = 0, uint32_t keep_alive_ms = 0, uint8_t host_id = 0) const {
    Sqe sqe;
    ConnectCommand{.queue_id = queue_id,
                   .queue_size = queue_size,
                   .attributes = attributes,
                   .keep_alive_ms = keep_alive_ms}
        .encode(sqe);
    sqe.command_id = 0xc0;
    Buffer data(kConnectDataBytes);
    ConnectData connect{
        .host = {.host_nqn = host}, .controller_id = controller_id, .subsystem_nqn = nqn};
    connect.host.host_id.bytes[0] = static_cast<std::byte>(host_id);
    connect.encode(data);
    return capsule(sqe, data);
  }
  static Sqe property_set_cc(uint32_t value) {
    return {.opcode = 0x7f,
            .flags = kFlagSgl,
            .command_id = 1,
            .nsid = 0,
            .cdw11 = 0x14,
            .cdw12 = value};
  }
  static Sqe admin(AdminOpcode opcode, uint32_t cdw10, uint32_t length, uint32_t nsid = 0) {
    return {.opcode = static_cast<uint8_t>(opcode),
            .flags = kFlagSgl,
            .command_id = 2,
            .nsid = nsid,
            .sgl = transport_sgl(length),
            .cdw10 = cdw10};
  }
  static Sqe io(IoOpcode opcode, uint64_t block, uint32_t blocks, uint32_t length,
                uint16_t command_id = 3) {
    return {.opcode = static_cast<uint8_t>(opcode),
            .flags = kFlagSgl,
            .command_id = command_id,
            .nsid = 1,
            .sgl = length > 0 ? transport_sgl(length) : Sgl{},
            .cdw10 = static_cast<uint32_t>(block),
            .cdw11 = static_cast<uint32_t>(block >> 32),
            .cdw12 = blocks - 1};
  }
};

// What a host reads: everything a target answered.
struct HostSeen {
  PduReader reader{Role::kHost, {}};
  IcResp ic;
  std::vector<Cqe> responses;
  std::vector<R2t> r2ts;
  std::vector<DataHeader> data_headers;
  Buffer data;
  TermReq term;
  Buffer term_header;
  bool illegal = false;
  bool bad_digest = false;

  void feed(ConstBytes bytes) {
    for (PduEvent event; (event = reader.next(bytes)).kind != PduEvent::Kind::kNeedMore;) {
      if (event.kind == PduEvent::Kind::kIllegal) {
        illegal = true;
        return;
      }
      if (event.kind == PduEvent::Kind::kData) append(data, event.bytes);
      if (event.kind == PduEvent::Kind::kEnd && !event.digest_ok) bad_digest = true;
      if (event.kind == PduEvent::Kind::kHeader) header(event.bytes);
    }
  }

 private:
  void header(ConstBytes bytes) {
    switch (reader.header().type) {
      case PduType::kIcResp:
        ic = IcResp::decode(bytes);
        reader.negotiated({.digests = ic.digests});
        break;
      case PduType::kC2hTermReq:
        term = TermReq::decode(bytes);
        term_header.assign(term.header.begin(), term.header.end());
        break;
      case PduType::kCapsuleResp:
        responses.push_back(Cqe::decode(capsule_cqe(bytes)));
        break;
      case PduType::kC2hData:
        data_headers.push_back(DataHeader::decode(bytes, reader.header().flags));
        break;
      case PduType::kR2t:
        r2ts.push_back(R2t::decode(bytes));
        break;
      case PduType::kIcReq:
      case PduType::kH2cTermReq:
      case PduType::kCapsuleCmd:
      case PduType::kH2cData:
        break;
    }
  }
};

// One connection over a piece of memory.
class FakeConnection final : public QueueHost {
 public:
  FakeConnection(TargetCore& core, Buffer& memory) : memory_(memory), queue(core, *this) {}

  std::byte* take_buffer(uint32_t capacity_bytes) override {
    ++buffers;
    buffer_bytes += capacity_bytes;
    most_bytes = std::max(most_bytes, buffer_bytes);
    return static_cast<std::byte*>(std::malloc(capacity_bytes));
  }
  void give_buffer(std::byte* buffer, uint32_t capacity_bytes) override {
    --buffers;
    buffer_bytes -= capacity_bytes;
    std::free(buffer);
  }
  bool lends(const Namespace&) const override { return lending; }
  void give_back(uint16_t) override { --lent; }
  void wake() override { ++wakes; }
  void compute(DhExchange& exchange) override {
    exchange.compute();
    queue.on_computed();
  }

  // Gives bytes to the queue and answers until it has nothing more to do; what it sent comes back.
  Buffer exchange(ConstBytes bytes, uint64_t now_ns = 1) {
    queue.on_bytes(bytes, now_ns);
    return run();
  }
  Buffer run() {
    Buffer sent;
    for (bool any = true; any;) {
      any = false;
      while (!held) {
        auto slot = queue.next_io();
        if (!slot) break;
        Code code = perform(*slot);
        queue.on_io_done(*slot, code);
        any = true;
      }
      if (std::vector<iovec>* iov = queue.outgoing()) {
        size_t all = take(sent, *iov);
        size_t now = std::min(room, all);
        sent.resize(sent.size() - (all - now));
        if (std::vector<iovec>* rest = queue.rest_after(now)) {
          if (while_it_waits) while_it_waits();
          now = take(sent, *rest);
          BB_CHECK(queue.rest_after(now) == nullptr, "something is left of nothing");
        }
        queue.on_sent();
        any = true;
      }
    }
    return sent;
  }

  bool held = false;     // the device does not answer
  bool lending = false;  // it shows its memory
  int lent = 0;
  size_t room = SIZE_MAX;                // for a send that does not wait
  std::function<void()> while_it_waits;  // for the peer, with the rest
  Code fails = Code::k_ok;
  std::vector<TargetIo> ios;
  int64_t buffers = 0;
  uint64_t buffer_bytes = 0;
  uint64_t most_bytes = 0;
  int wakes = 0;
  std::map<uint32_t, Buffer*> others;  // what namespaces beside the first hold

 private:
  static size_t take(Buffer& sent, const std::vector<iovec>& iov) {
    size_t before = sent.size();
    for (const iovec& one : iov) {
      append(sent, {static_cast<const std::byte*>(one.iov_base), one.iov_len});
    }
    return sent.size() - before;
  }

  Code perform(uint16_t slot) {
    const TargetIo& io = queue.io(slot);
    ios.push_back(io);
    if (fails != Code::k_ok) return fails;
    auto other = others.find(queue.name_space(slot).nsid);
    Buffer& memory = other == others.end() ? memory_ : *other->second;
    BB_CHECK(io.offset_bytes + io.length_bytes <= memory.size(), "an I/O beyond the device");
    std::byte* at = memory.data() + io.offset_bytes;
    if (io.may_lend) {
      ++lent;
      queue.lend(slot, {at, io.length_bytes});
      return Code::k_ok;
    }
    if (io.op == TargetOp::kRead) std::memcpy(io.data, at, io.length_bytes);
    if (io.op == TargetOp::kWrite) std::memcpy(at, io.data, io.length_bytes);
    if (io.op == TargetOp::kWriteZeroes || io.op == TargetOp::kDiscard) {
      std::memset(at, 0, io.length_bytes);
    }
    return Code::k_ok;
  }

  Buffer& memory_;

 public:
  TargetQueue queue;
};

inline Geometry fake_geometry(size_t bytes) {
  return {.block_count = bytes / 512,
          .block_bytes = 512,
          .physical_block_bytes = 4096,
          .volatile_cache = true,
          .discard = true};
}

inline SubsystemConfig fake_subsystem(size_t bytes) {
  return {.nqn = kNqn, .serial = "TEST", .namespaces = {{.geometry = fake_geometry(bytes)}}};
}

}  // namespace bb::io::nvme::test
