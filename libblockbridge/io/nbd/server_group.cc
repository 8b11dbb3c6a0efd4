// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/server_group.h"

#include <algorithm>

#include "base/log.h"
#include "io/there.h"

namespace bb::io::nbd {

ServerGroup::~ServerGroup() {
  for (const Other& other : others_) {
    BB_CHECK(other.server == nullptr, "a group of NBD servers was destroyed without stop()");
  }
}

Task<std::unique_ptr<ServerGroup>> ServerGroup::create(Context front, std::vector<Runtime*> others,
                                                       ServerLimits limits, ServerTls tls) {
  std::unique_ptr<ServerGroup> group(new ServerGroup(front.loop));
  limits.buffer_bytes_max =
      std::max<uint64_t>(limits.buffer_bytes_max / (1 + others.size()), kPayloadMax);
  group->front_ = std::make_unique<Server>(front, limits, std::move(tls));
  group->front_->set_hand_over(
      [raw = group.get()](Handover one) { raw->hand_over(std::move(one)); });
  for (Runtime* runtime : others) {
    auto make = [runtime, limits]() -> Task<std::unique_ptr<Server>> {
      co_return std::make_unique<Server>(runtime->context(), limits);
    };
    auto server = co_await run_there(front.loop, *runtime, std::move(make));
    group->others_.push_back({.runtime = runtime, .server = std::move(server)});
  }
  co_return group;
}

void ServerGroup::hand_over(Handover handover) {
  Other& other = others_[handover.home - 1];
  if (!handover.stream->move_to(other.runtime->reactor())) {
    refusing_.spawn(refuse(std::move(handover.stream)));
    return;
  }
  post_there(*other.runtime, [server = other.server.get(), one = std::move(handover)]() mutable {
    server->adopt(std::move(one));
  });
}

Task<void> ServerGroup::refuse(std::unique_ptr<Stream> stream) {
  log_warn("{}: an nbd connection that cannot change its loop now -> closed", stream->peer());
  co_await stream->close();
}

Task<Status> ServerGroup::add_export(size_t place, std::string name, Device* device,
                                     ExportOptions options) {
  BB_CHECK(place < loops(), "loop {}: there are {}", place, loops());
  if (place == 0) co_return front_->add_export(std::move(name), *device, std::move(options));
  Other& other = others_[place - 1];
  auto add = [&]() -> Task<Result<ExportInfo>> {
    BB_CO_TRY(other.server->add_export(name, *device, options));
    co_return *other.server->info(name);
  };
  BB_CO_ASSIGN(ExportInfo info, co_await run_there(loop_, *other.runtime, std::move(add)));
  // Only now: clients come at once.
  Status told = front_->add_export_elsewhere(std::move(info), static_cast<uint32_t>(place));
  if (!told.ok()) {
    auto remove = [&other, &name] { return other.server->remove_export(name); };
    (void)co_await run_there(loop_, *other.runtime, std::move(remove));
  }
  co_return told;
}

Task<void> ServerGroup::collect(StatsReport* into) {
  front_->collect(into);
  for (Other& other : others_) {
    auto collect = [&other, into]() -> Task<Status> {
      other.server->collect(into);
      co_return Status();
    };
    (void)co_await run_there(loop_, *other.runtime, std::move(collect));
  }
}

// First the one in front: then no connection is on its way to another any more.
Task<void> ServerGroup::stop() {
  co_await front_->stop();
  co_await refusing_.join();
  for (Other& other : others_) {
    auto stop = [&other]() -> Task<Status> {
      co_await other.server->stop();
      other.server.reset();
      co_return Status();
    };
    (void)co_await run_there(loop_, *other.runtime, std::move(stop));
  }
}

}  // namespace bb::io::nbd
