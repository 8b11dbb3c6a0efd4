// SPDX-License-Identifier: Apache-2.0
#include "raid/parity.h"

#include <gtest/gtest.h>

#include <bit>

#include "base/prng.h"
#include "io/buffer.h"

namespace bb::raid {
namespace {

constexpr size_t kBytes = 96;  // no multiple of what vector code likes best

// The field's product, bit by bit from its polynomial.
uint8_t product(uint8_t a, uint8_t b) {
  unsigned sum = 0;
  unsigned shifted = a;
  for (; b != 0; b = static_cast<uint8_t>(b >> 1)) {
    if ((b & 1) != 0) sum ^= shifted;
    shifted <<= 1;
    if ((shifted & 0x100) != 0) shifted ^= 0x11d;
  }
  return static_cast<uint8_t>(sum);
}

struct Row {
  Row(uint32_t data, uint32_t parity, uint64_t seed)
      : code(data, parity), memory((data + parity) * kBytes) {
    Prng prng(seed);
    for (uint32_t i = 0; i < data + parity; ++i) {
      blocks.push_back(memory.data() + i * kBytes);
      for (size_t at = 0; at < kBytes; ++at) blocks[i][at] = static_cast<std::byte>(prng.next());
    }
    code.encode(blocks.data(), blocks.data() + data, kBytes);
  }
  std::byte expected(uint32_t which, size_t at) const {
    uint8_t sum = 0;
    uint8_t power = 1;
    for (uint32_t i = 0; i < code.data(); ++i) {
      sum ^= product(which == 0 ? uint8_t{1} : power, static_cast<uint8_t>(blocks[i][at]));
      power = product(power, 2);
    }
    return static_cast<std::byte>(sum);
  }
  void expect_parity_right() const {
    for (uint32_t which = 0; which < code.parity(); ++which) {
      for (size_t at = 0; at < kBytes; ++at) {
        ASSERT_EQ(blocks[code.data() + which][at], expected(which, at))
            << code.data() << "+" << code.parity() << " parity " << which << " at " << at;
      }
    }
  }

  ParityCode code;
  io::AlignedBuffer memory;
  std::vector<std::byte*> blocks;
};

TEST(Parity, IsTheSumAndTheWeightedSum) {
  for (uint32_t parity = 1; parity <= 2; ++parity) {
    for (uint32_t data : {1u, 2u, 3u, 4u, 8u, 17u, 62u}) {
      Row row(data, parity, data);
      row.expect_parity_right();
    }
  }
}

TEST(Parity, AnUpdateIsWhatEncodingAnewGives) {
  for (uint32_t parity = 1; parity <= 2; ++parity) {
    for (uint32_t index = 0; index < 9; ++index) {
      Row row(9, parity, index);
      io::AlignedBuffer delta(kBytes);
      for (size_t at = 0; at < kBytes; ++at) delta.data()[at] = static_cast<std::byte>(at * 7);
      row.code.update(index, delta.data(), row.blocks.data() + 9, kBytes);
      xor_into(row.blocks[index], delta.data(), kBytes);
      row.expect_parity_right();
    }
  }
}

TEST(Parity, BringsBackEverySetItMay) {
  for (uint32_t parity = 1; parity <= 2; ++parity) {
    for (uint32_t data : {1u, 2u, 3u, 5u, 9u}) {
      Row row(data, parity, 40 + data);
      for (uint64_t lost = 0; lost < (uint64_t{1} << (data + parity)); ++lost) {
        Result<Reconstruction> plan = Reconstruction::plan(row.code, lost);
        bool may = std::popcount(lost) <= static_cast<int>(parity);
        ASSERT_EQ(plan.ok(), may) << data << "+" << parity << " without " << lost;
        if (!may) {
          EXPECT_EQ(plan.code(), Code::k_invalid_argument);
          continue;
        }
        std::vector<const std::byte*> sources;
        for (uint32_t block : plan->sources()) {
          ASSERT_EQ(lost >> block & 1, 0u);
          sources.push_back(row.blocks[block]);
        }
        io::AlignedBuffer made(kParityMax * kBytes);
        std::byte* into[] = {made.data(), made.data() + kBytes};
        plan->run(sources.data(), into, kBytes);
        for (size_t i = 0; i < plan->lost().size(); ++i) {
          ASSERT_EQ(std::memcmp(into[i], row.blocks[plan->lost()[i]], kBytes), 0)
              << data << "+" << parity << " without " << lost << ": block " << plan->lost()[i];
        }
      }
    }
  }
}

}  // namespace
}  // namespace bb::raid
