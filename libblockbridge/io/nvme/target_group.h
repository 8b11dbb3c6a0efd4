// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/nvme/target.h"
#include "io/runtime.h"

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
  ~TargetGroup();

  size_t loops() const { return 1 + others_.size(); }
  // What lives on this object's loop.
  Target& front() { return *front_; }
  std::vector<std::string> addresses() const { return front_->addresses(); }

  // Its devices belong to the loop at `place`. Errors as of Target.
  Task<Status> add_subsystem(size_t place, SubsystemOptions options);
  Task<Status> remove_subsystem(std::string nqn);
  Task<Status> set_ana_state(uint16_t port, uint32_t group, AnaState state);
  Task<std::vector<ControllerStat>> controllers();

  Task<void> stop();

 private:
  struct Other {
    Runtime* runtime = nullptr;
    std::unique_ptr<Target> target;
  };

  explicit TargetGroup(Loop& loop) : loop_(loop) {}
  void hand_over(Handover handover);

  Loop& loop_;
  std::unique_ptr<Target> front_;
  std::vector<Other> others_;
  std::map<std::string, size_t> places_;  // of subsystems
};

}  // namespace bb::io::nvme
