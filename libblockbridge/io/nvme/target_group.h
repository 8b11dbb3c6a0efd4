// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/loop_parts.h"
#include "io/nvme/target.h"

namespace bb::io::nvme {

// One target on several loops, with one set of ports. A subsystem lives on one of the loops with
// its devices, its controllers and all their connections, so that no I/O ever crosses from one
// thread to another: a connection is accepted on the loop of this object, and goes to where it
// belongs once its host has said in Connect where that is. Loops are counted from 0, which is this
// object's own. Limits hold for each loop; that of buffered data is divided among them.
class TargetGroup {
 public:
  // `others`: runtimes with threads of their own, borrowed until stop() has returned. Errors as of
  // Target::create.
  static Task<Result<std::unique_ptr<TargetGroup>>> create(Context front,
                                                           std::vector<Runtime*> others,
                                                           TargetOptions options);

  size_t loops() const { return 1 + others_.size(); }
  // What lives on the loop at `place`, to be used there alone. It stays until stop().
  Target& at(size_t place) { return place == 0 ? *front_ : others_.at(place); }
  // The loop of a subsystem; of one there is not, 0, where the target says so.
  size_t place_of(const std::string& nqn) const;
  std::vector<std::string> subsystems() const { return front_->subsystems(); }
  std::vector<std::string> addresses() const { return front_->addresses(); }

  // Its devices belong to the loop at `place`. Errors as of Target.
  Task<Status> add_subsystem(size_t place, SubsystemOptions options);
  Task<Status> remove_subsystem(std::string nqn);
  // Of two callers the later one has its way on every loop.
  Task<Status> set_ana_state(uint16_t port, uint32_t group, AnaState state);
  AnaState ana_state(uint16_t port, uint32_t group) { return front_->ana_state(port, group); }
  Task<std::vector<ControllerStat>> controllers();
  // As Target::collect, one loop after the other.
  Task<void> collect(StatsReport* into);

  Task<void> stop();

 private:
  explicit TargetGroup(Loop& loop) : loop_(loop), others_(loop) {}
  Task<Status> remove_there(size_t place, std::string nqn);
  Task<void> set_there(size_t place, uint16_t port, uint32_t group, AnaState state, Status* first);

  Loop& loop_;
  std::unique_ptr<Target> front_;
  LoopParts<Target> others_;
  std::map<std::string, size_t> places_;  // of subsystems
};

}  // namespace bb::io::nvme
