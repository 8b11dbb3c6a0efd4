// SPDX-License-Identifier: Apache-2.0
// pure: RAID 1: every member holds everything
#include "raid/level_table.h"

namespace bb::raid {
namespace {

ChunkPlace everywhere(const Shape&, uint64_t chunk, uint32_t copy) {
  return {.slot = copy, .row = chunk};
}

}  // namespace

constinit const Level kRaid1 = {.id = RaidLevel::k1,
                                .name = "1",
                                .members_min = 2,
                                .members_max = 8,
                                .copies_default = 0,
                                .copies_max = 8,
                                .parity = 0,
                                .place = everywhere,
                                .parity_slot = nullptr};

}  // namespace bb::raid
