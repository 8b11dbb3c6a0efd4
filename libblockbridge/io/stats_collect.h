// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "io/device.h"
#include "io/loop.h"
#include "io/stats_report.h"

namespace bb::io {

// What a device has to say of itself: its row, and what its recorder kept.
ObjectStats device_stats(const Device& device);
void collect_device(const Device& device, StatsReport* into);

// Fills a report. It begins and ends on the loop of whoever asks, and may visit others between.
using CollectStats = std::function<Task<void>(StatsReport*)>;
// The one of what lives on that loop alone.
CollectStats collect_here(std::function<void(StatsReport*)> collect);

// An empty report of this moment, to be filled on the loop.
StatsReport begin_report(const Loop& loop);

}  // namespace bb::io
