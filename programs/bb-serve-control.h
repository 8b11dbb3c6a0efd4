// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bb-serve-devices.h"
#include "io/nvme/target_group.h"
#include "io/rpc/rpc_server.h"

namespace bb::program {

// What can be changed of bb-serve's NVMe/TCP target while hosts are connected: the methods
// namespace.list, .add, .remove and .replace, and ana.list and ana.set. Calls come to the first
// loop; what they do to a subsystem is done on the loop where it lives. Borrows everything.
class NvmeControl {
 public:
  // `alone`: nobody else exports the devices, so they may be closed when they are taken away.
  NvmeControl(Loops& loops, io::nvme::TargetGroup& target, Devices& devices, bool alone)
      : loops_(loops), target_(target), devices_(devices), alone_(alone) {}
  void add_methods(io::rpc::RpcServer& server);

 private:
  // Where a subsystem lives: for use on that loop.
  struct Home {
    io::Context context;
    io::nvme::Target& target;
    Devices::Owned& devices;
  };
  using Change = io::Task<Result<Json>>(Home home, Json params);
  static Change add_namespace;
  static Change remove_namespace;
  static Change replace_namespace;
  static io::Task<Status> close_device(Home home, io::Device* device);

  io::Task<Result<Json>> on_list(Json params);
  io::Task<Result<Json>> on_change(Change* change, Json params);
  io::Task<Result<Json>> on_add(Json params);
  io::Task<Result<Json>> on_remove(Json params);
  io::Task<Result<Json>> on_replace(Json params);
  io::Task<Result<Json>> on_ana_list(Json params);
  io::Task<Result<Json>> on_ana_set(Json params);
  io::Task<Result<Json>> namespaces();
  Result<std::string> subsystem_or_only(std::string nqn) const;
  Status check_alone() const;
  Home home(size_t place) { return {loops_.at(place), target_.at(place), devices_.at(place)}; }

  Loops& loops_;
  io::nvme::TargetGroup& target_;
  Devices& devices_;
  bool alone_;
};

}  // namespace bb::program
