// SPDX-License-Identifier: Apache-2.0
// Reads every copy of everything and compares: with its checksum, and with the other copies.
#include <algorithm>

#include "raid/array_core.h"
#include "raid/copies.h"

namespace bb::raid {
namespace {

constexpr uint64_t kPieceBytes = 256 * KiB;

// What is known of a block: which copies are right, and which have to be rewritten.
struct Verdict {
  const CopyOfPiece* right = nullptr;  // null: nothing decides
  MemberMask wrong;
  bool unrecorded = false;
};

Verdict judge_block(const std::vector<CopyOfPiece>& copies, size_t i) {
  Verdict verdict;
  std::vector<const CopyOfPiece*> known;    // its checksum is the recorded one
  std::vector<const CopyOfPiece*> unknown;  // nothing is recorded of it
  for (const CopyOfPiece& copy : copies) {
    if (!copy.read) continue;
    bool recorded = copy.recorded[i] != kNoChecksum;
    if (!recorded) unknown.push_back(&copy);
    if (recorded && copy.recorded[i] == copy.found.values()[i]) known.push_back(&copy);
  }
  const std::vector<const CopyOfPiece*>& trusted = known.empty() ? unknown : known;
  bool agree = std::ranges::all_of(
      trusted, [&](const CopyOfPiece* copy) { return copy->same(*trusted[0], i); });
  if (!trusted.empty() && agree) verdict.right = trusted[0];
  verdict.unrecorded = !unknown.empty();
  for (const CopyOfPiece& copy : copies) {
    bool right = verdict.right != nullptr && copy.read && copy.same(*verdict.right, i);
    if (!right) verdict.wrong.set(copy.member->index);
  }
  return verdict;
}

}  // namespace

io::Task<Result<ScrubReport>> ArrayCore::scrub(ScrubRange range) {
  Entered entered(commands_);
  if (!entered.inside) co_return closed_error();
  uint64_t size = geometry_.size_bytes();
  uint64_t length = range.length_bytes != 0 ? range.length_bytes : size - range.offset_bytes;
  if (range.offset_bytes > size || length > size - range.offset_bytes ||
      (range.offset_bytes | length) % kCheckedBlockBytes != 0) {
    co_return fail(Code::k_invalid_argument,
                   "a scrub of {} bytes at {} of {}, and blocks have {} bytes", length,
                   range.offset_bytes, size, kCheckedBlockBytes);
  }
  ScrubReport report;
  uint64_t end = range.offset_bytes + length;
  for (uint64_t at = range.offset_bytes; at < end;) {
    BB_CO_TRY(usable());
    if (range.cancelled != nullptr && *range.cancelled) {
      co_return fail(Code::k_cancelled, "the scrub was cancelled at byte {}", at);
    }
    uint64_t here = 0;
    if (stripes_) {
      uint64_t stripe_bytes = geometry_.shape.chunk_bytes * geometry_.shape.data_chunks();
      here = std::min(end, round_down(at, stripe_bytes) + stripe_bytes) - at;
      BB_CO_TRY(co_await scrub_stripe(at / stripe_bytes, &report));
    } else {
      here = first_piece(geometry_.shape, at, std::min(end - at, kPieceBytes)).length_bytes;
      BB_CO_TRY(co_await scrub_piece(at, here, &report));
    }
    report.checked_bytes += here;
    if (range.progress_bytes != nullptr) *range.progress_bytes = report.checked_bytes;
    co_await keep_to_rate(here);
    co_await keep_to_scrub_rate(here);
    at += here;
  }
  co_return report;
}

// As a whole. What is found in its parity is told at the stripe's first chunk.
io::Task<Status> ArrayCore::scrub_stripe(uint64_t stripe, ScrubReport* report) {
  std::vector<StripeFinding> findings;
  BB_CO_TRY(co_await stripes_->scrub(stripe, &findings));
  uint64_t data = geometry_.shape.data_chunks();
  for (const StripeFinding& found : findings) {
    uint64_t block = found.block < data ? found.block : 0;
    uint64_t chunk = geometry_.shape.chunk_bytes;
    report->add((stripe * data + block) * chunk + found.within_bytes, found.repaired);
  }
  co_return Status();
}

io::Task<Status> ArrayCore::scrub_piece(uint64_t offset_bytes, uint64_t length_bytes,
                                        ScrubReport* report) {
  RangeHold hold(*this, offset_bytes, length_bytes, LockMode::kShared);
  co_await hold;
  // Resync compares these itself.
  if (has_unequal(geometry_.range_of(offset_bytes, length_bytes))) {
    report->skipped_bytes += length_bytes;
    co_return Status();
  }
  io::IoRequest piece;
  piece.op = io::IoOp::kRead;
  piece.offset_bytes = offset_bytes;
  piece.length_bytes = length_bytes;
  std::vector<CopyOfPiece> copies;
  BB_CO_TRY(co_await read_copies(&piece, &copies));
  for (size_t i = 0; i < length_bytes / kCheckedBlockBytes; ++i) {
    Verdict verdict = judge_block(copies, i);
    if (verdict.right == nullptr) {
      report->add(offset_bytes + i * kCheckedBlockBytes, false);
      continue;
    }
    if (verdict.wrong.none() && !verdict.unrecorded) continue;
    uint64_t at = offset_bytes + i * kCheckedBlockBytes;
    Result<bool> settled = co_await settle_scrubbed(at, verdict.right->block(i), verdict.wrong);
    BB_CO_TRY(settled.status());
    if (verdict.wrong.any()) report->add(at, *settled);
  }
  co_return Status();
}

// Copies that are wrong are rewritten; what is right is recorded of all. False: one did not take
// it.
io::Task<Result<bool>> ArrayCore::settle_scrubbed(uint64_t offset_bytes, ConstBytes block,
                                                  MemberMask wrong) {
  iovec memory{.iov_base = const_cast<std::byte*>(block.data()), .iov_len = block.size()};
  io::IoRequest request;
  request.op = io::IoOp::kRead;
  request.offset_bytes = offset_bytes;
  request.length_bytes = block.size();
  request.iov = &memory;
  request.iov_count = 1;
  bool all = wrong.none() || co_await repair(&request, wrong);
  if (!checked()) co_return all;
  BB_CO_TRY(co_await fetch_for_write(&request));
  BlockSums sums;
  sums.compute({&memory, 1});
  for_each_holder(offset_bytes, [&](Member& member, uint64_t place_bytes) {
    if (member.readable() && !wrong.test(member.index)) {
      record_sums(member, place_bytes, sums.values());
    }
  });
  co_return all;
}

}  // namespace bb::raid
