// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "bb-serve-nvme.h"
#include "io/rpc/rpc_server.h"

namespace bb::program {

// What can be changed of bb-serve's NVMe/TCP target while hosts are connected: the methods
// namespace.list, .add, .remove and .replace, and ana.list and ana.set. Borrows everything.
class NvmeControl {
 public:
  // `alone`: nobody else exports the devices, so they may be closed when they are taken away.
  NvmeControl(io::Context context, io::nvme::Target& target, Devices& devices, bool alone)
      : context_(context), target_(target), devices_(devices), alone_(alone) {}
  void add_methods(io::rpc::RpcServer& server);

 private:
  io::Task<Result<Json>> on_list(Json params);
  io::Task<Result<Json>> on_add(Json params);
  io::Task<Result<Json>> on_remove(Json params);
  io::Task<Result<Json>> on_replace(Json params);
  io::Task<Result<Json>> on_ana_list(Json params);
  io::Task<Result<Json>> on_ana_set(Json params);
  Result<io::nvme::NamespaceStat> find(const std::string& nqn, uint64_t nsid) const;
  Result<std::string> subsystem_or_only(std::string nqn) const;
  Status check_alone() const;
  io::Task<Status> close_device(io::Device* device);

  io::Context context_;
  io::nvme::Target& target_;
  Devices& devices_;
  bool alone_;
};

}  // namespace bb::program
