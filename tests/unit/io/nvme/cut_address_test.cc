// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/cut_address.h"

#include <gtest/gtest.h>

namespace bb::io::nvme {
namespace {

const void* at(uint64_t address) { return reinterpret_cast<const void*>(address); }

constexpr std::string_view kFixed =
    "00400000-0041f000 r--p 00000000 fe:00 1234  /usr/bin/python3.11\n"
    "0a2d1000-0b000000 rw-p 00000000 00:00 0  [heap]\n"
    "7f0b10000000-7f0b10021000 rw-p 00000000 00:00 0\n";
constexpr std::string_view kMoved =
    "55d0c1a00000-55d0c1a21000 r-xp 00000000 fe:00 1234  /usr/bin/bb-serve\n"
    "7f0b10000000-7f0b10021000 rw-p 00000000 00:00 0\n";

TEST(LowMemory, NothingIsConfusedWhereNothingIsLow) {
  LowMemory low = LowMemory::of_maps(kMoved);
  EXPECT_FALSE(low.confuses(at(0x7f00'0040'0000), 4096));
  EXPECT_FALSE(LowMemory::of_maps("").confuses(at(0x7f00'0040'0000), 4096));
  EXPECT_FALSE(LowMemory::of_maps("no address at all\n-\n").confuses(at(0x7f00'0000'0000), 1));
}

TEST(LowMemory, WhatIsCutToLowMemoryIsConfused) {
  LowMemory low = LowMemory::of_maps(kFixed);
  EXPECT_TRUE(low.confuses(at(0x7f00'0040'0000), 1));
  EXPECT_TRUE(low.confuses(at(0x7f00'003f'ffff), 2));   // its end
  EXPECT_FALSE(low.confuses(at(0x7f00'003f'ffff), 1));  // just before
  EXPECT_TRUE(low.confuses(at(0x7f00'0500'0000), 1));   // a gap that something may fill
  EXPECT_TRUE(low.confuses(at(0x7f00'0aff'ffff), 1));
  EXPECT_FALSE(low.confuses(at(0x7f00'0b00'0000), 4096));
  EXPECT_FALSE(low.confuses(at(0x0a2d'2000), 4096)) << "it is cut to itself";
}

TEST(LowMemory, AListBelowFourGibibytesWouldBeReadAsAnother) {
  for (std::string_view maps : {kFixed, kMoved}) {
    LowMemory low = LowMemory::of_maps(maps);
    EXPECT_TRUE(low.confuses_list(at(0x0a2d'2000), 32));
    EXPECT_FALSE(low.confuses_list(at(0x7f00'f000'0000), 32));
  }
  EXPECT_TRUE(LowMemory::of_maps(kFixed).confuses_list(at(0x7f00'0040'0000), 32));
}

TEST(LowMemory, DistinctMemoryIsNotConfused) {
  for (uint64_t end : {uint64_t{0}, uint64_t{1} << 28, uint64_t{7} << 29}) {
    LowMemory low(0, end);
    DistinctMemory memory(low, 100'000);
    ASSERT_NE(memory.data(), nullptr) << end;
    EXPECT_FALSE(low.confuses(memory.data(), 100'000)) << end;
    memory.data()[99'999] = std::byte{1};
    DistinctMemory moved = std::move(memory);
    EXPECT_EQ(moved.data()[99'999], std::byte{1});
    EXPECT_EQ(memory.data(), nullptr);
  }
  EXPECT_EQ(DistinctMemory(LowMemory(0, uint64_t{1} << 32), 1).data(), nullptr);
}

// The address sanitizer's own memory begins there and goes on beyond 4 GiB.
TEST(LowMemory, MemoryBelowWhatIsLowIsDistinctToo) {
  LowMemory low = LowMemory::of_maps("7fff7000-10007fff8000 rw-p 00000000 00:00 0\n");
  EXPECT_TRUE(low.confuses(at(0x7f00'e000'0000), 1));
  EXPECT_EQ(low.place_beside(4096), 0x7fff'6000u);
  for (int i = 0; i < 50; ++i) {  // wherever the kernel would have put it
    DistinctMemory memory(low, 100'000);
    ASSERT_NE(memory.data(), nullptr);
    EXPECT_FALSE(low.confuses(memory.data(), 100'000));
  }
  EXPECT_EQ(LowMemory(4096, uint64_t{1} << 32).place_beside(8192), 0u);
}

}  // namespace
}  // namespace bb::io::nvme
