// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/wire.h"

#include <gtest/gtest.h>

namespace bb::io::nbd {
namespace {

std::string hex(ConstBytes bytes) {
  std::string text;
  for (std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

TEST(NbdWire, RequestRoundTrip) {
  Request request{.flags = kFua,
                  .command = Command::kWrite,
                  .cookie = 0x0102030405060708,
                  .offset_bytes = 0x1000,
                  .length_bytes = 0x200};
  std::byte bytes[kRequestBytes];
  encode_request(request, bytes);
  EXPECT_EQ(hex(bytes), "25609513000100010102030405060708000000000000100000000200");
  auto back = decode_request(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->flags, request.flags);
  EXPECT_EQ(back->command, request.command);
  EXPECT_EQ(back->cookie, request.cookie);
  EXPECT_EQ(back->offset_bytes, request.offset_bytes);
  EXPECT_EQ(back->length_bytes, request.length_bytes);
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(decode_request(bytes).has_value());
}

TEST(NbdWire, Replies) {
  std::byte bytes[kReplyHeaderMax];
  size_t length = encode_simple_reply(bytes, 7, Errno::kNoSpace);
  EXPECT_EQ(hex(ConstBytes(bytes, length)), "674466980000001c0000000000000007");
  length = encode_data_chunk(bytes, 7, 4096, 512);
  EXPECT_EQ(hex(ConstBytes(bytes, length)),
            "668e33ef0001000100000000000000070000020800000000000010"
            "00");
  std::vector<std::byte> grown;
  encode_error_chunk(grown, 7, Errno::kIo, "ab");
  EXPECT_EQ(hex(grown),
            "668e33ef0001800100000000000000070000000800000005"
            "00026162");
  grown.clear();
  EXPECT_EQ(encode_error_chunk(grown, 7, Errno::kIo, std::string(5000, 'x')),
            kChunkHeaderBytes + 6 + kErrorTextMax);
}

struct JudgeCase {
  const char* name;
  Request request;
  Verdict::Action action;
  Errno error = Errno::kNone;
  uint32_t payload_bytes = 0;
  bool read_only = false;
  bool structured = true;
  bool trim = true;
};

TEST(NbdWire, Judge) {
  using Action = Verdict::Action;
  constexpr uint64_t kSize = 1 << 20;
  auto request = [](Command command, uint64_t offset, uint32_t length, uint16_t flags = 0) {
    return Request{.flags = flags,
                   .command = command,
                   .cookie = 1,
                   .offset_bytes = offset,
                   .length_bytes = length};
  };
  auto unknown = static_cast<Command>(9);
  const JudgeCase cases[] = {
      {"read", request(Command::kRead, 512, 512), Action::kServe},
      {"read to the end", request(Command::kRead, kSize - 512, 512), Action::kServe},
      {"read DF", request(Command::kRead, 0, 512, kDf), Action::kServe},
      {"read DF without structured", request(Command::kRead, 0, 512, kDf), Action::kRefuse,
       Errno::kInvalid, 0, false, false},
      {"read beyond", request(Command::kRead, kSize - 512, 1024), Action::kRefuse, Errno::kInvalid},
      {"read far beyond", request(Command::kRead, UINT64_MAX - 511, 512), Action::kRefuse,
       Errno::kInvalid},
      {"read unaligned", request(Command::kRead, 1, 512), Action::kRefuse, Errno::kInvalid},
      {"read odd length", request(Command::kRead, 0, 511), Action::kRefuse, Errno::kInvalid},
      {"read nothing", request(Command::kRead, 0, 0), Action::kRefuse, Errno::kInvalid},
      {"read too much", request(Command::kRead, 0, kPayloadMax + 512), Action::kRefuse,
       Errno::kInvalid},
      {"read with NO_HOLE", request(Command::kRead, 0, 512, kNoHole), Action::kRefuse,
       Errno::kInvalid},
      {"write", request(Command::kWrite, 0, 512, kFua), Action::kServe, Errno::kNone, 512},
      {"write beyond", request(Command::kWrite, kSize, 512), Action::kRefuse, Errno::kNoSpace, 512},
      {"write unaligned", request(Command::kWrite, 0, 100), Action::kRefuse, Errno::kInvalid, 100},
      {"write read-only", request(Command::kWrite, 0, 512), Action::kRefuse, Errno::kPermission,
       512, true},
      {"write too much", request(Command::kWrite, 0, kPayloadMax + 512), Action::kRefuse,
       Errno::kInvalid, kPayloadMax + 512},
      {"write far too much", request(Command::kWrite, 0, kSkippedPayloadMax + 512), Action::kDrop},
      {"flush", request(Command::kFlush, 0, 0), Action::kServe},
      {"flush read-only", request(Command::kFlush, 0, 0), Action::kServe, Errno::kNone, 0, true},
      {"flush of a range", request(Command::kFlush, 0, 512), Action::kRefuse, Errno::kInvalid},
      {"trim", request(Command::kTrim, 0, kSize, kFua), Action::kServe},
      {"trim not offered", request(Command::kTrim, 0, 512), Action::kRefuse, Errno::kInvalid, 0,
       false, true, false},
      {"trim beyond", request(Command::kTrim, kSize, 512), Action::kRefuse, Errno::kInvalid},
      {"zeroes", request(Command::kWriteZeroes, 0, kSize, kNoHole | kFua), Action::kServe},
      {"zeroes beyond", request(Command::kWriteZeroes, kSize, 512), Action::kRefuse,
       Errno::kNoSpace},
      {"zeroes read-only", request(Command::kWriteZeroes, 0, 512), Action::kRefuse,
       Errno::kPermission, 0, true},
      {"fast zeroes", request(Command::kWriteZeroes, 0, 512, kFastZero), Action::kRefuse,
       Errno::kNotSupported},
      {"cache", request(Command::kCache, 0, 512), Action::kRefuse, Errno::kInvalid},
      {"block status", request(Command::kBlockStatus, 0, 512), Action::kRefuse, Errno::kInvalid},
      {"unknown", request(unknown, 0, 512), Action::kRefuse, Errno::kInvalid},
      {"goodbye", request(Command::kDisconnect, 0, 0), Action::kDisconnect},
  };
  for (const JudgeCase& each : cases) {
    ExportInfo device{
        .name = "d", .size_bytes = kSize, .read_only = each.read_only, .trim = each.trim};
    Verdict verdict = judge(device, each.structured, each.request);
    EXPECT_EQ(verdict.action, each.action) << each.name;
    EXPECT_EQ(verdict.error, each.error) << each.name << ": " << verdict.reason;
    EXPECT_EQ(verdict.payload_bytes, each.payload_bytes) << each.name;
  }
}

TEST(NbdWire, FlagsFollowTheDevice) {
  ExportInfo device{.size_bytes = 512};
  EXPECT_EQ(device.transmission_flags(false), 0x14d);
  EXPECT_EQ(device.transmission_flags(true), 0x1cd);
  device.read_only = true;
  EXPECT_EQ(device.transmission_flags(false), 0x14f);
  device.trim = true;
  EXPECT_EQ(device.transmission_flags(false), 0x16f);
}

TEST(NbdWire, ErrnosThatClientsUnderstand) {
  EXPECT_EQ(errno_of(Code::k_ok), Errno::kNone);
  EXPECT_EQ(errno_of(Code::k_no_space), Errno::kNoSpace);
  EXPECT_EQ(errno_of(Code::k_permission_denied), Errno::kPermission);
  EXPECT_EQ(errno_of(Code::k_bad_state), Errno::kShutdown);
  EXPECT_EQ(errno_of(Code::k_unavailable), Errno::kIo);
  EXPECT_EQ(errno_of(Code::k_corrupt), Errno::kIo);
}

}  // namespace
}  // namespace bb::io::nbd
