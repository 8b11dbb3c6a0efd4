// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/server_group.h"

#include <algorithm>

namespace bb::io::nbd {

Task<std::unique_ptr<ServerGroup>> ServerGroup::create(Context front, std::vector<Runtime*> others,
                                                       ServerLimits limits, ServerTls tls) {
  std::unique_ptr<ServerGroup> group(new ServerGroup(front.loop));
  limits.buffer_bytes_max =
      std::max<uint64_t>(limits.buffer_bytes_max / (1 + others.size()), kPayloadMax);
  group->front_ = std::make_unique<Server>(front, limits, std::move(tls));
  group->front_->set_hand_over(
      [raw = group.get()](Handover one) { raw->others_.hand_over(std::move(one)); });
  for (Runtime* runtime : others) {
    auto make = [runtime, limits]() -> Task<Result<std::unique_ptr<Server>>> {
      co_return std::make_unique<Server>(runtime->context(), limits);
    };
    (void)co_await group->others_.add(runtime, std::move(make));  // it cannot fail
  }
  co_return group;
}

Task<Status> ServerGroup::add_export(size_t place, std::string name, Device* device,
                                     ExportOptions options) {
  BB_CHECK(place < loops(), "loop {}: there are {}", place, loops());
  if (place == 0) co_return front_->add_export(std::move(name), *device, std::move(options));
  auto add = [&](Server& server) -> Task<Result<ExportInfo>> {
    BB_CO_TRY(server.add_export(name, *device, options));
    co_return *server.info(name);
  };
  BB_CO_ASSIGN(ExportInfo info, co_await others_.run(place, std::move(add)));
  // Only now: clients come at once.
  Status told = front_->add_export_elsewhere(std::move(info), static_cast<uint32_t>(place));
  if (!told.ok()) {
    auto remove = [&name](Server& server) { return server.remove_export(name); };
    (void)co_await others_.run(place, std::move(remove));
  }
  co_return told;
}

Task<void> ServerGroup::collect(StatsReport* into) {
  front_->collect(into);
  co_await others_.collect(into);
}

// First the one in front: then no connection is on its way to another any more.
Task<void> ServerGroup::stop() {
  co_await front_->stop();
  co_await others_.stop();
}

}  // namespace bb::io::nbd
