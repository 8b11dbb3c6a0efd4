// SPDX-License-Identifier: Apache-2.0
// What the members' answers to one I/O are worth.
#include "raid/array_core.h"

namespace bb::raid {

// Would the array still have everything if, of the members of these slots, only those in the mask
// did what they were told?
bool ArrayCore::enough(const MemberMask& ok_mask, uint64_t slots) const {
  uint64_t alive = 0;
  for (const auto& member : members_) {
    if (!member->required()) continue;
    bool asked = (slots & member->slot_bit()) != 0;
    if (asked ? ok_mask.test(member->index) : member->writable()) alive |= member->slot_bit();
  }
  return geometry_.shape.survives(~alive);
}

// Whoever did not do it is suspected, unless the array could not go on without: then nobody is, and
// the I/O has failed. `ok_mask`: who did (on entry: who did before).
Status ArrayCore::judge(FanOut& fan, uint64_t slots, MemberMask* ok_mask) {
  const FanOut::Leg* bad = nullptr;
  MemberMask failed;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    bool writes = leg.op != io::IoOp::kFlush;
    // Also a failed write may have left something unflushed.
    if (writes) leg.member->written_epoch = intent_.epoch();
    if (!leg.status.ok()) {
      bad = &leg;
      failed.set(leg.member->index);
    } else {
      ok_mask->set(leg.member->index);
    }
  }
  *ok_mask &= ~failed;  // a member may have several legs
  if (bad == nullptr && complete_) return {};
  if (!enough(*ok_mask, slots)) {
    if (bad != nullptr) return bad->status.with_context(name_of(*bad->member));
    return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
  }
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (!leg.status.ok()) suspect(*leg.member, leg.status.to_string());
  }
  return {};
}

}  // namespace bb::raid
