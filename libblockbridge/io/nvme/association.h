// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/context.h"
#include "io/nvme/ana.h"
#include "io/nvme/host_security.h"
#include "io/nvme/identify.h"
#include "io/nvme/initiator_connection.h"

namespace bb::io::nvme {

struct AssociationOptions {
  std::string address;  // host:port
  std::string subsystem_nqn;
  HostIdentity host;
  Digests digests{.header = true, .data = true};
  uint32_t nsid = 1;
  uint16_t queue_depth = 128;
  uint16_t queues = 1;
  uint64_t keep_alive_ns = 0;                    // 0: none
  SecurityFiles security_files;                  // for whoever opens, to load
  std::shared_ptr<const HostSecurity> security;  // what was in them
};

// A host's connections to one controller: the admin queue and the I/O queues. When one breaks, all
// do, and the owner is told once.
class Association final : private InitiatorConnection::Owner {
 public:
  struct Owner {
    virtual void on_association_broken(Association& association) = 0;

   protected:
    ~Owner() = default;
  };

  Association(Context context, const AssociationOptions& options, Owner* owner);

  // Connects the admin queue and enables the controller; then, with a namespace, what I/O needs.
  // On an error close() is still due.
  Task<Status> establish_admin(uint64_t deadline_ns);
  Task<Status> establish_io(uint64_t deadline_ns);
  Task<Status> keep_alive(uint64_t deadline_ns);
  // The state in which this controller has the namespace; optimized where it reports none.
  Task<Result<AnaState>> read_ana_state(uint64_t deadline_ns);
  Task<Status> read_namespace(uint64_t deadline_ns);
  // Which events (of those that the controller knows) next_event() is to give. It waits for one.
  Task<Status> enable_events(uint32_t wanted, uint64_t deadline_ns);
  Task<Result<uint32_t>> next_event();
  // Whether the controller has taken the command back; then it is completed as aborted.
  Task<Result<bool>> abort(uint16_t queue_id, uint16_t command_id, uint64_t deadline_ns);
  Task<Result<std::vector<std::byte>>> get_log_page(LogId id, uint64_t offset_bytes,
                                                    uint32_t length_bytes, uint64_t deadline_ns);
  void break_off(Status why);
  Task<void> close();

  bool broken() const { return broken_; }
  const Status& why() const { return why_; }
  const ControllerInfo& controller() const { return controller_; }
  const NamespaceInfo& name_space() const { return namespace_; }
  uint16_t queue_depth() const { return queue_depth_; }
  std::vector<std::unique_ptr<InitiatorConnection>>& queues() { return queues_; }

 private:
  void on_connection_broken(InitiatorConnection& connection) override;
  Task<Result<std::unique_ptr<InitiatorConnection>>> connect_queue(uint16_t queue_id,
                                                                   uint16_t entries,
                                                                   uint32_t capsule_data_bytes,
                                                                   uint64_t deadline_ns);
  Task<Status> fabrics_connect(InitiatorConnection* connection, uint16_t queue_id, uint16_t entries,
                               uint64_t deadline_ns);
  Task<Result<uint64_t>> get_property(Property property, bool eight_bytes, uint64_t deadline_ns);
  Task<Status> enable(uint64_t deadline_ns);
  Task<Status> identify(IdentifyCns cns, uint32_t nsid, Bytes into, uint64_t deadline_ns);
  Task<Status> set_queue_count(uint64_t deadline_ns);

  Context context_;
  const AssociationOptions& options_;
  Owner* owner_;
  std::unique_ptr<InitiatorConnection> admin_;
  std::vector<std::unique_ptr<InitiatorConnection>> queues_;
  uint16_t controller_id_ = kControllerIdAny;
  uint16_t queue_entries_max_ = 1;
  uint16_t queue_depth_ = 1;
  uint16_t queue_count_ = 1;
  ControllerInfo controller_;
  NamespaceInfo namespace_;
  bool broken_ = false;
  Status why_;
};

}  // namespace bb::io::nvme
