// SPDX-License-Identifier: Apache-2.0
// Status, bytes, uuid, prng: the small values under everything.
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "base/bytes.h"
#include "base/prng.h"
#include "base/status.h"
#include "base/uuid.h"

namespace bb {
namespace {

TEST(Status, CarriesCodeAndText) {
  Status none;
  EXPECT_TRUE(none.ok());
  EXPECT_EQ(none.code(), Code::k_ok);
  EXPECT_EQ(none.to_string(), "ok");
  EXPECT_TRUE(none.with_context("x").ok());
  Status bad = error(Code::k_not_found, "drive {}", 3);
  EXPECT_EQ(bad.to_string(), "drive 3 [not_found]");
  EXPECT_EQ(bad.with_context("array \"a\"").to_string(), "array \"a\": drive 3 [not_found]");
  Status copy = bad;
  bad = Status();
  EXPECT_EQ(copy.text(), "drive 3");
  copy = std::move(copy);  // NOLINT: on purpose
  EXPECT_EQ(copy.text(), "drive 3");
}

TEST(Status, CodesHaveOneTable) {
  std::set<std::string_view> names;
  for (uint8_t i = 0; i <= 16; ++i) {
    auto code = static_cast<Code>(i);
    EXPECT_TRUE(names.insert(code_name(code)).second);
    EXPECT_EQ(code_from_name(code_name(code)), code);
    EXPECT_FALSE(code_action(code).empty());
    EXPECT_EQ(code_exit_status(code) == 0, i == 0);
  }
  EXPECT_EQ(code_from_name("nope"), std::nullopt);
}

TEST(Status, CopiesMayGoToOtherThreads) {
  Status shared = error(Code::k_io_error, "shared");
  std::thread other([copy = shared] {
    for (int i = 0; i < 10000; ++i) {
      Status again = copy;
      EXPECT_EQ(again.code(), Code::k_io_error);
    }
  });
  for (int i = 0; i < 10000; ++i) {
    Status again = shared;
    EXPECT_EQ(again.code(), Code::k_io_error);
  }
  other.join();
}

Result<int> half(int value) {
  if (value % 2 != 0) return error(Code::k_invalid_argument, "{} is odd", value);
  return value / 2;
}
Result<int> quarter(int value) {
  BB_ASSIGN(int once, half(value));
  BB_TRY(half(once));
  return half(once);
}

TEST(Result, PassesErrorsOn) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).status().text(), "3 is odd");
  EXPECT_DEATH((void)quarter(6).value(), "value\\(\\) of an error: 3 is odd");
  EXPECT_DEATH((void)Result<int>(ok_status()).ok(), "needs an error");
}

TEST(Bytes, LoadsAndStoresInBothOrders) {
  std::byte memory[9]{};
  store_le<uint64_t>(memory + 1, 0x0102030405060708);
  EXPECT_EQ(memory[1], std::byte{8});
  EXPECT_EQ(load_le<uint64_t>(memory + 1), 0x0102030405060708u);
  EXPECT_EQ(load_be<uint64_t>(memory + 1), 0x0807060504030201u);
  store_be<uint16_t>(memory, 0xabcd);
  EXPECT_EQ(memory[0], std::byte{0xab});
  EXPECT_EQ(load_be<uint16_t>(memory), 0xabcd);
  EXPECT_EQ(load_le<uint8_t>(memory), 0xab);
}

TEST(Bytes, AllZeroSeesEveryByte) {
  EXPECT_TRUE(all_zero({}));
  std::vector<std::byte> memory(1000);
  EXPECT_TRUE(all_zero(memory));
  for (size_t i = 0; i < memory.size(); ++i) {
    memory[i] = std::byte{1};
    EXPECT_FALSE(all_zero(memory)) << i;
    memory[i] = std::byte{0};
  }
}

TEST(Uuid, PrintsAndParses) {
  std::string text = "01234567-89ab-cdef-0123-456789abcdef";
  EXPECT_EQ(Uuid::parse(text)->to_string(), text);
  EXPECT_EQ(Uuid::parse("01234567-89AB-CDEF-0123-456789ABCDEF")->to_string(), text);
  Prng prng(1);
  Uuid random = Uuid::random(prng);
  EXPECT_EQ(random.to_string()[14], '4');
  EXPECT_EQ(*Uuid::parse(random.to_string()), random);
  EXPECT_EQ(Uuid::from(random.bytes), random);
  EXPECT_FALSE(random.is_nil());
  EXPECT_TRUE(Uuid().is_nil());
  for (std::string_view bad :
       {"", "01234567-89ab-cdef-0123-456789abcde", "01234567-89ab-cdef-0123_456789abcdef",
        "0123456g-89ab-cdef-0123-456789abcdef"}) {
    EXPECT_EQ(Uuid::parse(bad).code(), Code::k_invalid_argument) << bad;
  }
}

TEST(Prng, IsTheSameEverywhere) {
  // Reference: splitmix64(42) into xoshiro256**, from the algorithms' published definitions.
  Prng a(42);
  Prng b(42);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
  EXPECT_EQ(Prng(42).next(), 1546998764402558742u);
  EXPECT_NE(Prng(1).next(), Prng(2).next());
}

TEST(Prng, StaysWithinItsLimits) {
  Prng prng(7);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    uint64_t x = prng.between(3, 7);
    EXPECT_TRUE(x >= 3 && x <= 7);
    seen.insert(x);
    double real = prng.real();
    EXPECT_TRUE(real >= 0 && real < 1);
  }
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_FALSE(prng.chance(0));
  EXPECT_TRUE(prng.chance(1));
  EXPECT_DEATH((void)prng.below(0), "below\\(0\\)");
  int hits = 0;
  for (int i = 0; i < 10000; ++i) hits += prng.chance(10) ? 1 : 0;
  EXPECT_NEAR(hits, 1000, 150);
}

}  // namespace
}  // namespace bb
