// SPDX-License-Identifier: Apache-2.0
// Integrity of stripes: what is read is compared with what is recorded of it, and columns that are
// not right are settled by checksums and parity together (docs/formats/checksums.md).
#include <algorithm>

#include "base/mutant.h"
#include "raid/cell_solver.h"
#include "raid/stripe_hold.h"

namespace bb::raid {
namespace {

constexpr int kFetchTries = 100;  // a chunk has checksums on six pages at most

}  // namespace

// A part of each chunk of a row, as its members have it.
class StripeStore::Columns {
 public:
  Columns(const StripeStore& store, const Settle& what)
      : shape_(store.layout_.shape),
        length_bytes_(what.length_bytes),
        memory_(io::AlignedBuffer::uncleared(shape_.members * what.length_bytes)),
        states(shape_.members, Cell::State::kAbsent) {}

  Bytes chunk(uint32_t block) {
    return memory_.bytes().subspan(block * length_bytes_, length_bytes_);
  }
  Bytes cell(uint32_t block, uint64_t at) { return chunk(block).subspan(at, kCheckedBlockBytes); }
  bool any(Cell::State state) const { return std::ranges::find(states, state) != states.end(); }

 private:
  const Shape& shape_;
  uint64_t length_bytes_;
  io::AlignedBuffer memory_;

 public:
  std::vector<Cell::State> states;  // by block
};

void StripeStore::doubt(uint64_t stripe, bool damaged) {
  if (unproved_.set(stripe) && damaged) doubtful_.set(stripe);
}

Trust StripeStore::trust_of(uint64_t stripe) const {
  if (!in_doubt(stripe)) return Trust::kRecorded;
  return doubtful_.test(stripe) ? Trust::kDoubtful : Trust::kOld;
}

// False: this member cannot say, and counts as failed.
io::Task<bool> StripeStore::fetch(uint32_t slot, uint64_t place_bytes, uint64_t length_bytes,
                                  PinnedSums* pinned) {
  Status status;
  for (int tries = 0; tries < kFetchTries; ++tries) {
    status = co_await sums_->fetch(slot, place_bytes, length_bytes, pinned);
    if (status.ok()) co_return true;
    if (status.code() != Code::k_corrupt) break;  // each page is found damaged once
  }
  members_.failed(slot, status);
  co_return false;
}

// Of all these slots, until `pinned` goes.
io::Task<void> StripeStore::fetch_all(uint64_t slots_mask, uint64_t place_bytes,
                                      uint64_t length_bytes, PinnedSums* pinned) {
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    bool wanted = (slots_mask & members_.writable_mask()) >> slot & 1;
    if (wanted) (void)co_await fetch(slot, place_bytes, length_bytes, pinned);
  }
}

void StripeStore::record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums) {
  if (BB_MUTANT(kSumsOfNothing) || (members_.writable_mask() >> slot & 1) == 0) return;
  sums_->record(slot, place_bytes, sums);
}

void StripeStore::record(uint32_t slot, uint64_t place_bytes, ConstBytes bytes) {
  iovec memory{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  BlockSums sums;
  sums.compute({&memory, 1});
  record(slot, place_bytes, sums.values());
}

// Adds who read something else than what is recorded. False: the stripe came into doubt meanwhile.
io::Task<bool> StripeStore::check(IoBatch* batch, uint64_t stripe, uint64_t* bad_mask) {
  bool doubted = in_doubt(stripe);
  for (size_t i = 0; i < batch->size(); ++i) {
    const IoBatch::Leg& leg = batch->leg(i);
    if (!leg.status.ok()) continue;
    uint64_t place = leg.offset_bytes - layout_.data_offset_bytes;
    BlockSums found;
    found.compute({leg.iov, leg.iov_count});
    bool right = co_await fetch(leg.slot, place, leg.length_bytes, nullptr);
    for (uint32_t sum : found.values()) {
      if (!right || BB_MUTANT(kTrustBlocks)) break;
      uint32_t recorded = sums_->recorded(leg.slot, place);
      right = recorded == kNoChecksum || recorded == sum;
      place += kCheckedBlockBytes;
    }
    if (!right) *bad_mask |= uint64_t{1} << leg.slot;
  }
  co_return doubted || !in_doubt(stripe);
}

// --- settling

// What every member has of the columns. A page that is damaged brings the stripe into doubt.
io::Task<void> StripeStore::read_columns(const Settle* what, Columns* columns, PinnedSums* pinned) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(what->stripe);
  uint64_t place = row * shape.chunk_bytes + what->within_bytes;
  uint64_t asked = members_.readable_mask();  // who comes in meanwhile is not
  if (sums_ != nullptr) co_await fetch_all(asked, place, what->length_bytes, pinned);
  asked &= members_.readable_mask();
  IoBatch batch;
  for (uint32_t block = 0; block < shape.members; ++block) {
    uint32_t slot = block_slot(shape, row, block);
    if ((asked >> slot & 1) == 0) continue;
    columns->states[block] = Cell::State::kRead;
    batch.read(slot, members_.device(slot), layout_.data_offset_bytes + place,
               columns->chunk(block));
  }
  co_await batch;
  uint64_t medium = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    if (is_medium_error(batch.leg(i).status)) medium |= uint64_t{1} << batch.leg(i).slot;
  }
  uint64_t failed = note_failures(batch);
  for (uint32_t block = 0; block < shape.members; ++block) {
    uint64_t bit = uint64_t{1} << block_slot(shape, row, block);
    Cell::State& state = columns->states[block];
    if (state != Cell::State::kRead) continue;
    // Whoever failed meanwhile has not answered.
    if ((failed & bit) != 0) state = Cell::State::kAbsent;
    if ((medium & bit) != 0) state = Cell::State::kUnreadable;
    if ((members_.readable_mask() & bit) == 0) state = Cell::State::kAbsent;
  }
}

// Makes columns of a stripe right, and what is recorded of them. CORRUPT: of one of them nothing
// decides; `into` may be right all the same.
io::Task<Status> StripeStore::settle(Settle what) {
  Columns columns(*this, what);
  PinnedSums pinned;
  co_await read_columns(&what, &columns, &pinned);
  if (columns.any(Cell::State::kUnreadable) && what.length_bytes > kCheckedBlockBytes) {
    co_return co_await settle_singly(what);
  }
  CellSolver solver(code_);
  Trust trust = trust_of(what.stripe);
  Status status;
  IoBatch fixes;
  for (uint64_t at = 0; at < what.length_bytes; at += kCheckedBlockBytes) {
    std::vector<Cell> cells = cells_at(what, columns, at);
    std::vector<Cell> before = cells;
    std::optional<uint64_t> made = solver.solve(cells, trust);
    if (made) fix(what, at, before, cells, &fixes);
    for (uint32_t block = 0; block < cells.size(); ++block) {
      if (trust == Trust::kRecorded && before[block].wrong()) {
        sums_->found_wrong(block_slot(layout_.shape, map_.row_of(what.stripe), block), 1);
      }
    }
    const Cell& wanted = cells[what.into_block];
    bool right =
        made.has_value() || (trust == Trust::kRecorded && wanted.read() && !wanted.wrong());
    right = right || (trust == Trust::kDoubtful && wanted.known());
    if (right && !what.into.empty()) {
      std::memcpy(what.into.data() + at, wanted.data, kCheckedBlockBytes);
    }
    if (!made && what.findings != nullptr)
      what.findings->push_back({0, what.within_bytes + at, false});
    if (made || (right && !what.into.empty()) || !status.ok()) continue;
    status = undecided(what.stripe, what.within_bytes + at, before);
  }
  co_await fixes;
  note_fixes(fixes);
  co_return status;
}

// A drive says of a whole request that it cannot read it.
io::Task<Status> StripeStore::settle_singly(Settle what) {
  Status status;
  for (uint64_t at = 0; at < what.length_bytes; at += kCheckedBlockBytes) {
    Settle one = what;
    one.within_bytes += at;
    one.length_bytes = kCheckedBlockBytes;
    if (!what.into.empty()) one.into = what.into.subspan(at, kCheckedBlockBytes);
    Status settled = co_await settle(one);
    if (status.ok()) status = std::move(settled);
  }
  co_return status;
}

std::vector<Cell> StripeStore::cells_at(const Settle& what, Columns& columns, uint64_t at) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(what.stripe);
  uint64_t place = row * shape.chunk_bytes + what.within_bytes + at;
  std::vector<Cell> cells(shape.members);
  for (uint32_t block = 0; block < shape.members; ++block) {
    Cell& cell = cells[block];
    cell.state = columns.states[block];
    cell.data = columns.cell(block, at).data();
    if (cell.read()) cell.found = block_checksum(columns.cell(block, at));
    uint32_t slot = block_slot(shape, row, block);
    bool there = (members_.readable_mask() >> slot & 1) != 0;
    if (cell.state == Cell::State::kAbsent || sums_ == nullptr || !there) continue;
    cell.recorded = sums_->recorded(slot, place);
  }
  return cells;
}

// Rewrites what is not what it has to be, and records all of it.
void StripeStore::fix(const Settle& what, uint64_t at, const std::vector<Cell>& before,
                      const std::vector<Cell>& cells, IoBatch* fixes) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(what.stripe);
  uint64_t within = what.within_bytes + at;
  for (uint32_t block = 0; block < cells.size(); ++block) {
    uint32_t slot = block_slot(shape, row, block);
    bool there = (members_.readable_mask() >> slot & 1) != 0;
    if (cells[block].state == Cell::State::kAbsent || !there) continue;
    if (sums_ != nullptr && cells[block].found != cells[block].recorded) {
      sums_->record(slot, row * shape.chunk_bytes + within, {&cells[block].found, 1});
    }
    if (before[block].read() && before[block].found == cells[block].found) continue;
    ConstBytes block_bytes{cells[block].data, kCheckedBlockBytes};
    fixes->write(slot, members_.device(slot), place(row, within), block_bytes, false);
    if (what.findings != nullptr) what.findings->push_back({block, within, true});
  }
}

// A sector that cannot be written either is no reason to do without the member.
void StripeStore::note_fixes(IoBatch& fixes) {
  for (size_t i = 0; i < fixes.size(); ++i) {
    const IoBatch::Leg& leg = fixes.leg(i);
    if (leg.status.ok()) {
      if (sums_ != nullptr) sums_->repaired(leg.slot);
    } else if (!is_medium_error(leg.status)) {
      members_.failed(leg.slot, leg.status);
    }
  }
}

Status StripeStore::undecided(uint64_t stripe, uint64_t within_bytes,
                              const std::vector<Cell>& cells) const {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(stripe);
  std::string who;
  bool any_wrong = false;
  for (uint32_t block = 0; block < cells.size(); ++block) {
    const Cell& cell = cells[block];
    if (cell.read() && !cell.wrong()) continue;
    any_wrong = any_wrong || cell.state != Cell::State::kAbsent;
    const char* what = "not what was written";
    if (cell.state == Cell::State::kAbsent) what = "absent";
    if (cell.state == Cell::State::kUnreadable) what = "unreadable";
    who += fmt::format("{}member {} is {}", who.empty() ? "" : ", ", block_slot(shape, row, block),
                       what);
  }
  bool all_here = std::ranges::all_of(cells, [](const Cell& cell) { return cell.read(); });
  Code code = any_wrong || all_here ? Code::k_corrupt : Code::k_unavailable;
  return error(code, "stripe {}, byte {} of its chunks (byte {} of members): {}", stripe,
               within_bytes, place(row, within_bytes),
               who.empty() ? "parity does not fit, and no checksum tells why" : who);
}

// --- stripes

// Held by the caller.
io::Task<Status> StripeStore::prove_held(uint64_t stripe, std::vector<StripeFinding>* findings) {
  Status status = co_await settle(
      {.stripe = stripe, .length_bytes = layout_.shape.chunk_bytes, .findings = findings});
  if (status.ok() && in_doubt(stripe)) {
    unproved_.clear(stripe);
    doubtful_.clear(stripe);
  }
  co_return status;
}

io::Task<Status> StripeStore::prove(uint64_t stripe) {
  if (!in_doubt(stripe)) co_return Status();
  Hold hold(*this, stripe, io::LockMode::kShared);
  co_await hold;
  if (!in_doubt(stripe)) co_return Status();
  co_return co_await prove_held(stripe, nullptr);
}

io::Task<Status> StripeStore::scrub(uint64_t stripe, std::vector<StripeFinding>* findings) {
  Hold hold(*this, stripe, io::LockMode::kShared);
  co_await hold;
  Status status = co_await prove_held(stripe, findings);
  co_return status.code() == Code::k_corrupt ? Status() : status;  // it is in the findings
}

}  // namespace bb::raid
