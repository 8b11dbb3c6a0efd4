// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive_label.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "backplane/claim_rules.h"

namespace bb::backplane {
namespace {

using Copy = std::array<std::byte, kLabelSizeBytes>;

DriveLabel sample() {
  DriveLabel label;
  label.generation = 7;
  label.drive = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();
  label.data_offset_bytes = 1048576;
  label.data_size_bytes = 1072693248;
  label.block_size_bytes = 4096;
  label.serial = "SN-0001";
  label.model = "file";
  label.claim = {.owned = true,
                 .owner = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value(),
                 .owner_name = "dp-1",
                 .host_nqn = "nqn.2026-11.io.blockbridge:host:0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0",
                 .epoch = 3,
                 .array = Uuid::parse("a0a1a2a3-a4a5-46a7-a8a9-aaabacadaeaf").value(),
                 .array_name = "db"};
  return label;
}

Copy encoded(const DriveLabel& label) {
  Copy copy{};
  encode_label(label, copy);
  return copy;
}

TEST(DriveLabel, RoundTrip) {
  DriveLabel free = sample();
  free.claim = {};
  DriveLabel full = sample();
  full.serial = std::string(kSerialMaxBytes, 's');
  full.model = std::string(kModelMaxBytes, 'm');
  full.claim.host_nqn = "nqn." + std::string(kHostNqnMaxBytes - 4, 'h');
  full.claim.owner_name = std::string(kNameMaxBytes, 'o');
  full.claim.array_name = std::string(kNameMaxBytes, 'a');
  for (const DriveLabel& label : {sample(), free, full}) {
    Result<DriveLabel> back = decode_label(encoded(label));
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    EXPECT_EQ(*back, label);
  }
}

TEST(DriveLabel, EveryDamagedByteIsNoticed) {
  const Copy whole = encoded(sample());
  for (size_t at = 0; at < whole.size(); ++at) {
    Copy damaged = whole;
    damaged[at] ^= std::byte{0x10};
    Result<DriveLabel> back = decode_label(damaged);
    ASSERT_FALSE(back.ok()) << "byte " << at;
    EXPECT_EQ(back.code(), at < 8 ? Code::k_not_found : Code::k_corrupt) << "byte " << at;
  }
}

TEST(DriveLabel, TextsThatDoNotFit) {
  struct Case {
    void (*change)(DriveLabel*);
    const char* text;
  };
  for (const Case& one :
       {Case{[](DriveLabel* l) { l->serial = std::string(21, 'x'); },
             "serial of 21 bytes (max 20)"},
        Case{[](DriveLabel* l) { l->model = "a\nb"; }, "model has characters other than"},
        Case{[](DriveLabel* l) { l->claim.array_name = std::string(65, 'x'); },
             "array name of 65 bytes (max 64)"}}) {
    DriveLabel label = sample();
    one.change(&label);
    Status status = check_label(label);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), Code::k_invalid_argument);
    EXPECT_NE(status.text().find(one.text), std::string::npos) << status.text();
  }
}

TEST(DriveLabel, NewerWholeCopyCounts) {
  DriveLabel old = sample(), young = sample(), other = sample();
  young.generation = 8;
  young.claim.epoch = 4;
  other.drive = Uuid::parse("11112233-4455-4677-8899-aabbccddeeff").value();
  Copy blank{}, torn = encoded(young), future = encoded(young);
  std::fill(torn.begin() + 512, torn.end(), std::byte{0});
  future[8] = std::byte{2};  // the checksum then fails, too
  struct Case {
    const char* name;
    Copy a, b;
    Code code;
    uint64_t epoch;
    int newer;
  };
  for (const Case& one : {Case{"b newer", encoded(old), encoded(young), Code::k_ok, 4, 1},
                          Case{"a newer", encoded(young), encoded(old), Code::k_ok, 4, 0},
                          Case{"equal", encoded(old), encoded(old), Code::k_ok, 3, 0},
                          Case{"newer torn", encoded(old), torn, Code::k_ok, 3, 0},
                          Case{"a torn", torn, encoded(old), Code::k_ok, 3, 1},
                          Case{"b never written", encoded(old), blank, Code::k_ok, 3, 0},
                          Case{"both torn", torn, torn, Code::k_corrupt, 0, 0},
                          Case{"torn and blank", torn, blank, Code::k_corrupt, 0, 0},
                          Case{"blank and torn", blank, torn, Code::k_corrupt, 0, 0},
                          Case{"two drives", encoded(old), encoded(other), Code::k_corrupt, 0, 0},
                          Case{"blank", blank, blank, Code::k_not_found, 0, 0}}) {
    Result<LabelChoice> choice = choose_label(one.a, one.b);
    EXPECT_EQ(choice.code(), one.code) << one.name;
    if (!choice.ok()) continue;
    EXPECT_EQ(choice->label.claim.epoch, one.epoch) << one.name;
    EXPECT_EQ(choice->newer, one.newer) << one.name;
  }
}

// An update writes the older copy, flushes, then the other: whichever write is torn, and wherever,
// what is read afterwards is the label before or the label after, never neither.
TEST(DriveLabel, TornUpdateLeavesOneWholeCopy) {
  DriveLabel before = sample(), after = sample();
  after.generation = before.generation + 1;
  after.claim = {};
  const Copy old_copy = encoded(before), new_copy = encoded(after);
  for (int step = 0; step < 2; ++step) {
    for (size_t torn_at = 0; torn_at <= kLabelSizeBytes; torn_at += 64) {
      Copy copies[2] = {old_copy, old_copy};
      if (step == 1) copies[1] = new_copy;
      Copy& writing = copies[step == 0 ? 1 : 0];
      std::copy_n(new_copy.begin(), torn_at, writing.begin());
      Result<LabelChoice> choice = choose_label(copies[0], copies[1]);
      ASSERT_TRUE(choice.ok()) << "step " << step << " torn at " << torn_at;
      EXPECT_TRUE(choice->label == before || choice->label == after);
      if (step == 1) {
        EXPECT_EQ(choice->label, after) << "torn at " << torn_at;
      }
    }
  }
}

// docs/formats/claim.md shows a label as hex: it is decoded here, so the page cannot drift away.
TEST(DriveLabel, WorkedExampleOfTheDocument) {
  std::ifstream page(BB_DOCS "/formats/claim.md");
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
  EXPECT_GE(shown, 256u);
  Result<DriveLabel> label = decode_label(copy);
  ASSERT_TRUE(label.ok()) << label.status().to_string();
  EXPECT_EQ(*label, sample());
}

}  // namespace
}  // namespace bb::backplane
