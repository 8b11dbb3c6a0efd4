// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_message.h"

#include <gtest/gtest.h>

#include "hex.h"

namespace bb::io::nvme {
namespace {

std::vector<std::byte> filled(size_t length, int first) {
  std::vector<std::byte> bytes(length);
  for (size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return bytes;
}

std::vector<AuthMessage> samples() {
  return {
      AuthNegotiate{.transaction = 0x1234,
                    .hashes = {Hash::kSha256, Hash::kSha512},
                    .groups = {DhGroup::kNull, DhGroup::kFfdhe8192}},
      AuthChallenge{.transaction = 0x1234,
                    .hash = Hash::kSha384,
                    .group = DhGroup::kFfdhe2048,
                    .sequence = 0x01020304,
                    .challenge = filled(48, 1),
                    .dh_value = filled(256, 0)},
      AuthReply{.transaction = 0x1234,
                .sequence = 0x01020304,
                .response = filled(32, 1),
                .challenge = filled(32, 64),
                .dh_value = filled(384, 9)},
      AuthReply{.transaction = 1, .response = filled(64, 1)},
      AuthSuccess1{.transaction = 0x1234, .hash_length = 64, .response = filled(64, 1)},
      AuthSuccess1{.transaction = 0x1234, .hash_length = 32},
      AuthSuccess2{.transaction = 0x1234},
      AuthFailure{.transaction = 0x1234, .fault = AuthFault::kHashUnusable},
      AuthFailure{.from_host = true, .transaction = 2, .fault = AuthFault::kIncorrectMessage},
  };
}

TEST(AuthMessage, BytesAreThoseOfTheSpecification) {
  EXPECT_EQ(hex(encode_auth(samples()[0])),
            "00 00 00 00 34 12 00 01 01 00 02 02 01 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
            "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00 00 "
            "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
  auto challenge = encode_auth(samples()[1]);
  EXPECT_EQ(challenge.size(), 16u + 48 + 256);
  EXPECT_EQ(hex(ConstBytes(challenge).first(18)),
            "01 01 00 00 34 12 30 00 02 01 00 01 04 03 02 01 01 02");
  auto reply = encode_auth(samples()[2]);
  EXPECT_EQ(reply.size(), 16u + 32 + 32 + 384);
  EXPECT_EQ(hex(ConstBytes(reply).first(18)),
            "01 02 00 00 34 12 20 00 01 00 80 01 04 03 02 01 01 02");
  EXPECT_EQ(hex(ConstBytes(encode_auth(samples()[4])).first(17)),
            "01 03 00 00 34 12 40 00 01 00 00 00 00 00 00 00 01");
  EXPECT_EQ(encode_auth(samples()[5]).size(), 48u);
  EXPECT_EQ(hex(encode_auth(samples()[6])), "01 04 00 00 34 12 00 00 00 00 00 00 00 00 00 00");
  EXPECT_EQ(hex(encode_auth(samples()[7])), "00 f1 00 00 34 12 01 04");
  EXPECT_EQ(hex(encode_auth(samples()[8])), "00 f0 00 00 02 00 01 07");
}

TEST(AuthMessage, SurvivesTheWayThereAndBackAndNoLengthBelowItsOwn) {
  for (const AuthMessage& message : samples()) {
    auto bytes = encode_auth(message);
    auto decoded = decode_auth(bytes);
    ASSERT_TRUE(decoded.ok()) << auth_name(message) << decoded.status().to_string();
    EXPECT_EQ(auth_name(*decoded), auth_name(message));
    EXPECT_EQ(encode_auth(*decoded), bytes) << auth_name(message);
    auto padded = bytes;
    padded.resize(kAuthMessageMaxBytes);
    ASSERT_TRUE(decode_auth(padded).ok());
    EXPECT_EQ(encode_auth(*decode_auth(padded)), bytes);
    bool optional_tail = std::holds_alternative<AuthSuccess2>(message) ||
                         (std::holds_alternative<AuthSuccess1>(message) &&
                          std::get<AuthSuccess1>(message).response.empty());
    size_t need = optional_tail ? 16 : bytes.size();
    if (std::holds_alternative<AuthSuccess2>(message)) need = 8;
    for (size_t length = 0; length < need; ++length) {
      auto cut = decode_auth(ConstBytes(bytes).first(length));
      EXPECT_EQ(cut.code(), Code::k_invalid_argument) << auth_name(message) << length;
    }
  }
}

TEST(AuthMessage, RefusesWhatCannotBe) {
  struct Row {
    const char* bytes;
    const char* error;
  };
  for (const Row& row :
       {Row{"00 01 00 00 00 00 00 00",
            "an authentication message of type 0x00, id 0x01 [not_supported]"},
        Row{"02 00 00 00 00 00 00 00",
            "an authentication message of type 0x02, id 0x00 [not_supported]"},
        Row{"00 00 00 00 00 00 00 00", "AUTH_Negotiate without a protocol [invalid_argument]"},
        Row{"00 00 00 00 00 00 00 ff",
            "AUTH_Negotiate of 8 bytes, needed are 16328 [invalid_argument]"},
        Row{"01 01 00 00 00 00 20 00 04 00 00 00 00 00 00 00",
            "a challenge of 32 bytes with hash 4 [invalid_argument]"},
        Row{"01 01 00 00 00 00 21 00 01 00 00 00 00 00 00 00",
            "a challenge of 33 bytes with hash 1 [invalid_argument]"},
        Row{"01 01 00 00 00 00 20 00 01 06 00 00 00 00 00 00",
            "a challenge with 0 bytes for group 6 [invalid_argument]"},
        Row{"01 01 00 00 00 00 20 00 01 01 01 00 00 00 00 00",
            "a challenge with 1 bytes for group 1 [invalid_argument]"},
        Row{"01 02 00 00 00 00 1f 00 01 00 00 00 00 00 00 00",
            "a reply with a response of 31 bytes [invalid_argument]"},
        Row{"01 02 00 00 00 00 20 00 01 00 ff ff 00 00 00 00",
            "Reply of 16 bytes, needed are 65615 [invalid_argument]"},
        Row{"01 03 00 00 00 00 01 00 01 00 00 00 00 00 00 00",
            "a success with a response of 1 bytes [invalid_argument]"}}) {
    EXPECT_EQ(decode_auth(unhex(row.bytes)).status().to_string(), row.error) << row.bytes;
  }
  auto many = encode_auth(samples()[0]);
  many[10] = std::byte{31};
  EXPECT_EQ(decode_auth(many).status().text(),
            "AUTH_Negotiate with 31 hashes and 2 groups, at most 30");
}

TEST(AuthMessage, PassesOverWhatNewerHostsOffer) {
  auto bytes = encode_auth(samples()[0]);
  bytes[12] = std::byte{9};   // a hash nobody knows
  bytes[42] = std::byte{77};  // a group likewise
  auto message = decode_auth(bytes);
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(std::get<AuthNegotiate>(*message).hashes, std::vector{Hash::kSha512});
  EXPECT_EQ(std::get<AuthNegotiate>(*message).groups, std::vector{DhGroup::kFfdhe8192});
}

}  // namespace
}  // namespace bb::io::nvme
