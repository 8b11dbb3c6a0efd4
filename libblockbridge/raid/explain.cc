// SPDX-License-Identifier: Apache-2.0
#include "raid/explain.h"

#include <algorithm>

namespace bb::raid {
namespace {

constexpr uint32_t kLossesCounted = 3;

// Does the array keep everything, whichever `count` members of these go?
bool bears(const Shape& shape, uint64_t there_mask, uint32_t count, uint32_t from_slot = 0) {
  if (!shape.survives(~there_mask)) return false;
  if (count == 0) return true;
  for (uint32_t slot = from_slot; slot < shape.members; ++slot) {
    uint64_t bit = uint64_t{1} << slot;
    if ((there_mask & bit) != 0 && !bears(shape, there_mask & ~bit, count - 1, slot + 1)) {
      return false;
    }
  }
  return true;
}

std::string name_of(const ArrayMemberInfo& member) {
  return fmt::format("Member {} {}", member.slot, member.label);
}

std::string because(const std::string& detail) { return detail.empty() ? "" : ": " + detail; }

// What its members' states come to.
std::string redundancy(const ArrayInfo& info) {
  Result<Shape> shape = make_shape(info.level, info.slots, info.copies, info.chunk_bytes);
  if (!shape.ok()) return shape.status().text();
  uint64_t there = 0;
  uint32_t in_sync = 0;
  for (const ArrayMemberInfo& member : info.members) {
    bool counts = member.state == MemberState::kInSync && member.present && !member.suspect;
    if (!counts) continue;
    there |= uint64_t{1} << member.slot;
    ++in_sync;
  }
  std::string text = fmt::format("{} of {} members of this RAID {} are in-sync", in_sync,
                                 info.slots, shape_text(*shape));
  if (!shape->survives(~there)) return text + ", and they do not hold everything.";
  uint32_t more = losses_borne(*shape, there);
  if (more == 0) return text + ": none of those it needs may be lost.";
  return fmt::format("{}: {}{} more may be lost, whichever {}.", text,
                     more == kLossesCounted ? "at least " : "", more,
                     more == 1 ? "it is" : "they are");
}

void explain_member(const ArrayMemberInfo& member, std::vector<std::string>* into) {
  if (member.suspect) {
    into->push_back(
        fmt::format("{} does not do what it is told{}. It is not used; writes that it "
                    "lacks wait until its removal is committed.",
                    name_of(member), because(member.detail)));
  } else if (member.state == MemberState::kFailed) {
    into->push_back(fmt::format(
        "{} has failed, since version {} of the membership{}. What it misses is marked in the "
        "bitmap: when its drive is back and readmitted, only that is copied.",
        name_of(member), member.generation, because(member.detail)));
  } else if (member.state == MemberState::kRecovering && !member.present) {
    into->push_back(
        fmt::format("{} was being copied onto and is away{}. That goes on when it is "
                    "back.",
                    name_of(member), because(member.detail)));
  } else if (member.state == MemberState::kRecovering) {
    into->push_back(fmt::format(
        "{} gets all writes, and {} that it lacks are being copied onto it. It is read and counts "
        "once it has everything, durably, and that is committed.",
        name_of(member), format_size_bytes(member.behind_bytes)));
  }
  if (member.slow) {
    into->push_back(
        fmt::format("{} takes much longer than the others. It is read only where no other member "
                    "can be; writes wait for it.",
                    name_of(member)));
  }
  if (member.checksum_errors > 0) {
    into->push_back(fmt::format(
        "{} returned {} blocks that were not what was written. They were served from elsewhere and "
        "rewritten; if the number rises, replace its drive.",
        name_of(member), member.checksum_errors));
  } else if (member.repaired_ranges > 0) {
    into->push_back(fmt::format("{} could not read {} ranges, which were rewritten from elsewhere.",
                                name_of(member), member.repaired_ranges));
  }
}

void explain_regions(const ArrayInfo& info, std::vector<std::string>* into) {
  if (info.unequal_regions > 0) {
    into->push_back(
        fmt::format("After a stop that was not clean, or after damage, the copies of {} regions of "
                    "{} are still "
                    "to be compared; what is read of them meanwhile is made equal first.",
                    info.unequal_regions, format_size_bytes(info.region_size_bytes)));
  }
  if (info.dirty_regions == 0) return;
  bool missing = std::ranges::any_of(info.members, [](const ArrayMemberInfo& member) {
    return member.state == MemberState::kFailed || member.state == MemberState::kRecovering;
  });
  into->push_back(
      fmt::format("{} of {} regions are marked in the bitmap: {}", info.dirty_regions, info.regions,
                  missing ? "they are kept until all members have them."
                          : "they were written a moment ago; the marks go when they rest."));
}

}  // namespace

uint32_t losses_borne(const Shape& shape, uint64_t there_mask) {
  uint32_t count = 0;
  while (count < kLossesCounted && bears(shape, there_mask, count + 1)) ++count;
  return count;
}

std::vector<std::string> explain(const ArrayInfo& info) {
  std::vector<std::string> text;
  if (info.state == "fenced") {
    text.push_back(
        fmt::format("A newer owner runs this array{}. This instance serves nothing any "
                    "more; stop it here.",
                    because(info.detail)));
    return text;
  }
  if (info.state == "stopped" || info.state == "stopping") {
    text.push_back("It is being stopped, or was.");
    return text;
  }
  text.push_back(redundancy(info));
  if (info.state == "recover") {
    text.push_back(fmt::format(
        "I/O fails until enough members are back{}. Drives that come back having lost nothing are "
        "taken in by themselves; else stop the array and start it again.",
        because(info.detail)));
  }
  for (const ArrayMemberInfo& member : info.members) {
    if (member.state != MemberState::kRemoved) explain_member(member, &text);
  }
  explain_regions(info, &text);
  for (const std::string& out : info.left_out) text.push_back("Left out at the start: " + out);
  return text;
}

}  // namespace bb::raid
