// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "base/crc32c.h"

namespace bb::io::nvme {
namespace {

using Copy = std::array<std::byte, kReservationRecordBytes>;

// The example of docs/formats/reservation.md.
ReservationRecord sample() {
  ReservationRecord record;
  record.nspace = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();
  record.sequence = 9;
  record.state.generation = 4;
  record.state.persistent = true;
  record.state.type = ReservationType::kWriteExclusiveRegistrants;
  record.state.registrants = {
      {Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value(), 0xabcd, 0x8899aabb},
      {Uuid::parse("a0a1a2a3-a4a5-46a7-a8a9-aaabacadaeaf").value(), 0x1234567890, 0}};
  record.state.holder = record.state.registrants[1].host;
  return record;
}

Copy encoded(const ReservationRecord& record) {
  Copy copy{};
  encode_record(record, copy);
  return copy;
}

void repair(Copy& copy) {
  store_le<uint32_t>(&copy[12], 0);
  store_le<uint32_t>(&copy[12], crc32c(copy));
}

TEST(ReservationRecord, ComesBackAsItWas) {
  auto back = decode_record(encoded(sample()));
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, sample());
  ReservationRecord full = sample();
  full.state.registrants.clear();
  for (size_t i = 0; i < kRegistrantsMax; ++i) {
    Uuid host;
    host.bytes[3] = static_cast<std::byte>(i + 1);
    full.state.registrants.push_back({host, i + 1, static_cast<HostTag>(i)});
  }
  full.state.holder = full.state.registrants.back().host;
  back = decode_record(encoded(full));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, full);
}

// What the first version wrote knows no owners, and has nothing where they are now.
TEST(ReservationRecord, OfTheFirstVersionIsRead) {
  ReservationRecord old = sample();
  for (Registrant& one : old.state.registrants) one.owner = 0;
  Copy copy = encoded(old);
  copy[8] = std::byte{1};
  repair(copy);
  auto back = decode_record(copy);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, old);
  copy = encoded(sample());
  copy[8] = std::byte{1};
  repair(copy);
  EXPECT_EQ(decode_record(copy).code(), Code::k_corrupt);
}

TEST(ReservationRecord, EveryFlippedBitIsSeen) {
  Copy good = encoded(sample());
  for (size_t at = 0; at < 128; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Copy bad = good;
      bad[at] ^= static_cast<std::byte>(1 << bit);
      EXPECT_FALSE(decode_record(bad).ok()) << at << " " << bit;
    }
  }
}

TEST(ReservationRecord, RefusesWhatCannotBe) {
  struct Case {
    const char* what;
    size_t at;
    uint8_t value;
    Code code;
  };
  for (const Case& one :
       {Case{"version", 8, 3, Code::k_not_supported}, Case{"sequence", 16, 0, Code::k_corrupt},
        Case{"type", 44, 7, Code::k_corrupt}, Case{"flags", 45, 2, Code::k_corrupt},
        Case{"count", 46, 129, Code::k_corrupt}, Case{"a count too low", 46, 1, Code::k_corrupt},
        Case{"holder", 48, 1, Code::k_corrupt}, Case{"order", 64, 0xff, Code::k_corrupt},
        Case{"rest", 4095, 1, Code::k_corrupt}, Case{"gap", 200, 1, Code::k_corrupt},
        Case{"an owner of nobody", 3144, 1, Code::k_corrupt},
        Case{"nobody holds", 44, 0, Code::k_corrupt}, Case{"all hold", 44, 5, Code::k_corrupt}}) {
    Copy copy = encoded(sample());
    copy[one.at] = static_cast<std::byte>(one.value);
    repair(copy);
    EXPECT_EQ(decode_record(copy).code(), one.code) << one.what;
  }
  EXPECT_EQ(decode_record(Copy{}).code(), Code::k_not_found);
  EXPECT_EQ(decode_record(ConstBytes(encoded(sample())).first(100)).code(), Code::k_corrupt);
}

// An update writes the copy that does not count, then the other: whichever write is torn, and
// wherever, what is read is the state before or the state after, and after the first the latter.
TEST(ReservationRecord, TornUpdateLeavesOneWholeCopy) {
  ReservationRecord before = sample();
  ReservationRecord after = sample();
  ++after.sequence;
  after.state = {.generation = 5, .persistent = true};
  const Copy old_copy = encoded(before), new_copy = encoded(after);
  for (int step = 0; step < 2; ++step) {
    for (size_t torn_at = 0; torn_at <= kReservationRecordBytes; torn_at += 8) {
      Copy copies[2] = {old_copy, old_copy};
      if (step == 1) copies[1] = new_copy;
      std::copy_n(new_copy.begin(), torn_at, copies[step == 0 ? 1 : 0].begin());
      auto choice = choose_record(before.nspace, copies[0], copies[1]);
      ASSERT_TRUE(choice.ok()) << choice.status().to_string();
      EXPECT_TRUE(choice->record == before || choice->record == after);
      if (step == 1) {
        EXPECT_EQ(choice->record, after) << "torn at " << torn_at;
      }
    }
  }
}

TEST(ReservationRecord, TornFirstWriteIsNone) {
  ReservationRecord first = sample();
  const Copy whole = encoded(first);
  for (size_t torn_at = 0; torn_at < 109; ++torn_at) {
    Copy copies[2] = {};
    std::copy_n(whole.begin(), torn_at, copies[0].begin());
    auto choice = choose_record(first.nspace, copies[0], copies[1]);
    ASSERT_TRUE(choice.ok()) << torn_at;
    EXPECT_EQ(choice->record.state, ReservationState());
    EXPECT_EQ(choice->next, 0);
  }
}

TEST(ReservationRecord, DamageIsNotTakenForNothing) {
  Copy good = encoded(sample()), bad = good;
  bad[70] ^= std::byte{1};
  Uuid nspace = sample().nspace;
  EXPECT_EQ(choose_record(nspace, bad, bad).code(), Code::k_corrupt);
  EXPECT_EQ(choose_record(nspace, Copy{}, bad).code(), Code::k_corrupt);
  EXPECT_EQ(choose_record(sample().state.holder, good, good).code(), Code::k_corrupt);
  Copy newer = good;
  newer[8] = std::byte{3};
  repair(newer);
  EXPECT_EQ(choose_record(nspace, good, newer).code(), Code::k_not_supported);
  auto choice = choose_record(nspace, bad, good);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->next, 0);
  EXPECT_EQ(choice->record, sample());
}

TEST(ReservationRecord, WorkedExampleOfTheDocument) {
  std::ifstream page(BB_DOCS "/formats/reservation.md");
  ASSERT_TRUE(page.good());
  Copy copy{};
  size_t shown = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.size() < 10 || line.compare(4, 4, "0000") != 0 || line[8] == ' ') continue;
    std::istringstream words(line);
    std::string word;
    words >> word;
    size_t at = std::stoul(word, nullptr, 16);
    while (words >> word && word.size() == 2) {
      ASSERT_LT(at, copy.size());
      copy[at++] = static_cast<std::byte>(std::stoul(word, nullptr, 16));
      ++shown;
    }
  }
  EXPECT_EQ(shown, 128u);
  auto record = decode_record(copy);
  ASSERT_TRUE(record.ok()) << record.status().to_string();
  EXPECT_EQ(*record, sample());
}

}  // namespace
}  // namespace bb::io::nvme
