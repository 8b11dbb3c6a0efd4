// SPDX-License-Identifier: Apache-2.0
// pure: RAID 0: chunks in turn, nothing twice
#include "raid/level_table.h"

namespace bb::raid {

constinit const Level kRaid0 = {.id = RaidLevel::k0,
                                .name = "0",
                                .members_min = 1,
                                .members_max = kMembersMax,
                                .copies_default = 1,
                                .copies_max = 1,
                                .parity = 0,
                                .place = near_place,
                                .parity_slot = nullptr};

}  // namespace bb::raid
