// SPDX-License-Identifier: Apache-2.0
// pure: RAID 10: chunks in turn, each on several members
#include "raid/level_table.h"

namespace bb::raid {

constinit const Level kRaid10 = {.id = RaidLevel::k10,
                                 .name = "10",
                                 .members_min = 3,
                                 .members_max = kMembersMax,
                                 .copies_default = 2,
                                 .copies_max = 8,
                                 .parity = 0,
                                 .place = near_place,
                                 .parity_slot = nullptr};

}  // namespace bb::raid
