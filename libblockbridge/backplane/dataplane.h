// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backplane/config.h"
#include "backplane/managed_array.h"
#include "cluster/membership_store.h"
#include "cluster/store.h"
#include "io/nbd/server.h"
#include "io/nvme/target.h"
#include "io/rpc/rpc_server.h"

namespace bb::backplane {

// Claims drives of the configured backplanes, makes arrays of them and exports these over NVMe/TCP
// and NBD. Spoken to over its control socket, JSON-RPC; errors carry code, text and hint.
//
//   daemon.info {}    -> {name, owner, host_nqn, store, backplanes: [{name, control, state,
//   detail}]} drive.list {query?, explain?, members?, spread?}
//                     -> {drives: [{id, backplane, disk_node, domain, enclosure, slot, serial,
//                     model,
//                         capacity_bytes, block_size_bytes, state, owner, array, errors, detail,
//                         reason?}], refused: [{backplane, slot, uri, reason}],
//                         chosen?: [id], choice?: text, backplanes}
//   array.create {name, raid?: "LEVEL.MEMBERS[.COPIES]", chunk_bytes?, query?, spread?,
//                     region_bytes?, assume_clean?, integrity?: "crc32c" | "none"}
//                     -> as array.info
//   array.list {}     -> {arrays: [as array.info]}
//   array.info {name} -> {name, uuid, state, detail, raid, level, copies, chunk_bytes, epoch,
//   version, capacity_bytes, members:
//                         [{drive, place, state, ...}], dirty_regions, resync: {total_bytes,
//                         done_bytes, written_bytes, text}, exports: [...], ...}
//                     explanation (in it): sentences, why it is in its state and what happens next
//   array.fail {name, drive}, array.readmit {name, drive} -> as array.info
//   array.scrub {name, action?: "start" | "resume" | "pause" | "cancel"} -> as array.info; without
//                     an action one that was interrupted or paused goes on, else one begins. It
//                     runs in the background; array.info tells of it in scrub (raid/scrub_view.h).
//   array.stop {name} -> {name, state}: until array.start or a restart of the daemon
//   array.start {name}, array.remove {name}
//   target.list {}    -> {targets: [{array, protocol, address, name, uri}]}
//   io.stats, io.slow: see io/rpc/stats_methods.h
//
// `query` is the text of clauses ("select model=A* unique domain").
class Dataplane {
 public:
  static io::Task<Result<std::unique_ptr<Dataplane>>> start(io::Context context,
                                                            DataplaneConfig config);
  ~Dataplane();
  io::Task<void> stop();  // before destruction; arrays stay claimed and come back at the next start

  const OwnerIdentity& identity() const { return us_; }
  std::vector<std::string> control_addresses() const { return server_.local_addresses(); }
  std::vector<std::string> nvme_addresses() const;
  const std::vector<std::string>& nbd_addresses() const { return nbd_addresses_; }
  void collect(io::StatsReport* into) const;  // arrays, their members, exports, connections

 private:
  Dataplane(io::Context context, DataplaneConfig config);
  Status listen();
  io::Task<Status> open_store();
  io::Task<Status> load_arrays();
  void add_methods();
  using Method = io::Task<Result<Json>> (Dataplane::*)(Json);
  void add_method(std::string name, Method method);

  io::Task<Result<Json>> daemon_info(Json params);
  io::Task<Result<Json>> drive_list(Json params);
  io::Task<Result<Json>> array_create(Json params);
  io::Task<Result<Json>> array_list(Json params);
  io::Task<Result<Json>> array_info(Json params);
  io::Task<Result<Json>> array_fail(Json params);
  io::Task<Result<Json>> array_readmit(Json params);
  io::Task<Result<Json>> array_scrub(Json params);
  io::Task<Result<Json>> array_stop(Json params);
  io::Task<Result<Json>> array_start(Json params);
  io::Task<Result<Json>> array_remove(Json params);
  io::Task<Result<Json>> target_list(Json params);

  Json describe_backplanes() const;
  Json describe_array(const ManagedArray& array) const;
  Json exports_of(const ManagedArray& array) const;
  Result<ManagedArray*> find_array(const std::string& name) const;
  io::Task<Status> create_array(ArrayCreateRequest request);
  Result<ArrayCreateRequest> parse_create(const Json& params) const;
  std::unique_ptr<ManagedArray> make_array(ArrayBook::Entry entry);
  Status export_array(ManagedArray& array);
  bool may_export(const std::string& nqn) const;
  io::Task<void> withdraw_exports(ManagedArray* array);
  io::Task<Status> stop_array(ManagedArray* array);
  io::Task<void> sweep();
  io::Task<Status> forget_membership(Uuid array);
  io::Task<bool> sweep_record(ArrayBook::Entry* entry);

  io::Context context_;
  DataplaneConfig config_;
  BackplaneSet backplanes_;
  std::unique_ptr<io::nvme::Target> target_;  // null: not exported over NVMe/TCP
  io::nbd::Server nbd_;
  io::rpc::RpcServer server_;
  std::vector<std::string> nbd_addresses_;
  std::unique_ptr<cluster::Store> store_;
  std::unique_ptr<ArrayBook> book_;
  std::unique_ptr<cluster::MembershipStore> authority_;
  OwnerIdentity us_;
  std::map<std::string, std::unique_ptr<ManagedArray>> arrays_;
  bool loaded_ = false;                              // arrays_ has all that the book knows
  std::map<std::string, ArrayBook::Entry> stopped_;  // by array.stop
  std::set<std::string> busy_names_;  // being created, stopped, removed: nobody else may touch them
  std::vector<ArrayBook::Entry> removing_;  // claims still to be given back
  io::Event stopping_;
  io::TaskGroup tasks_;
};

}  // namespace bb::backplane
