// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_codec.h"

#include <gtest/gtest.h>

#include <array>

#include "io/nvme/hex.h"

namespace bb::io::nvme {
namespace {

std::vector<std::byte> keys() { return unhex("0102030405060708 1112131415161718"); }

TEST(ReservationCodec, Register) {
  Sqe sqe{.cdw10 = 0xc000000a};
  auto command = decode_register(sqe, keys());
  ASSERT_TRUE(command.has_value());
  EXPECT_EQ(command->action, RegisterAction::kReplace);
  EXPECT_TRUE(command->ignore_key);
  EXPECT_EQ(command->persist, PersistChange::kOn);
  EXPECT_EQ(command->current_key, 0x0807060504030201u);
  EXPECT_EQ(command->new_key, 0x1817161514131211u);
  std::array<std::byte, 16> data{};
  EXPECT_EQ(encode(*command, data), sqe.cdw10);
  EXPECT_EQ(hex(data), hex(keys()));
}

// Values of a field that the specification reserves, and IEKEY where it is not allowed.
TEST(ReservationCodec, RefusesWhatIsReserved) {
  for (uint32_t action = 3; action < 8; ++action)
    EXPECT_FALSE(decode_register({.cdw10 = action}, keys()).has_value()) << action;
  EXPECT_FALSE(decode_register({.cdw10 = 0x40000000}, keys()).has_value());
  for (uint32_t action = 3; action < 8; ++action)
    EXPECT_FALSE(decode_acquire({.cdw10 = action | 0x100}, keys()).has_value()) << action;
  EXPECT_FALSE(decode_acquire({.cdw10 = 0x108}, keys()).has_value());
  for (uint32_t type = 0; type < 256; ++type) {
    EXPECT_EQ(decode_acquire({.cdw10 = type << 8}, keys()).has_value(), type >= 1 && type <= 6);
    EXPECT_EQ(decode_release({.cdw10 = type << 8}, keys()).has_value(), type <= 6);
    EXPECT_TRUE(decode_release({.cdw10 = 1 | type << 8}, keys()).has_value());
  }
  for (uint32_t action = 2; action < 8; ++action)
    EXPECT_FALSE(decode_release({.cdw10 = action | 0x100}, keys()).has_value()) << action;
  EXPECT_FALSE(decode_release({.cdw10 = 0x108}, keys()).has_value());
}

TEST(ReservationCodec, AcquireAndRelease) {
  auto acquire = decode_acquire({.cdw10 = 0x602}, keys());
  ASSERT_TRUE(acquire.has_value());
  EXPECT_EQ(acquire->action, AcquireAction::kPreemptAndAbort);
  EXPECT_EQ(acquire->type, ReservationType::kExclusiveAccessAll);
  EXPECT_EQ(acquire->preempt_key, 0x1817161514131211u);
  std::array<std::byte, 16> data{};
  EXPECT_EQ(encode(*acquire, data), 0x602u);
  EXPECT_EQ(hex(data), hex(keys()));
  auto release = decode_release({.cdw10 = 0x300}, keys());
  ASSERT_TRUE(release.has_value());
  EXPECT_EQ(release->action, ReleaseAction::kRelease);
  EXPECT_EQ(release->type, ReservationType::kWriteExclusiveRegistrants);
  EXPECT_EQ(release->current_key, 0x0807060504030201u);
  EXPECT_EQ(encode(*release, data), 0x300u);
}

TEST(ReservationCodec, Report) {
  ReservationState state{
      .generation = 0x01020304, .persistent = true, .type = ReservationType::kExclusiveAccess};
  Uuid a = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();
  Uuid b = Uuid::parse("f0112233-4455-4677-8899-aabbccddeeff").value();
  state.registrants = {{a, 0xaa}, {b, 0xbb}};
  state.holder = b;
  EXPECT_EQ(hex(encode_report(state, false)),
            "04 03 02 01 02 02 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
            "ff ff 00 00 00 00 00 00 00 11 22 33 44 55 46 77 aa 00 00 00 00 00 00 00 "
            "ff ff 01 00 00 00 00 00 f0 11 22 33 44 55 46 77 bb 00 00 00 00 00 00 00");
  std::vector<std::byte> extended = encode_report(state, true);
  ASSERT_EQ(extended.size(), 192u);
  EXPECT_EQ(hex(ConstBytes(extended).subspan(128, 32)),
            "ff ff 01 00 00 00 00 00 bb 00 00 00 00 00 00 00 "
            "f0 11 22 33 44 55 46 77 88 99 aa bb cc dd ee ff");
  ReportCommand report = decode_report({.cdw10 = 0xffffffff, .cdw11 = 1});
  EXPECT_TRUE(report.extended);
  EXPECT_EQ(report.length_bytes, uint64_t{4} << 32);
}

TEST(ReservationCodec, LogPage) {
  ReservationLogPage page{
      .count = 3, .type = NotificationType::kReservationPreempted, .more = 2, .nsid = 7};
  std::vector<std::byte> log = encode_reservation_log(page);
  EXPECT_EQ(hex(ConstBytes(log).first(17)), "03 00 00 00 00 00 00 00 03 02 00 00 07 00 00 00 00");
  EXPECT_TRUE(all_zero(encode_reservation_log({.nsid = 7})));
  EXPECT_EQ(reservation_capabilities(true), 0xff);
  EXPECT_EQ(reservation_capabilities(false), 0xfe);
}

// What a controller tells is what a host reads; what ends early or names no type is refused.
TEST(ReservationCodec, ReportThereAndBack) {
  ReservationState state{
      .generation = 9, .persistent = true, .type = ReservationType::kExclusiveAccess};
  for (uint8_t i = 1; i <= 3; ++i) {
    Registrant& one = state.registrants.emplace_back();
    one.host.bytes[15] = std::byte{i};
    one.key = 0x1000u + i;
  }
  state.holder = state.registrants[1].host;
  std::vector<std::byte> data = encode_report(state, true);
  EXPECT_EQ(report_bytes(data), data.size());
  auto report = decode_report(data);
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_EQ(report->generation, 9u);
  EXPECT_TRUE(report->persistent);
  EXPECT_EQ(report->type, ReservationType::kExclusiveAccess);
  ASSERT_EQ(report->hosts.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(report->hosts[i].host, state.registrants[i].host);
    EXPECT_EQ(report->hosts[i].key, state.registrants[i].key);
    EXPECT_EQ(report->hosts[i].holds, i == 1);
  }
  EXPECT_EQ(decode_report(ConstBytes(data).first(data.size() - 1)).code(), Code::k_io_error);
  data[4] = std::byte{7};
  EXPECT_EQ(decode_report(data).code(), Code::k_io_error);
}

}  // namespace
}  // namespace bb::io::nvme
