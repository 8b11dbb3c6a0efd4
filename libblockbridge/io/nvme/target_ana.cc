// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_ana.h"

namespace bb::io::nvme {

Result<bool> AnaTable::set(uint16_t port, uint32_t group, AnaState state) {
  if (group == 0 || group > kAnaGroupMax) {
    return error(Code::k_invalid_argument, "ANA group {}: there are 1 to {}", group, kAnaGroupMax);
  }
  AnaPort& at = of(port);
  AnaState& now = at.states_[group - 1];
  if (now == state) return false;
  if (ana_usable(now) != ana_usable(state)) at.unusable_ += ana_usable(now) ? 1 : -1u;
  now = state;
  at.changed_at_[group - 1] = ++change_count_;
  return true;
}

}  // namespace bb::io::nvme
