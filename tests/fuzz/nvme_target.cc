// SPDX-License-Identifier: Apache-2.0
// A target's connections fed with arbitrary bytes. Input: one byte of options, then chunks of two
// bytes of length with flags and that many bytes: for the admin or an I/O connection, header
// digests repaired if the options say so. The first bytes of a session (ICReq, Connect, enable) are
// made for the fuzzer unless the options forbid it, or it would spend its life on them.
#include <algorithm>
#include <memory>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "support/nvme_fake.h"

namespace bb {
namespace {

using namespace io::nvme;
using test::Buffer;
using test::FakeConnection;
using test::HostSeen;
using test::HostWire;

constexpr size_t kMemoryBytes = 64 * 1024;
constexpr TargetLimits kLimits{.io_queue_depth = 16,
                               .admin_queue_depth = 16,
                               .io_queues = 2,
                               .capsule_data_bytes = 8192,
                               .h2c_data_bytes = 16384,
                               .transfer_bytes = 32768,
                               .buffered_bytes = 65536};

struct Options {
  bool prepared;
  bool repair;
  Digests digests;
  uint8_t attributes;
  explicit Options(uint8_t bits)
      : prepared((bits & 1) == 0),
        repair((bits & 2) == 0),
        digests{(bits & 4) != 0, (bits & 8) != 0},
        attributes((bits & 16) != 0 ? kConnectNoFlowControl : uint8_t{0}) {}
};

// What a target sends must always be readable, and a queue must stay within its limits.
struct Checked {
  FakeConnection target;
  HostSeen seen;
  Checked(TargetCore& core, Buffer& memory) : target(core, memory) {}

  void send(ConstBytes bytes, uint64_t now_ns) {
    seen.feed(target.exchange(bytes, now_ns));
    BB_CHECK(!seen.illegal, "the target sent an illegal PDU: {}", seen.reader.violation().what);
    BB_CHECK(!seen.bad_digest, "the target sent a wrong data digest");
    BB_CHECK(target.queue.io_in_flight() == 0, "an I/O was forgotten");
    BB_CHECK(target.most_bytes <= kLimits.buffered_bytes + 16 * 8192 + 2 * 32768 + 65536,
             "{} bytes of buffers", target.most_bytes);
    seen.data.clear();
    seen.responses.resize(std::min<size_t>(seen.responses.size(), 1));
  }
};

void repair(Bytes stream, const Options& options) {
  if (!options.repair || !options.digests.header) return;
  for (size_t at = 0; at + kCommonHeaderBytes <= stream.size();) {
    PduHeader header = PduHeader::decode(stream.data() + at);
    size_t end = at + header.hlen + kDigestBytes;
    if (end > stream.size()) return;
    store_digest(stream.data() + at + header.hlen, crc32c(stream.subspan(at, header.hlen)));
    at += std::max<size_t>(header.plen, kCommonHeaderBytes);
  }
}

void prepare(Checked& admin, Checked& queue, const Options& options) {
  HostWire wire{.format = {.digests = options.digests}};
  admin.send(HostWire::ic_req(options.digests), 1);
  admin.send(wire.connect(0, 15, 0xffff), 1);
  BB_CHECK(admin.target.queue.connected(), "the admin queue did not connect");
  admin.send(wire.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)), 1);
  queue.send(HostWire::ic_req(options.digests), 1);
  queue.send(wire.connect(1, 15, admin.target.queue.controller()->id(), test::kNqn, test::kHostNqn,
                          options.attributes),
             1);
  BB_CHECK(queue.target.queue.connected(), "the I/O queue did not connect");
}

void put_chunk(Buffer& input, bool to_queue, const Buffer& bytes) {
  BB_CHECK(bytes.size() < 0x4000, "a chunk of {} bytes", bytes.size());
  auto head = static_cast<uint16_t>(bytes.size() | (to_queue ? 0x8000u : 0u));
  input.push_back(static_cast<std::byte>(head & 0xff));
  input.push_back(static_cast<std::byte>(head >> 8));
  test::append(input, bytes);
}

Buffer session(unsigned bits) {
  Options options(static_cast<uint8_t>(bits));
  HostWire wire{.format = {.digests = options.digests}};
  Buffer input{static_cast<std::byte>(bits)};
  for (uint32_t cns : {0u, 1u, 2u, 3u}) {
    put_chunk(input, false,
              wire.capsule(HostWire::admin(AdminOpcode::kIdentify, cns, 4096, cns == 2 ? 0 : 1)));
  }
  for (uint32_t page : {0u, 1u, 2u, 3u, 4u, 5u}) {
    put_chunk(input, false,
              wire.capsule(HostWire::admin(AdminOpcode::kGetLogPage, page | (127u << 16), 512)));
  }
  for (uint32_t feature : {7u, 0x0bu, 0x0fu}) {
    put_chunk(input, false, wire.capsule(HostWire::admin(AdminOpcode::kSetFeatures, feature, 0)));
    put_chunk(input, false, wire.capsule(HostWire::admin(AdminOpcode::kGetFeatures, feature, 0)));
  }
  put_chunk(input, false, wire.capsule(HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0)));
  put_chunk(input, false, wire.capsule(HostWire::admin(AdminOpcode::kAbort, 2u << 16, 0)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kRead, 0, 8, 4096)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 1, 0), Buffer(512)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kCompare, 0, 1, 0), Buffer(512)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 2, 1024, 9)));
  for (uint16_t tag : {uint16_t{0}, uint16_t{1}}) {
    put_chunk(input, true,
              wire.h2c({.command_id = 9, .transfer_tag = tag, .last = true}, Buffer(1024)));
  }
  Sqe trim = HostWire::io(IoOpcode::kDatasetManagement, 0, 1, 0);
  trim.cdw10 = 0;
  trim.cdw11 = kDsmDeallocate;
  put_chunk(input, true, wire.capsule(trim, Buffer(16)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kWriteZeroes, 0, 8, 0)));
  put_chunk(input, true, wire.capsule(HostWire::io(IoOpcode::kFlush, 0, 1, 0)));
  return input;
}

}  // namespace

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (unsigned bits : {0x00u, 0x04u, 0x0cu, 0x10u, 0x1cu}) {
    all.emplace_back("session-" + std::to_string(bits), session(bits));
  }
  Buffer hello{std::byte{1}};
  put_chunk(hello, false, HostWire::ic_req());
  put_chunk(hello, false, HostWire{}.connect(0, 15, 0xffff));
  put_chunk(hello, false, HostWire{}.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)));
  put_chunk(hello, false, HostWire{}.capsule(HostWire::property_set_cc(0)));
  all.emplace_back("hello", hello);
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 1) return 0;
  Options options(data[0]);
  Buffer input(size - 1);
  std::copy(data + 1, data + size, reinterpret_cast<uint8_t*>(input.data()));
  static Buffer memory(kMemoryBytes);
  TargetCore core(kLimits);
  Status added = core.add_subsystem(test::fake_subsystem(kMemoryBytes));
  BB_CHECK(added.ok(), "{}", added.to_string());
  int64_t left = 0;
  {
    auto admin = std::make_unique<Checked>(core, memory);
    auto queue = std::make_unique<Checked>(core, memory);
    if (options.prepared) prepare(*admin, *queue, options);
    Bytes rest(input);
    uint64_t now_ns = 2;
    while (rest.size() >= 2) {
      auto head = load_le<uint16_t>(rest.data());
      size_t length = std::min<size_t>(head & 0x3fff, rest.size() - 2);
      Bytes chunk = rest.subspan(2, length);
      rest = rest.subspan(2 + length);
      repair(chunk, options);
      ((head & 0x8000) != 0 ? *queue : *admin).send(chunk, ++now_ns);
      if ((head & 0x4000) != 0) core.expire(now_ns += 1'000'000'000);
    }
    admin.reset();
    BB_CHECK(core.controllers().empty(), "a controller outlived its admin queue");
    left = queue->target.buffers;
  }
  BB_CHECK(left >= 0, "buffers were given back twice");
  return 0;
}
