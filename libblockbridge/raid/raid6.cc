// SPDX-License-Identifier: Apache-2.0
// pure: RAID 6: a row has two chunks of parity, P and Q
#include "raid/level_table.h"

namespace bb::raid {
namespace {

ChunkPlace place(const Shape& shape, uint64_t chunk, uint32_t) {
  return rotating_place(shape, chunk, 2);
}

}  // namespace

constinit const Level kRaid6 = {.id = RaidLevel::k6,
                                .name = "6",
                                .members_min = 4,
                                .members_max = kMembersMax,
                                .copies_default = 1,
                                .copies_max = 1,
                                .parity = 2,
                                .place = place,
                                .parity_slot = rotating_parity_slot};

}  // namespace bb::raid
