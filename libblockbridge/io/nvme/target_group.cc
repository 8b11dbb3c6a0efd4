// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_group.h"

#include "base/log.h"
#include "io/there.h"

namespace bb::io::nvme {

TargetGroup::~TargetGroup() {
  for (const Other& other : others_) {
    BB_CHECK(other.target == nullptr, "a group of targets was destroyed without stop()");
  }
}

Task<Result<std::unique_ptr<TargetGroup>>> TargetGroup::create(Context front,
                                                               std::vector<Runtime*> others,
                                                               TargetOptions options) {
  std::unique_ptr<TargetGroup> group(new TargetGroup(front.loop));
  options.limits.buffered_total_bytes /= 1 + others.size();
  TargetOptions other_options = options;
  other_options.ports = static_cast<uint16_t>(options.listen.size());
  other_options.listen.clear();
  options.hand_over = [raw = group.get()](Handover one) { raw->hand_over(std::move(one)); };
  BB_CO_ASSIGN(group->front_, Target::create(front, std::move(options)));
  for (Runtime* runtime : others) {
    group->others_.push_back({.runtime = runtime});
    auto make = [runtime, &other_options]() -> Task<Result<std::unique_ptr<Target>>> {
      co_return Target::create(runtime->context(), other_options);
    };
    auto made = co_await run_there(front.loop, *runtime, std::move(make));
    if (!made.ok()) {
      co_await group->stop();
      co_return made.status();
    }
    group->others_.back().target = std::move(*made);
  }
  co_return group;
}

void TargetGroup::hand_over(Handover handover) {
  Other& other = others_[handover.home - 1];
  if (!handover.stream->move_to(other.runtime->reactor())) {
    refusing_.spawn(refuse(std::move(handover.stream)));
    return;
  }
  post_there(*other.runtime, [target = other.target.get(), one = std::move(handover)]() mutable {
    target->adopt(std::move(one));
  });
}

Task<void> TargetGroup::refuse(std::unique_ptr<Stream> stream) {
  log_warn("{}: a connection that cannot change its loop now -> closed", stream->peer());
  co_await stream->close();
}

Task<Status> TargetGroup::add_subsystem(size_t place, SubsystemOptions options) {
  BB_CHECK(place < loops(), "loop {}: there are {}", place, loops());
  std::string nqn = options.nqn;
  if (place == 0) {
    BB_CO_TRY(front_->add_subsystem(std::move(options)));
    places_.emplace(std::move(nqn), 0);
    co_return Status();
  }
  SubsystemOptions here{.nqn = nqn,
                        .serial = options.serial,
                        .allowed_hosts = options.allowed_hosts,
                        .security = options.security,
                        .home = static_cast<uint32_t>(place)};
  Other& other = others_[place - 1];
  auto add = [&other, &options]() -> Task<Status> {
    co_return other.target->add_subsystem(std::move(options));
  };
  BB_CO_TRY(co_await run_there(loop_, *other.runtime, std::move(add)));
  Status told = front_->add_subsystem(std::move(here));  // only now: hosts come at once
  if (!told.ok()) {
    auto remove = [&other, &nqn] { return other.target->remove_subsystem(nqn); };
    (void)co_await run_there(loop_, *other.runtime, std::move(remove));
    co_return told;
  }
  places_.emplace(std::move(nqn), place);
  co_return Status();
}

size_t TargetGroup::place_of(const std::string& nqn) const {
  auto found = places_.find(nqn);
  return found == places_.end() ? 0 : found->second;
}

Task<Status> TargetGroup::remove_subsystem(std::string nqn) {
  size_t place = place_of(nqn);
  BB_CO_TRY(co_await front_->remove_subsystem(nqn));
  places_.erase(nqn);
  if (place == 0) co_return Status();
  Other& other = others_[place - 1];
  co_return co_await run_there(loop_, *other.runtime,
                               [&other, &nqn] { return other.target->remove_subsystem(nqn); });
}

Task<Status> TargetGroup::set_ana_state(uint16_t port, uint32_t group, AnaState state) {
  // All are told before any is waited for: then the orders of two callers, of which the first may
  // wait long for its I/O, come to every loop one after the other in the same way.
  Status first;
  TaskGroup setting(loop_);
  for (Other& other : others_) setting.spawn(set_there(&other, port, group, state, &first));
  Status here = co_await front_->set_ana_state(port, group, state);
  co_await setting.join();
  co_return here.ok() ? first : here;
}

Task<void> TargetGroup::set_there(Other* other, uint16_t port, uint32_t group, AnaState state,
                                  Status* first) {
  auto set = [=] { return other->target->set_ana_state(port, group, state); };
  Status status = co_await run_there(loop_, *other->runtime, set);
  if (first->ok()) *first = std::move(status);
}

Task<std::vector<ControllerStat>> TargetGroup::controllers() {
  std::vector<ControllerStat> all = front_->controllers();
  for (Other& other : others_) {
    auto list = [&other]() -> Task<std::vector<ControllerStat>> {
      co_return other.target->controllers();
    };
    for (ControllerStat& one : co_await run_there(loop_, *other.runtime, std::move(list))) {
      all.push_back(std::move(one));
    }
  }
  co_return all;
}

Task<void> TargetGroup::collect(StatsReport* into) {
  front_->collect(into);
  for (Other& other : others_) {
    auto collect = [&other, into]() -> Task<Status> {
      other.target->collect(into);
      co_return Status();
    };
    (void)co_await run_there(loop_, *other.runtime, std::move(collect));
  }
}

// First the one in front: then no connection is on its way to another any more.
Task<void> TargetGroup::stop() {
  if (front_ != nullptr) co_await front_->stop();
  co_await refusing_.join();
  for (Other& other : others_) {
    if (other.target == nullptr) continue;
    auto stop = [&other]() -> Task<Status> {
      co_await other.target->stop();
      other.target.reset();
      co_return Status();
    };
    (void)co_await run_there(loop_, *other.runtime, std::move(stop));
  }
}

}  // namespace bb::io::nvme
