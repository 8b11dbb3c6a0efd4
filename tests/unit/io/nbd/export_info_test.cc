// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/export_info.h"

#include <gtest/gtest.h>

namespace bb::io::nbd {
namespace {

struct JudgeCase {
  const char* name;
  Request request;
  Verdict::Action action;
  Errno error = Errno::kNone;
  uint32_t payload_bytes = 0;
  bool read_only = false;
  Agreed agreed = {.framing = Framing::kStructured, .allocation = true};
  bool trim = true;
};

using Action = Verdict::Action;
constexpr uint64_t kSize = 1 << 20;

Request request(Command command, uint64_t offset, uint64_t length, uint16_t flags = 0) {
  return {.flags = flags,
          .command = command,
          .cookie = 1,
          .offset_bytes = offset,
          .length_bytes = length};
}

constexpr Agreed kSimple{};
constexpr Agreed kExtended{.framing = Framing::kExtended, .allocation = true};
constexpr auto kUnknown = static_cast<Command>(9);
const JudgeCase kCases[] = {
    {"read", request(Command::kRead, 512, 512), Action::kServe},
    {"read to the end", request(Command::kRead, kSize - 512, 512), Action::kServe},
    {"read DF", request(Command::kRead, 0, 512, kDf), Action::kServe},
    {"read DF without structured", request(Command::kRead, 0, 512, kDf), Action::kRefuse,
     Errno::kInvalid, 0, false, kSimple},
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
    {"write read-only", request(Command::kWrite, 0, 512), Action::kRefuse, Errno::kPermission, 512,
     true},
    {"write too much", request(Command::kWrite, 0, kPayloadMax + 512), Action::kRefuse,
     Errno::kInvalid, kPayloadMax + 512},
    {"write far too much", request(Command::kWrite, 0, kSkippedPayloadMax + 512), Action::kDrop},
    {"flush", request(Command::kFlush, 0, 0), Action::kServe},
    {"flush read-only", request(Command::kFlush, 0, 0), Action::kServe, Errno::kNone, 0, true},
    {"flush of a range", request(Command::kFlush, 0, 512), Action::kRefuse, Errno::kInvalid},
    {"trim", request(Command::kTrim, 0, kSize, kFua), Action::kServe},
    {"trim not offered", request(Command::kTrim, 0, 512), Action::kRefuse, Errno::kInvalid, 0,
     false, kSimple, false},
    {"trim beyond", request(Command::kTrim, kSize, 512), Action::kRefuse, Errno::kInvalid},
    {"zeroes", request(Command::kWriteZeroes, 0, kSize, kNoHole | kFua), Action::kServe},
    {"zeroes beyond", request(Command::kWriteZeroes, kSize, 512), Action::kRefuse, Errno::kNoSpace},
    {"zeroes read-only", request(Command::kWriteZeroes, 0, 512), Action::kRefuse,
     Errno::kPermission, 0, true},
    {"trim read-only", request(Command::kTrim, 0, 512), Action::kRefuse, Errno::kPermission, 0,
     true, kSimple, false},
    {"fast zeroes", request(Command::kWriteZeroes, 0, 512, kFastZero), Action::kServe},
    {"cache", request(Command::kCache, 0, kSize), Action::kServe, Errno::kNone, 0, true},
    {"cache beyond", request(Command::kCache, kSize, 512), Action::kRefuse, Errno::kInvalid},
    {"block status", request(Command::kBlockStatus, 0, kSize, kReqOne), Action::kServe,
     Errno::kNone, 0, true},
    {"block status beyond", request(Command::kBlockStatus, 512, kSize), Action::kRefuse,
     Errno::kInvalid},
    {"block status without a context",
     request(Command::kBlockStatus, 0, 512),
     Action::kRefuse,
     Errno::kInvalid,
     0,
     false,
     {.framing = Framing::kStructured}},
    {"payload length unheard of", request(Command::kWrite, 0, 512, kPayloadLength), Action::kRefuse,
     Errno::kInvalid, 512},
    {"write, extended", request(Command::kWrite, 0, 512, kPayloadLength), Action::kServe,
     Errno::kNone, 512, false, kExtended},
    {"write, extended, unannounced", request(Command::kWrite, 0, 512), Action::kServe, Errno::kNone,
     512, false, kExtended},
    {"status of chosen contexts", request(Command::kBlockStatus, 0, 512, kPayloadLength),
     Action::kRefuse, Errno::kInvalid, 512, false, kExtended},
    {"unknown with a payload", request(kUnknown, 0, 512, kPayloadLength), Action::kRefuse,
     Errno::kInvalid, 512, false, kExtended},
    {"payload too large", request(Command::kTrim, 0, 1ull << 40, kPayloadLength), Action::kDrop,
     Errno::kNone, 0, false, kExtended},
    {"beyond 32 bits", request(Command::kTrim, 0, 1ull << 40), Action::kRefuse, Errno::kInvalid, 0,
     false, kExtended},
    {"read beyond 32 bits", request(Command::kRead, 0, 1ull << 40), Action::kRefuse,
     Errno::kInvalid, 0, false, kExtended},
    {"unknown", request(kUnknown, 0, 512), Action::kRefuse, Errno::kInvalid},
    {"goodbye", request(Command::kDisconnect, 0, 0), Action::kDisconnect},
};

TEST(NbdExport, Judge) {
  for (const JudgeCase& each : kCases) {
    ExportInfo device{
        .name = "d", .size_bytes = kSize, .read_only = each.read_only, .trim = each.trim};
    Verdict verdict = judge(device, each.agreed, each.request);
    EXPECT_EQ(verdict.action, each.action) << each.name;
    EXPECT_EQ(verdict.error, each.error) << each.name << ": " << verdict.reason;
    EXPECT_EQ(verdict.payload_bytes, each.payload_bytes) << each.name;
  }
}

TEST(NbdExport, FlagsFollowTheDevice) {
  ExportInfo device{.size_bytes = 512};
  EXPECT_EQ(device.transmission_flags(Framing::kSimple), 0xd4d);
  EXPECT_EQ(device.transmission_flags(Framing::kStructured), 0xdcd);
  device.trim = true;
  EXPECT_EQ(device.transmission_flags(Framing::kExtended), 0xded);
  device.read_only = true;
  EXPECT_EQ(device.transmission_flags(Framing::kSimple), 0x50f);
}

}  // namespace
}  // namespace bb::io::nbd
