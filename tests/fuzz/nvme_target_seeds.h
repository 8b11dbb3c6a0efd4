// SPDX-License-Identifier: Apache-2.0
// The first inputs of the target's fuzzer: sessions that reach what chance would not.
#pragma once

#include <initializer_list>

#include "support/nvme_fake.h"

namespace bb {

using io::nvme::AdminOpcode;
using io::nvme::IoOpcode;
using io::nvme::kFlagSgl;
using io::nvme::test::Buffer;

inline void put(Buffer& to, std::initializer_list<unsigned> bytes) {
  for (unsigned byte : bytes) to.push_back(static_cast<std::byte>(byte));
}
// A command with cdw10 and the data descriptor given.
inline void put_admin(Buffer& to, AdminOpcode opcode, uint32_t cdw10, uint32_t length,
                      unsigned nsid = 1) {
  put(to, {0x01, static_cast<unsigned>(opcode), 2 | 4 | 8 | 128, 2, nsid});
  for (int i = 0; i < 4; ++i) put(to, {(cdw10 >> (8 * i)) & 0xff});
  put(to, {length & 0xff, length >> 8, 0});
}
// The same on the I/O queue: block, count less one, length, in the capsule or not.
inline void put_io(Buffer& to, IoOpcode opcode, unsigned block, unsigned blocks, unsigned length,
                   unsigned kind = 0, unsigned id = 3) {
  put(to, {0x09, static_cast<unsigned>(opcode), 2 | 8 | 32 | 128, id, block, 0, 0, 0, blocks - 1, 0,
           0, 0, length & 0xff, length >> 8, kind});
}
// The controller is enabled, or reset.
inline void put_enable(Buffer& to, unsigned enable) {
  put(to, {0x01, 0x7f, 2 | 4 | 16 | 32, 5, 0, 0x14, 0, 0, 0, enable, 0, 0x46, 0});
}

inline Buffer admin_session(unsigned bits, unsigned more = 0) {
  Buffer input;
  put(input, {bits, more});
  for (uint32_t cns : {0u, 1u, 2u, 3u}) {
    put_admin(input, AdminOpcode::kIdentify, cns, 4096, cns == 2 ? 0 : 1);
  }
  for (uint32_t page : {0u, 1u, 2u, 3u, 4u, 5u, 0x12u, 0x70u}) {
    put_admin(input, AdminOpcode::kGetLogPage, page | (127u << 16), 512);
  }
  for (uint32_t feature : {7u, 0x0bu, 0x0fu}) {
    put_admin(input, AdminOpcode::kSetFeatures, feature, 0);
    put_admin(input, AdminOpcode::kGetFeatures, feature, 0);
  }
  put_admin(input, AdminOpcode::kAsyncEventRequest, 0, 0);
  put_admin(input, AdminOpcode::kAbort, 2u << 16, 0);
  put_admin(input, AdminOpcode::kKeepAlive, 0, 0);
  // All events on; one is waited for and comes (read-only from now on), another is aborted as the
  // controller is disabled and enabled again.
  put(input, {0x01, 9, 2 | 8 | 16, 4, 0x0b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff});
  put_admin(input, AdminOpcode::kAsyncEventRequest, 0, 0);
  put(input, {0x06});
  put_admin(input, AdminOpcode::kGetLogPage, 4 | (127u << 16), 512);
  put_admin(input, AdminOpcode::kAsyncEventRequest, 0, 0);
  for (unsigned enable : {0u, 1u}) put_enable(input, enable);
  put_admin(input, AdminOpcode::kIdentify, 1, 4096);
  return input;
}

// Compare and Write together, apart, and with a damaged second half; an Abort in between; Copy and
// Verify; a namespace more, a port that is closed for a while, and a write that waits for a pair.
inline Buffer fused_session(unsigned bits, unsigned more = 0) {
  Buffer input;
  put(input, {bits, more, 0x1b});  // the device keeps what it gets
  auto half = [&](unsigned flags, IoOpcode opcode, unsigned id) {
    put(input, {0x09, static_cast<unsigned>(opcode), 1 | 2 | 8 | 32 | 128, kFlagSgl | flags, id});
    put(input, {0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1});  // block 0, one block, in the capsule
  };
  auto abort = [&](unsigned id) { put_admin(input, AdminOpcode::kAbort, 1u | (id << 16), 0); };
  half(1, IoOpcode::kCompare, 10);
  half(2, IoOpcode::kWrite, 11);
  put_io(input, IoOpcode::kWrite, 0, 1, 512, 1, 12);  // waits for them
  put(input, {0x8b, 0, 0x8b, 0, 0x8b, 0});            // the device answers one after the other
  half(1, IoOpcode::kCompare, 13);
  abort(13);
  half(2, IoOpcode::kWrite, 14);
  half(1, IoOpcode::kCompare, 15);
  half(0, IoOpcode::kWrite, 16);
  half(1, IoOpcode::kCompare, 17);
  half(2, IoOpcode::kWrite, 18);
  abort(18);
  put(input, {0x0b, 0xa6});  // answers all; a second namespace
  put(input, {0x09, static_cast<unsigned>(IoOpcode::kVerify), 2 | 4 | 8 | 32, 20, 2, 0, 0, 0, 0});
  put(input, {7, 0, 0, 0});
  put(input, {0x09, static_cast<unsigned>(IoOpcode::kCopy), 2 | 8 | 32 | 128, 21, 4, 0, 0, 0});
  put(input, {0, 0, 0, 0, 32, 0, 1});  // one range to block 4, in the capsule
  put(input, {0xd6});
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  put(input, {0xf6, 0xc6});
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  return input;
}

inline Buffer io_session(unsigned bits, unsigned more = 0) {
  Buffer input;
  put(input, {bits, more});
  put_io(input, IoOpcode::kRead, 0, 8, 4096);
  put_io(input, IoOpcode::kWrite, 0, 1, 512, 1);
  put_io(input, IoOpcode::kCompare, 0, 1, 512, 1);
  put_io(input, IoOpcode::kWrite, 0, 2, 1024, 0, 9);
  put(input, {0x0a, 9, 0, 0, 0, 4});  // its data, in the slot that is always the next
  put(input, {0x09, 9, 2 | 8 | 16 | 128, 4, 0, 0, 0, 0, 4, 0, 0, 0, 16, 0, 1 | (16 << 2)});
  put(input, {0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  put(input, {0x1b});  // the device keeps what it gets, and memory runs out
  put_io(input, IoOpcode::kWriteZeroes, 0, 8, 0);
  put_io(input, IoOpcode::kFlush, 0, 1, 0);
  for (int i = 0; i < 3; ++i) put_io(input, IoOpcode::kRead, 8, 16, 8192);
  put(input, {0x8b, 1, 0x0b, 0x1b});  // answers one, then all, then keeps again
  put_io(input, IoOpcode::kRead, 8, 16, 8192);
  put(input, {0x37, 0x0b, 0x3f});  // the host comes anew while that is out: it waits for it
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  return input;
}

// Of one of the two connections, on its I/O queue: action and type, and the two keys.
inline void put_reserve(Buffer& to, unsigned peer, IoOpcode opcode, unsigned cdw10,
                        unsigned persist, unsigned first, unsigned second) {
  put(to, {peer << 3 | 1, static_cast<unsigned>(opcode), 2 | 8 | 128, 6, cdw10 & 0xff, cdw10 >> 8,
           0, persist << 6, 16, 0, 1 | (16 << 2)});
  put(to, {first, 0, 0, 0, 0, 0, 0, 0, second, 0, 0, 0, 0, 0, 0, 0});
}

// The one host registers and reserves by the I/O queue of the other connection, which then ends and
// comes back as a host of its own without an I/O queue; so all else is up to the fuzzer.
inline Buffer reservation_session(unsigned bits, unsigned more = 0) {
  Buffer input;
  put(input, {bits, more});
  put_reserve(input, 1, IoOpcode::kReservationRegister, 0, 3, 0, 1);
  put(input, {0x76});  // saves are held
  put_reserve(input, 1, IoOpcode::kReservationAcquire, 0x300, 0, 1, 0);
  put(input, {0x86});
  put_io(input, IoOpcode::kWrite, 0, 1, 512, 1);
  put(input, {0x09, 0x0e, 2 | 8 | 16 | 128, 7, 31, 0, 0, 0, 1, 0, 0, 0, 128, 0, 0});  // report
  put_admin(input, AdminOpcode::kGetFeatures, 0x83, 0);
  put_admin(input, AdminOpcode::kSetFeatures, 0x82, 0);
  put(input, {0x1b});  // the device keeps a write while the reservation is preempted
  put_io(input, IoOpcode::kWrite, 0, 1, 512, 1, 8);
  put_reserve(input, 1, IoOpcode::kReservationAcquire, 0x102, 0, 1, 1);
  put(input, {0x8b, 0, 0x0b});
  put_reserve(input, 1, IoOpcode::kReservationRelease, 1, 0, 1, 0);
  put_admin(input, AdminOpcode::kGetLogPage, 0x80 | (15u << 16), 64);
  return input;
}

// Writes so long that their data are received where they belong. The last of the data come after
// an Abort of the command, after the connection's end, and after that of its controller.
inline Buffer direct_session(unsigned bits) {
  Buffer input;
  put(input, {bits, 0x01});
  auto write = [&](unsigned late_low, unsigned late_high) {
    put_io(input, IoOpcode::kWrite, 0, 64, 32768, 0, 9);
    put(input, {0x8a, 9, 0xff, 0, 0, 0x80, late_low, late_high});
  };
  write(0, 0);
  put_io(input, IoOpcode::kRead, 0, 64, 32768);
  write(0x20, 0x4e);
  put_admin(input, AdminOpcode::kAbort, 1u | (9u << 16), 0);
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  write(0x20, 0x4e);
  put(input, {0x66, 0x3f});  // it ends, and its host comes anew
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  write(0x20, 0x4e);
  put_enable(input, 0);
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  return input;
}

// Reads of memory that is lent: by sockets that have room for all, for a part, and for nothing;
// with writes behind them, which wait; and while the connection is lost or the device changes.
inline Buffer lent_session(unsigned bits, unsigned more = 0) {
  Buffer input;
  put(input, {bits, more | 0x20});
  auto room = [&](unsigned bytes, unsigned slow) {
    put(input, {0x4c | slow << 4, bytes & 0xff, bytes >> 8});
  };
  auto reads = [&] {
    put(input, {0x1b});
    put_io(input, IoOpcode::kRead, 0, 8, 4096, 0, 3);
    put_io(input, IoOpcode::kRead, 4, 2, 1024, 0, 4);
    put_io(input, IoOpcode::kWrite, 4, 1, 512, 1, 5);
    put_io(input, IoOpcode::kRead, 4, 1, 512, 0, 6);
  };
  reads();
  put(input, {0x8b, 0, 0x8b, 1, 0x0b});  // answers two, one by one, then the others
  for (unsigned bytes : {0u, 24u, 3000u, 4200u, 6000u}) {
    reads();
    room(bytes, 1);
    put(input, {0x0b});
    put_io(input, IoOpcode::kRead, 8, 8, 4096, 0, 7);
    room(0xfff0, 0);
  }
  for (unsigned block : {0u, 16u, 32u}) put_io(input, IoOpcode::kRead, block, 16, 8192, 0, 8);
  reads();
  room(0xffff, 0);
  put(input, {0x0b});
  room(0xffff, 0);
  room(0xfffe, 0);
  reads();
  put(input, {0x0b});
  return input;
}

// On which of the connections, and what; see Session::authenticate().
inline void put_proof(Buffer& to, unsigned peer, std::initializer_list<unsigned> turns) {
  for (unsigned turn : turns) {
    put(to, {0x84 | peer << 3, turn});
    if (turn == 1) put(to, {0, 0x10});
    if (turn == 3) put(to, {20, 0, 1});
  }
}

// A host proves itself on both queues, turn by turn, and again while it works; the key exchanges
// take their time, and in one of them the command is aborted.
inline Buffer proof_session(unsigned more) {
  Buffer input;
  put(input, {0, more});
  put_admin(input, AdminOpcode::kIdentify, 1, 4096);  // too early
  put_proof(input, 0, {0, 0, 0, 0, 0});
  put_enable(input, 1);
  put_admin(input, AdminOpcode::kIdentify, 1, 4096);
  put_io(input, IoOpcode::kRead, 0, 1, 512);  // too early
  put_proof(input, 1, {5});
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  put_proof(input, 0, {7, 0, 0, 0, 0, 0});
  put(input, {0x24});
  put_proof(input, 0, {7, 0});
  put_admin(input, AdminOpcode::kAbort, 9u << 16, 0);
  put_proof(input, 0, {1, 0});
  put(input, {0x04});
  put_proof(input, 0, {0, 0, 0});
  put_io(input, IoOpcode::kWrite, 0, 1, 512, 1);
  return input;
}

// Wrong secrets, changed messages, those of another connection, those that nobody asked for, and a
// connection that ends while its key exchange is computed.
inline Buffer strangers_session(unsigned more) {
  Buffer input;
  put(input, {0, more});
  put_proof(input, 0, {15, 5, 1, 1});
  put(input, {0x77});
  put_proof(input, 0, {0, 0, 3, 1});
  put(input, {0x77});
  put_proof(input, 0, {1, 0, 0, 0, 6});
  put(input, {0x77});
  put_proof(input, 0, {0, 0, 4, 1, 1});
  put(input, {0x77, 0x84, 2, 8, 0, 0, 0, 0, 1, 0, 0, 0});  // AUTH_Negotiate without a protocol
  put_proof(input, 0, {1});
  put(input, {0x77, 0x24});
  put_proof(input, 0, {0});
  put(input, {0x56, 0x04, 0x77});
  put_proof(input, 0, {5});
  put_enable(input, 1);
  put_proof(input, 1, {15, 5});
  put_io(input, IoOpcode::kRead, 0, 1, 512);
  return input;
}

// A discovery controller is told of a subsystem that goes and of one that comes, and reads the log.
inline Buffer discovery_session() {
  Buffer input;
  put(input, {0x80, 0});
  put(input, {0x01, 9, 2 | 8 | 16, 4, 0x0b, 0, 0, 0, 0, 0, 0, 0x80});
  for (unsigned change : {0x36u, 0x46u}) {
    put_admin(input, AdminOpcode::kAsyncEventRequest, 0, 0, 0);
    put(input, {change});
    put_admin(input, AdminOpcode::kGetLogPage, 0x70 | (255u << 16), 1024, 0);
    put_admin(input, AdminOpcode::kGetLogPage, 0x70 | (1023u << 16), 4096, 0);
  }
  put_admin(input, AdminOpcode::kKeepAlive, 0, 0, 0);
  put_admin(input, AdminOpcode::kIdentify, 1, 4096, 0);
  put(input, {0x0f, 0});  // one with persistent connections, and time passes
  put(input, {0x75});
  return input;
}

}  // namespace bb
