// SPDX-License-Identifier: Apache-2.0
// pure
#include "sim/tiny_config.h"

#include "sim/tiny_image.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kChunk = kTinyChunkBytes / TinyImage::kSectorBytes;  // in sectors

constexpr TinyOp kFirst[] = {{.first_sector = 0}};
constexpr TinyOp kSecond[] = {{.first_sector = 1}};
constexpr TinyOp kNextChunk[] = {{.first_sector = kChunk}};
constexpr TinyOp kNextChunkCached[] = {{.first_sector = kChunk, .fua = false}};
constexpr TinyOp kFirstTwice[] = {{.first_sector = 0}, {.first_sector = 0}};
constexpr TinyOp kFirstCached[] = {{.first_sector = 0, .fua = false}};
constexpr TinyOp kFirstFlushed[] = {{.first_sector = 0, .fua = false}, {.sectors = 0}};
constexpr TinyOp kSecondFlushed[] = {{.first_sector = 1, .fua = false}, {.sectors = 0}};
constexpr TinyOp kTwoCached[] = {{.first_sector = 0, .sectors = 2, .fua = false}};
constexpr TinyOp kStripe[] = {{.first_sector = 0, .sectors = 2 * kChunk, .fua = false}};

constexpr TinyConfig kConfigs[] = {
    {.name = "mirror",
     .shape = "1.2",
     .what = "two blocks of one region",
     .writers = {kFirst, kSecond},
     .crash_again = true,
     .short_set = true},
    {.name = "mirror-overlap",
     .shape = "1.2",
     .what = "overlapping writes, in the drives' caches",
     .writers = {kFirstCached, kTwoCached},
     .torn = true,
     .crash_again = true,
     .short_set = true},
    {.name = "mirror-broken",
     .shape = "1.2",
     .what = "a drive that answers with errors",
     .writers = {kFirst, kSecond},
     .failure = TinyTrouble::kBroken,
     .short_set = true},
    {.name = "mirror-flush",
     .shape = "1.2",
     .what = "a write and a flush each",
     .writers = {kFirstFlushed, kSecondFlushed}},
    {.name = "mirror-clean",
     .shape = "1.2",
     .what = "the dirty bit is cleared after a write",
     .writers = {kFirstCached, {}},
     .ticks = 2,
     .clean_after_ns = 10 * kMs,
     .short_set = true},
    {.name = "mirror-3", .shape = "1.3", .what = "three copies", .writers = {kFirst, kSecond}},
    {.name = "stripe",
     .shape = "5.3",
     .what = "two blocks of one stripe",
     .writers = {kFirstCached, kNextChunkCached},
     .crash_again = true,
     .short_set = true},
    {.name = "stripe-one",
     .shape = "5.3",
     .what = "one block, and a crash of the start after the first",
     .writers = {kFirst, {}},
     .torn = true,
     .crash_again = true,
     .short_set = true},
    {.name = "stripe-twice",
     .shape = "5.3",
     .what = "one block twice",
     .writers = {kFirstTwice, {}},
     .torn = true,
     .short_set = true},
    {.name = "stripe-broken",
     .shape = "5.3",
     .what = "one block, and a drive that answers with errors",
     .writers = {kFirst, {}},
     .failure = TinyTrouble::kBroken,
     .short_set = true},
    {.name = "stripe-whole",
     .shape = "5.3",
     .what = "a whole stripe and a part of it",
     .writers = {kStripe, kNextChunkCached},
     .crash_again = true},
    {.name = "ten",
     .shape = "10.4",
     .what = "chunks of two pairs",
     .writers = {kFirst, kNextChunk}},
    {.name = "six",
     .shape = "6.4",
     .what = "one block",
     .writers = {kFirst, {}},
     .short_set = true},
    {.name = "six-again",
     .shape = "6.4",
     .what = "one block, and a crash of the start after the first",
     .writers = {kFirst, {}},
     .crash_again = true},
};

}  // namespace

std::span<const TinyConfig> tiny_configs() { return kConfigs; }

}  // namespace bb::sim
