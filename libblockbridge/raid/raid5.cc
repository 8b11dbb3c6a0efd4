// SPDX-License-Identifier: Apache-2.0
// pure: RAID 5: a row has one chunk of parity
#include "raid/level_table.h"

namespace bb::raid {
namespace {

ChunkPlace place(const Shape& shape, uint64_t chunk, uint32_t) {
  return rotating_place(shape, chunk, 1);
}

}  // namespace

constinit const Level kRaid5 = {.id = RaidLevel::k5,
                                .name = "5",
                                .members_min = 3,
                                .members_max = kMembersMax,
                                .copies_default = 1,
                                .copies_max = 1,
                                .parity = 1,
                                .place = place,
                                .parity_slot = rotating_parity_slot};

}  // namespace bb::raid
