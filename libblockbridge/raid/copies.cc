// SPDX-License-Identifier: Apache-2.0
#include "raid/copies.h"

#include "raid/array_core.h"

namespace bb::raid {

// From all who may be read, with what is recorded of them; UNAVAILABLE or what they said if nobody
// could read it.
io::Task<Status> ArrayCore::read_copies(io::IoRequest* piece, std::vector<CopyOfPiece>* copies) {
  for_each_holder(piece->offset_bytes, [&](Member& member, uint64_t place_bytes) {
    if (!member.readable()) return;
    copies->push_back({.member = &member,
                       .place_bytes = place_bytes,
                       .data = io::AlignedBuffer::uncleared(piece->length_bytes)});
  });
  FanOut fan(*this);
  for (CopyOfPiece& copy : *copies) {
    copy.memory = copy.data.as_iovec();
    fan.add(*copy.member, {.op = io::IoOp::kRead,
                           .offset_bytes = geometry_.data_offset_bytes + copy.place_bytes,
                           .length_bytes = piece->length_bytes,
                           .iov = &copy.memory,
                           .iov_count = 1});
  }
  co_await fan;
  Status last = fail(Code::k_unavailable, "no in-sync member is usable (recover)");
  for (uint32_t i = 0; i < fan.count(); ++i) {
    const Status& status = fan.leg(i).status;
    (*copies)[i].read = status.ok();
    if (!status.ok()) last = status.with_context(name_of(*(*copies)[i].member));
  }
  BB_CO_TRY(usable());
  if (checked()) BB_CO_TRY(co_await fetch_for_write(piece));
  bool any = false;
  for (CopyOfPiece& copy : *copies) {
    // Whoever stopped being in-sync meanwhile has not answered.
    copy.read = copy.read && copy.member->readable();
    if (!copy.read) continue;
    any = true;
    copy.found.compute({&copy.memory, 1});
    uint64_t first = copy.place_bytes / kCheckedBlockBytes;
    for (size_t i = 0; i < copy.found.values().size(); ++i) {
      copy.recorded.push_back(checked() ? copy.member->sums->at(first + i) : kNoChecksum);
    }
  }
  co_return any ? Status() : last;
}

}  // namespace bb::raid
