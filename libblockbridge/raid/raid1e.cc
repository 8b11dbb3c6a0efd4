// SPDX-License-Identifier: Apache-2.0
// pure: RAID 1E: two copies on an odd number of members
#include "raid/level_table.h"

namespace bb::raid {

constinit const Level kRaid1e = {.id = RaidLevel::k1e,
                                 .name = "1E",
                                 .members_min = 3,
                                 .members_max = kMembersMax - 1,
                                 .copies_default = 2,
                                 .copies_max = 2,
                                 .parity = 0,
                                 .place = near_place,
                                 .parity_slot = nullptr};

}  // namespace bb::raid
