// SPDX-License-Identifier: Apache-2.0
#include "sim/disk_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMagic = 0x62627369ull << 32;
constexpr size_t kWords = DiskModel::kSectorBytes / 8;

uint64_t base_of(uint32_t op, uint64_t sector) {
  return (op * 0x9e3779b97f4a7c15ull) ^ (sector * 0xc2b2ae3d27d4eb4full);
}

void make_sector(uint32_t op, uint64_t sector, std::byte* into) {
  uint64_t words[kWords];
  uint64_t base = base_of(op, sector);
  words[0] = kMagic | op;
  for (uint64_t i = 1; i < kWords; ++i) words[i] = base + i * 0x165667b19e3779f9ull;
  std::memcpy(into, words, sizeof(words));
}

}  // namespace

DiskModel::DiskModel(uint64_t sectors) : sectors_(sectors) {
  ops_.push_back({.first = 0, .count = sectors, .begin = 0, .end = 0, .zeroes = true});
}

DiskModel::OpId DiskModel::begin_write(uint64_t first, uint64_t count, bool zeroes, bool fua) {
  BB_CHECK(first + count <= sectors_.size(), "{} sectors at {}", count, first);
  auto id = static_cast<OpId>(ops_.size());
  ops_.push_back({.first = first, .count = count, .begin = ++now_, .zeroes = zeroes, .fua = fua});
  for (uint64_t s = first; s < first + count; ++s) {
    auto& candidates = sectors_[s].candidates;
    if (candidates.empty()) candidates.push_back({.op = 0});
    candidates.push_back({.op = id});
  }
  return id;
}

void DiskModel::fill(OpId op, uint64_t first, Bytes into) const {
  for (uint64_t at = 0; at < into.size(); at += kSectorBytes)
    make_sector(op, first + at / kSectorBytes, into.data() + at);
}

void DiskModel::displace(uint64_t sector, Candidate& candidate, bool lossy) {
  candidate.gone = now_;
  candidate.lossy = lossy;
  if (!lossy || sectors_[sector].listed) return;
  sectors_[sector].listed = true;
  lossy_sectors_.push_back(sector);
}

void DiskModel::end_write(OpId id, bool ok) {
  ++now_;
  ops_[id].end = now_;
  if (!ok) return;
  const Op op = ops_[id];
  for (uint64_t s = op.first; s < op.first + op.count; ++s) {
    for (Candidate& candidate : sectors_[s].candidates) {
      if (candidate.op == id) continue;
      if (candidate.live() && ended_before(candidate.op, op.begin)) displace(s, candidate, !op.fua);
      if (op.fua && !candidate.live() && candidate.gone <= op.begin) candidate.lossy = false;
    }
    forget(sectors_[s]);
  }
}

// Drops candidates that can neither come back nor be the answer to a read in flight.
void DiskModel::forget(Sector& sector) const {
  uint64_t oldest = oldest_read();
  std::erase_if(sector.candidates, [&](const Candidate& candidate) {
    return !candidate.live() && !candidate.lossy && candidate.gone <= oldest;
  });
}

uint64_t DiskModel::oldest_read() const {
  uint64_t oldest = UINT64_MAX;
  for (const auto& [id, begin] : reads_) oldest = std::min(oldest, begin);
  return oldest;
}

DiskModel::OpId DiskModel::begin_flush() {
  ops_.push_back({.begin = ++now_});
  return static_cast<OpId>(ops_.size() - 1);
}

void DiskModel::end_flush(OpId id, bool ok) {
  ++now_;
  ops_[id].end = now_;
  if (!ok) return;
  uint64_t begin = ops_[id].begin;
  std::erase_if(lossy_sectors_, [&](uint64_t s) {
    Sector& sector = sectors_[s];
    bool any = false;
    for (Candidate& candidate : sector.candidates) {
      if (candidate.lossy && candidate.gone <= begin) candidate.lossy = false;
      any = any || candidate.lossy;
    }
    sector.listed = any;
    forget(sector);
    return !any;
  });
}

DiskModel::OpId DiskModel::begin_read() {
  ops_.push_back({.begin = ++now_});
  auto id = static_cast<OpId>(ops_.size() - 1);
  reads_.push_back({id, now_});
  return id;
}

void DiskModel::drop_read(OpId read) {
  ++now_;
  std::erase_if(reads_, [&](const auto& entry) { return entry.first == read; });
}

std::string DiskModel::end_read(OpId read, uint64_t first, ConstBytes bytes) {
  drop_read(read);
  uint64_t begin = ops_[read].begin;
  for (uint64_t at = 0; at < bytes.size(); at += kSectorBytes) {
    std::string problem = check_sector(begin, first + at / kSectorBytes, bytes.data() + at);
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string DiskModel::check_sector(uint64_t begin, uint64_t s, const std::byte* bytes) {
  ++reads_checked_;
  bool zeroes = all_zero({bytes, kSectorBytes});
  auto word = load_le<uint64_t>(bytes);
  auto seen = static_cast<OpId>(word);
  if (!zeroes) {
    std::byte expected[kSectorBytes];
    make_sector(seen, s, expected);
    if ((word & ~0xffffffffull) != kMagic || std::memcmp(bytes, expected, kSectorBytes) != 0) {
      return describe(s, fmt::format("the bytes are of no write to it (first word {:#x})", word));
    }
  }
  Sector& sector = sectors_[s];
  if (sector.candidates.empty()) {
    if (zeroes) return {};
    return describe(s, fmt::format("write {} was read, but none was sent", seen));
  }
  bool allowed = false;
  bool settled = true;
  for (const Candidate& candidate : sector.candidates) {
    if (zeroes ? !ops_[candidate.op].zeroes : candidate.op != seen) continue;
    if (candidate.live() || candidate.gone > begin) allowed = true;
    if (!candidate.live() || !ended_before(candidate.op, begin)) settled = false;
  }
  if (!allowed) {
    return describe(
        s, zeroes ? std::string("zeroes were read") : fmt::format("write {} was read", seen));
  }
  // A read from before a loss may show what was lost behind it.
  if (settled && begin > lost_) collapse(begin, s, zeroes, seen);
  return {};
}

// What was read stays read: other contents that were settled before the read began are gone.
void DiskModel::collapse(uint64_t begin, uint64_t s, bool zeroes, OpId seen) {
  Sector& sector = sectors_[s];
  if (sector.candidates.size() == 1) return;
  for (Candidate& candidate : sector.candidates) {
    bool same = zeroes ? ops_[candidate.op].zeroes : candidate.op == seen;
    if (same || !candidate.live() || !ended_before(candidate.op, begin)) continue;
    displace(s, candidate, true);
  }
  forget(sector);
}

void DiskModel::lose_unflushed() {
  lost_ = ++now_;
  for (uint64_t s : lossy_sectors_) {
    for (Candidate& candidate : sectors_[s].candidates) {
      if (!candidate.lossy) continue;
      candidate.lossy = false;
      candidate.gone = UINT64_MAX;
    }
    sectors_[s].listed = false;
  }
  lossy_sectors_.clear();
}

std::string DiskModel::describe(uint64_t s, std::string_view problem) const {
  std::string text = fmt::format("sector {}: {}; allowed:", s, problem);
  for (const Candidate& candidate : sectors_[s].candidates) {
    const Op& op = ops_[candidate.op];
    if (!candidate.live()) continue;
    text += fmt::format(" {}{}{}", op.zeroes ? "zeroes " : "write ", candidate.op,
                        op.end == UINT64_MAX ? " (pending)" : "");
  }
  return text;
}

}  // namespace bb::sim
