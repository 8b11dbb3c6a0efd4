// SPDX-License-Identifier: Apache-2.0
// pure
#include "sim/tiny_model.h"

#include <fmt/format.h>

#include "sim/tiny_image.h"

namespace bb::sim {

TinyModel::TinyModel(const TinyConfig& config) {
  ops_.push_back({.what = {.first_sector = 0, .sectors = kTinySectors}, .end = 0, .durable = true});
  for (const auto& writer : config.writers) {
    for (const TinyOp& op : writer) ops_.push_back({.what = op});
  }
}

uint32_t TinyModel::number_of(const TinyConfig& config, uint32_t writer, size_t op) {
  return static_cast<uint32_t>(1 + (writer == 0 ? 0 : config.writers[0].size()) + op);
}

// The first word names write and sector, for people; the others depend on both.
void TinyModel::fill(uint32_t op, uint64_t first_sector, Bytes into) {
  for (uint64_t at = 0; at < into.size(); at += 8) {
    uint64_t sector = first_sector + at / kSectorBytes;
    uint64_t within = at % kSectorBytes;
    uint64_t name = uint64_t{op} << 32 | sector;
    store_le<uint64_t>(into.data() + at, within == 0 ? name : tiny_mix(name, within));
  }
}

void TinyModel::begin(uint32_t op) { ops_[op].begin = ++now_; }

void TinyModel::end(uint32_t number) {
  Op& op = ops_[number];
  op.end = ++now_;
  op.durable = op.what.fua;
  if (op.what.sectors != 0) return;
  for (Op& other : ops_) other.durable = other.durable || other.end < op.begin;
}

TinyModel::Allowed TinyModel::allowed(bool lost) const {
  Allowed allowed(kTinySectors);
  for (uint64_t sector = 0; sector < kTinySectors; ++sector) {
    auto writes = [sector](const Op& op) {
      return sector >= op.what.first_sector && sector < op.what.first_sector + op.what.sectors;
    };
    for (size_t i = 0; i < ops_.size(); ++i) {
      if (!writes(ops_[i]) || (i > 0 && ops_[i].begin == 0)) continue;
      bool replaced = false;
      for (const Op& later : ops_) {
        bool binds = later.end != UINT64_MAX && (later.durable || !lost);
        replaced = replaced || (binds && writes(later) && ops_[i].end < later.begin);
      }
      if (!replaced) allowed[sector] |= 1u << i;
    }
  }
  return allowed;
}

std::string TinyModel::check(Allowed* allowed, ConstBytes bytes) {
  std::byte expected[kSectorBytes];
  for (uint64_t sector = 0; sector < allowed->size(); ++sector) {
    ConstBytes found = bytes.subspan(sector * kSectorBytes, kSectorBytes);
    bool good = false;
    std::string wanted;
    for (uint32_t op = 0; op < 32 && !good; ++op) {
      if (((*allowed)[sector] >> op & 1) == 0) continue;
      fill(op, sector, expected);
      good = std::memcmp(found.data(), expected, kSectorBytes) == 0;
      if (good) (*allowed)[sector] = 1u << op;
      wanted += fmt::format(" {}", op);
    }
    if (good) continue;
    return fmt::format("sector {} holds {:#x} (of write {}), allowed:{}", sector,
                       load_le<uint64_t>(found.data()), load_le<uint64_t>(found.data()) >> 32,
                       wanted);
  }
  return {};
}

}  // namespace bb::sim
