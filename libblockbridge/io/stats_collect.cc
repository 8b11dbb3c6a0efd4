// SPDX-License-Identifier: Apache-2.0
#include "io/stats_collect.h"

#include "io/device_meter.h"

namespace bb::io {

ObjectStats device_stats(const Device& device) {
  ObjectStats row{.type = "device", .name = device.info().uri};
  for (const EventCount& event : device.event_counts()) {
    row.events.emplace_back(event.name, event.count);
  }
  if (const DeviceMeter* meter = device.meter()) {
    row.in_flight = meter->in_flight();
    row.io = meter->stats();
  }
  return row;
}

void collect_device(const Device& device, StatsReport* into) {
  into->objects.push_back(device_stats(device));
  if (const DeviceMeter* meter = device.meter()) into->add_records(meter->recorder());
}

CollectStats collect_here(std::function<void(StatsReport*)> collect) {
  return [collect = std::move(collect)](StatsReport* into) -> Task<void> {
    collect(into);
    co_return;
  };
}

StatsReport begin_report(const Loop& loop) {
  StatsReport report;
  report.taken_ns = loop.now_ns();
  report.wall_ns = loop.wall_ns();
  return report;
}

}  // namespace bb::io
