// SPDX-License-Identifier: Apache-2.0
#include "raid/cell_solver.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/mutant.h"

namespace bb::raid {
namespace {

uint64_t bit(uint32_t i) { return uint64_t{1} << i; }

bool equal(ConstBytes a, const std::byte* b) { return std::memcmp(a.data(), b, a.size()) == 0; }

template <typename Wanted>
uint64_t mask_of(const std::vector<Cell>& cells, Wanted wanted) {
  uint64_t mask = 0;
  for (uint32_t i = 0; i < cells.size(); ++i) {
    if (wanted(cells[i])) mask |= bit(i);
  }
  return mask;
}

// What may be left out besides: first who is wrong, then, one by one, anybody.
std::vector<uint64_t> suspects(const std::vector<Cell>& cells, uint64_t must_mask) {
  std::vector<uint64_t> masks = {0};
  uint64_t wrong = mask_of(cells, [](const Cell& cell) { return cell.wrong(); }) & ~must_mask;
  for (uint32_t i = 0; i < cells.size(); ++i) {
    if ((wrong >> i & 1) != 0) masks.push_back(bit(i));
  }
  for (uint32_t i = 0; i < cells.size(); ++i) {
    if (((must_mask | wrong) >> i & 1) == 0) masks.push_back(bit(i));
  }
  for (uint32_t i = 0; i < cells.size(); ++i) {
    for (uint32_t j = i + 1; j < cells.size(); ++j) {
      if ((wrong >> i & 1) != 0 && (wrong >> j & 1) != 0) masks.push_back(bit(i) | bit(j));
    }
  }
  return masks;
}

}  // namespace

const Reconstruction& CellSolver::plan(uint64_t lost_mask) {
  auto found = plans_.find(lost_mask);
  if (found != plans_.end()) return found->second;
  Result<Reconstruction> made = Reconstruction::plan(code_, lost_mask);
  BB_CHECK(made.ok(), "a column without blocks {:x} of {}+{}", lost_mask, code_.data(),
           code_.parity());
  return plans_.emplace(lost_mask, std::move(made).value()).first->second;
}

// All that is left out, and what is not needed besides, out of the first blocks there are.
std::optional<CellSolver::Attempt> CellSolver::attempt(const std::vector<Cell>& cells,
                                                       uint64_t left_out) {
  if (std::popcount(left_out) > static_cast<int>(code_.parity())) return std::nullopt;
  Attempt attempt{.left_out = left_out};
  uint64_t lost = left_out;
  uint32_t needed = code_.data();
  for (uint32_t i = 0; i < cells.size(); ++i) {
    if ((left_out >> i & 1) != 0) continue;
    if (needed > 0) {
      --needed;
    } else {
      lost |= bit(i);
      ++attempt.spares;
    }
  }
  const Reconstruction& how = plan(lost);
  std::vector<const std::byte*> sources;
  sources.reserve(how.sources().size());
  for (uint32_t source : how.sources()) sources.push_back(cells[source].data);
  std::byte* into[kParityMax] = {made_.data(), made_.data() + kCheckedBlockBytes};
  how.run(sources.data(), into, kCheckedBlockBytes);
  made_of_ = how.lost();
  for (uint32_t block : made_of_) {
    if ((left_out >> block & 1) != 0) continue;
    attempt.consistent = attempt.consistent && equal(made(block), cells[block].data);
  }
  return attempt;
}

ConstBytes CellSolver::made(uint32_t block) const {
  auto at = std::ranges::find(made_of_, block) - made_of_.begin();
  return ConstBytes(made_).subspan(static_cast<size_t>(at) * kCheckedBlockBytes,
                                   kCheckedBlockBytes);
}

// `must_mask`: what has to be left out; what else is, is so on suspicion, which wants a proof: that
// a checksum knows what was made, or that blocks which were not needed fit the others.
bool CellSolver::accepts(const std::vector<Cell>& cells, Trust trust, const Attempt& attempt,
                         uint64_t must_mask) {
  if (!attempt.consistent) return false;
  uint64_t suspected = attempt.left_out & ~must_mask;
  bool fits = attempt.spares > 0;
  bool all_known = suspected != 0;
  bool one_known = false;
  for (uint32_t i = 0; i < cells.size(); ++i) {
    if ((attempt.left_out >> i & 1) == 0 || cells[i].recorded == kNoChecksum) {
      all_known = all_known && (suspected >> i & 1) == 0;
      continue;
    }
    ConstBytes now = made(i);
    bool known = block_checksum(now) == cells[i].recorded;
    bool same = cells[i].read() && equal(now, cells[i].data);
    bool forced = (must_mask >> i & 1) != 0;
    // What is recorded is what was written: then nothing else can have been made.
    if (trust == Trust::kRecorded && forced && !known && !same) return false;
    one_known = one_known || known;
    if (!forced) all_known = all_known && known;
  }
  bool others_known = true;
  bool any_stale = false;  // suspected, though it is what is recorded of it
  for (uint32_t i = 0; i < cells.size(); ++i) {
    bool other = (attempt.left_out >> i & 1) == 0;
    others_known = others_known && (!other || cells[i].known());
    any_stale = any_stale || ((suspected >> i & 1) != 0 && cells[i].known());
  }
  if (suspected != 0) {
    if (fits || (trust == Trust::kRecorded ? one_known : all_known)) return true;
    // Of whom nothing is recorded, or what was is lost, he is wrong if all the others are known.
    return trust != Trust::kOld && others_known && !any_stale;
  }
  return trust != Trust::kDoubtful || fits || others_known;
}

std::optional<uint64_t> CellSolver::solve(std::vector<Cell>& cells, Trust trust) {
  uint64_t must = mask_of(cells, [trust](const Cell& cell) {
    return !cell.read() || (trust == Trust::kRecorded && cell.wrong());
  });
  for (uint64_t suspected : suspects(cells, must)) {
    std::optional<Attempt> tried = attempt(cells, must | suspected);
    if (!tried) continue;
    if (!accepts(cells, trust, *tried, must) && !BB_MUTANT(kSolveBlindly)) continue;
    for (uint32_t i = 0; i < cells.size(); ++i) {
      if ((tried->left_out >> i & 1) == 0) continue;
      ConstBytes now = made(i);
      std::memcpy(cells[i].data, now.data(), now.size());
      cells[i].found = block_checksum(now);
    }
    return tried->left_out;
  }
  return std::nullopt;
}

}  // namespace bb::raid
