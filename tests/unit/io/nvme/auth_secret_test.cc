// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_secret.h"

#include <gtest/gtest.h>

#include "auth_vectors_types.h"
#include "hex.h"
#include "io/crypto/dh.h"
#include "io/nvme/auth_response.h"

namespace bb::io::nvme {
namespace {

std::string plain_hex(ConstBytes bytes) {
  std::string text = hex(bytes);
  std::erase(text, ' ');
  return text;
}

TEST(AuthSecret, ReadsWhatOthersWrite) {
  for (const test::SecretRow& row : test::kSecretRows) {
    auto secret = AuthSecret::parse(std::string(row.text) + "\n");
    ASSERT_TRUE(secret.ok()) << row.text << secret.status().to_string();
    EXPECT_EQ(secret->key.size(), row.length);
    EXPECT_EQ(secret->transform ? static_cast<unsigned>(*secret->transform) : 0, row.transform);
    EXPECT_EQ(plain_hex(secret->key_of(test::kHostNqn).bytes()), row.key_of_host) << row.text;
    EXPECT_EQ(secret->to_string(), row.text);
  }
}

TEST(AuthSecret, SaysWhatIsWrongAndNothingOfTheSecret) {
  const std::string good = test::kSecretRows[0].text;
  std::string flipped = good;
  flipped[20] = flipped[20] == 'A' ? 'B' : 'A';
  struct Row {
    std::string text;
    const char* error;
  };
  const char* shape =
      "not a DH-HMAC-CHAP secret: expected DHHC-1:hh:base64: in one line "
      "[invalid_argument]";
  for (const Row& row : {
           Row{"", shape},
           Row{"DHHC-1:00:", shape},
           Row{"DHHC-2" + good.substr(6), shape},
           Row{good.substr(0, good.size() - 1), shape},
           Row{"DHHC-1:04" + good.substr(9),
               "a DH-HMAC-CHAP secret with an unknown hash: known are 00, 01, 02 and 03 "
               "[invalid_argument]"},
           Row{"DHHC-1:10" + good.substr(9),
               "a DH-HMAC-CHAP secret with an unknown hash: known are 00, 01, 02 and 03 "
               "[invalid_argument]"},
           Row{"DHHC-1:00:AAA*:", "a DH-HMAC-CHAP secret that is not base64 [invalid_argument]"},
           Row{"DHHC-1:00:AAAAA:", "a DH-HMAC-CHAP secret that is not base64 [invalid_argument]"},
           Row{"DHHC-1:00:AAAB=A==:",
               "a DH-HMAC-CHAP secret that is not base64 [invalid_argument]"},
           Row{"DHHC-1:00:AB==:", "a DH-HMAC-CHAP secret that is not base64 [invalid_argument]"},
           Row{"DHHC-1:00:AAAA:",
               "a DH-HMAC-CHAP secret of 3 bytes, expected are 32, 48 or 64 and a checksum of 4 "
               "[invalid_argument]"},
           Row{flipped, "a DH-HMAC-CHAP secret whose checksum is wrong: mistyped? [corrupt]"},
           Row{good + std::string(100, 'A') + ":",
               "a DH-HMAC-CHAP secret of 160 characters, at most 128 [invalid_argument]"},
       }) {
    auto secret = AuthSecret::parse(row.text);
    ASSERT_FALSE(secret.ok()) << row.text;
    EXPECT_EQ(secret.status().to_string(), row.error) << row.text;
  }
}

TEST(Secret, ComparesBytesAndLengths) {
  auto one = unhex("00 01 02 03");
  auto other = unhex("00 01 02 04");
  EXPECT_TRUE(same_secret(one, one));
  EXPECT_FALSE(same_secret(one, other));
  EXPECT_FALSE(same_secret(one, ConstBytes(one).first(3)));
  EXPECT_TRUE(same_secret({}, {}));
}

TEST(Secret, Base64) {
  for (std::string_view text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    std::string encoded = base64_encode(as_bytes(text));
    Secret decoded;
    EXPECT_EQ(base64_decode(encoded, decoded), !text.empty()) << encoded;
    EXPECT_EQ(as_text(decoded.bytes()), text) << encoded;
  }
  EXPECT_EQ(base64_encode(as_bytes("fooba")), "Zm9vYmE=");  // RFC 4648 §10
  EXPECT_EQ(base64_encode(as_bytes("foob")), "Zm9vYg==");
}

TEST(DhExchange, AgreesWithThePowersItself) {
  for (const test::ProofRow& row : test::kProofRows) {
    if (row.group == 0 || row.hash != 1) continue;
    DhExchange exchange{.group = static_cast<DhGroup>(row.group),
                        .theirs = unhex(row.theirs),
                        .private_key = Secret(unhex(row.private_key))};
    exchange.compute();
    ASSERT_TRUE(exchange.status.ok()) << exchange.status.to_string();
    EXPECT_EQ(plain_hex(exchange.shared.bytes()), row.shared) << row.group;
  }
}

TEST(DhExchange, BothSidesGetTheSame) {
  DhExchange one{.group = DhGroup::kFfdhe2048};
  DhExchange other{.group = DhGroup::kFfdhe2048};
  one.compute();
  ASSERT_TRUE(one.status.ok()) << one.status.to_string();
  EXPECT_TRUE(one.shared.empty());
  other.theirs = one.ours;
  other.compute();
  one.theirs = other.ours;
  one.compute();
  ASSERT_TRUE(one.status.ok() && other.status.ok());
  EXPECT_EQ(one.ours.size(), 256u);
  EXPECT_TRUE(same_secret(one.shared.bytes(), other.shared.bytes()));
  EXPECT_EQ(one.shared.size(), 256u);
  EXPECT_NE(one.ours, other.ours);
}

TEST(DhExchange, RefusesValuesThatGiveTheSecretAway) {
  auto with = [](std::vector<std::byte> theirs) {
    DhExchange exchange{.group = DhGroup::kFfdhe2048, .theirs = std::move(theirs)};
    exchange.compute();
    return exchange.status.to_string();
  };
  std::vector<std::byte> value(256);
  EXPECT_EQ(with(value), "ffdhe2048: a public value out of range [invalid_argument]");
  value.back() = std::byte{1};
  EXPECT_EQ(with(value), "ffdhe2048: a public value out of range [invalid_argument]");
  EXPECT_EQ(with(std::vector<std::byte>(256, std::byte{0xff})),
            "ffdhe2048: a public value out of range [invalid_argument]");
  EXPECT_EQ(with(std::vector<std::byte>(255, std::byte{2})),
            "ffdhe2048: a public value of 255 bytes, needed are 256 [invalid_argument]");
}

TEST(AuthProof, AgreesWithTheFormula) {
  for (const test::ProofRow& row : test::kProofRows) {
    auto key = unhex(row.key);
    auto challenge = unhex(row.challenge);
    auto shared = unhex(row.shared);
    AuthProof proof{.hash = static_cast<Hash>(row.hash),
                    .key = key,
                    .challenge = challenge,
                    .shared = shared,
                    .sequence = 0x01020304,
                    .transaction = 0xabcd,
                    .host_nqn = test::kHostNqn,
                    .subsystem_nqn = test::kSubsystemNqn};
    EXPECT_EQ(plain_hex(proof.host_response().bytes()), row.host_response);
    EXPECT_EQ(plain_hex(proof.controller_response().bytes()), row.controller_response);
  }
}

}  // namespace
}  // namespace bb::io::nvme
