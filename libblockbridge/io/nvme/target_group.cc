// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_group.h"

namespace bb::io::nvme {

Task<Result<std::unique_ptr<TargetGroup>>> TargetGroup::create(Context front,
                                                               std::vector<Runtime*> others,
                                                               TargetOptions options) {
  std::unique_ptr<TargetGroup> group(new TargetGroup(front.loop));
  options.limits.buffered_total_bytes /= 1 + others.size();
  TargetOptions other_options = options;
  other_options.ports = static_cast<uint16_t>(options.listen.size());
  other_options.listen.clear();
  options.hand_over = [raw = group.get()](Handover one) { raw->others_.hand_over(std::move(one)); };
  BB_CO_ASSIGN(group->front_, Target::create(front, std::move(options)));
  for (Runtime* runtime : others) {
    auto make = [runtime, &other_options]() -> Task<Result<std::unique_ptr<Target>>> {
      co_return Target::create(runtime->context(), other_options);
    };
    Status made = co_await group->others_.add(runtime, std::move(make));
    if (!made.ok()) {
      co_await group->stop();
      co_return made;
    }
  }
  co_return group;
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
  auto add = [&options](Target& target) -> Task<Status> {
    co_return target.add_subsystem(std::move(options));
  };
  BB_CO_TRY(co_await others_.run(place, std::move(add)));
  Status told = front_->add_subsystem(std::move(here));  // only now: hosts come at once
  if (!told.ok()) {
    (void)co_await remove_there(place, nqn);
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
  co_return co_await remove_there(place, std::move(nqn));
}

Task<Status> TargetGroup::remove_there(size_t place, std::string nqn) {
  return others_.run(
      place, [nqn = std::move(nqn)](Target& target) { return target.remove_subsystem(nqn); });
}

Task<Status> TargetGroup::set_ana_state(uint16_t port, uint32_t group, AnaState state) {
  // All are told before any is waited for: then the orders of two callers, of which the first may
  // wait long for its I/O, come to every loop one after the other in the same way.
  Status first;
  TaskGroup setting(loop_);
  for (size_t place = 1; place < loops(); ++place) {
    setting.spawn(set_there(place, port, group, state, &first));
  }
  Status here = co_await front_->set_ana_state(port, group, state);
  co_await setting.join();
  co_return here.ok() ? first : here;
}

Task<void> TargetGroup::set_there(size_t place, uint16_t port, uint32_t group, AnaState state,
                                  Status* first) {
  auto set = [=](Target& target) { return target.set_ana_state(port, group, state); };
  Status status = co_await others_.run(place, set);
  if (first->ok()) *first = std::move(status);
}

Task<std::vector<ControllerStat>> TargetGroup::controllers() {
  std::vector<ControllerStat> all = front_->controllers();
  for (size_t place = 1; place < loops(); ++place) {
    auto list = [](Target& target) -> Task<std::vector<ControllerStat>> {
      co_return target.controllers();
    };
    for (ControllerStat& one : co_await others_.run(place, list)) all.push_back(std::move(one));
  }
  co_return all;
}

Task<void> TargetGroup::collect(StatsReport* into) {
  front_->collect(into);
  co_await others_.collect(into);
}

// First the one in front: then no connection is on its way to another any more.
Task<void> TargetGroup::stop() {
  if (front_ != nullptr) co_await front_->stop();
  co_await others_.stop();
}

}  // namespace bb::io::nvme
