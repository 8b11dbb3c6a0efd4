// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_events.h"

#include <iterator>

namespace bb::io::nvme {
namespace {

struct Row {
  EventKind kind;
  uint32_t enabled_by;  // bit of feature 0Bh; 0: always
  uint32_t event;
};

constexpr Row kRows[] = {
    {EventKind::kNamespaceChanged, kEventConfigNamespace, kEventNamespaceChanged},
    {EventKind::kAnaChanged, kEventConfigAna, kEventAnaChanged},
    {EventKind::kDiscoveryChanged, kEventConfigDiscovery, kEventDiscoveryChanged},
    {EventKind::kReservation, 0, kEventReservationLog},
};

}  // namespace

bool ControllerEvents::take(uint32_t* event) {
  static_assert(std::size(kRows) == std::tuple_size_v<decltype(states_)>);
  for (const Row& row : kRows) {
    State& state = of(row.kind);
    bool enabled = row.enabled_by == 0 || (enabled_ & row.enabled_by) != 0;
    if (!state.pending || state.masked || !enabled) continue;
    state = {.pending = false, .masked = true};
    *event = row.event;
    return true;
  }
  return false;
}

}  // namespace bb::io::nvme
