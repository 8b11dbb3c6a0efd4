// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_events.h"

#include <iterator>

namespace bb::io::nvme {
namespace {

struct Row {
  EventKind kind;
  uint32_t enabled_by;  // bit of feature 0Bh
  uint32_t event;
};

constexpr Row kRows[] = {
    {EventKind::kNamespaceChanged, kEventConfigNamespace, kEventNamespaceChanged},
    {EventKind::kDiscoveryChanged, kEventConfigDiscovery, kEventDiscoveryChanged},
};

}  // namespace

bool ControllerEvents::take(uint32_t* event) {
  static_assert(std::size(kRows) == std::tuple_size_v<decltype(states_)>);
  for (const Row& row : kRows) {
    State& state = of(row.kind);
    if (!state.pending || state.masked || (enabled_ & row.enabled_by) == 0) continue;
    state = {.pending = false, .masked = true};
    *event = row.event;
    return true;
  }
  return false;
}

}  // namespace bb::io::nvme
