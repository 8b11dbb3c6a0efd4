// SPDX-License-Identifier: Apache-2.0
// pure: subsystems and controllers of a target; no I/O, time comes in as a number
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/flight_recorder.h"
#include "io/nvme/target_ana.h"
#include "io/nvme/target_controller.h"

namespace bb::io::nvme {

struct ConnectAnswer {
  NvmeStatus status = NvmeStatus::kSuccess;
  uint32_t result = 0;
  Controller* controller = nullptr;
  uint32_t home = 0;                     // not 0: it is to be asked there
  bool later = false;                    // no answer yet: ask again when the queue is told to
  std::unique_ptr<AuthController> auth;  // the host has yet to prove itself
};

// Everything a target knows, apart from its sockets and devices.
class TargetCore {
 public:
  explicit TargetCore(TargetLimits limits, DigestPolicy policy = DigestPolicy::kAllow,
                      FillRandom random = nullptr)
      : limits_(limits), policy_(policy), random_(random) {}

  const TargetLimits& limits() const { return limits_; }
  DigestPolicy digest_policy() const { return policy_; }
  void set_addresses(std::vector<DiscoveryEntry> addresses) { addresses_ = std::move(addresses); }

  // INVALID_ARGUMENT, ALREADY_EXISTS, NO_SPACE with the limit.
  Status add_subsystem(SubsystemConfig config);
  Status remove_subsystem(const std::string& nqn);  // its controllers end; NOT_FOUND
  // Their hosts are told to look. As Subsystem::add; the nsid comes back.
  Result<uint32_t> add_namespace(const std::string& nqn, NamespaceConfig config);
  // Nothing new of it reaches its device; what is there is counted in io_in_flight. NOT_FOUND.
  Result<NamespaceRef> remove_namespace(const std::string& nqn, uint32_t nsid);
  // NOT_FOUND, INVALID_ARGUMENT: the blocks must stay as large as they are.
  Status update_geometry(const std::string& nqn, uint32_t nsid, const Geometry& geometry);
  // Likewise, and it must take transfers as long as hosts have been told.
  Status replace_device(const std::string& nqn, uint32_t nsid, Device* device,
                        const Geometry& geometry);
  Result<const Namespace*> find_namespace(const std::string& nqn, uint32_t nsid) const;
  const std::map<std::string, std::shared_ptr<Subsystem>>& subsystems() const {
    return subsystems_;
  }
  void set_expects(std::function<bool(const std::string& nqn)> e) { expects_ = std::move(e); }

  ConnectAnswer connect(TargetQueue& queue, const ConnectCommand& command, ConstBytes data,
                        uint64_t now_ns);
  // The host of an admin queue has proved itself: what it had before ends, where it may have only
  // one association. False while commands of that are with the device; then as `later`.
  bool take_over(TargetQueue& queue);
  // The host of an I/O queue has proved itself: the queue takes its place. False: it is taken.
  bool take_place(TargetQueue& queue);
  // Is the host identifier of an admin queue in use by a host of another name?
  bool is_anothers(const TargetQueue& queue) const;
  // The key that goes with an identity a host names in its TLS handshake.
  std::optional<PskSecret> find_psk(const PskIdentity& identity) const;
  // The queue is gone. With the admin queue goes the controller and all its queues.
  void disconnected(TargetQueue& queue, Controller& controller, uint16_t queue_id);
  // Ends the controllers that `of` chooses: their queues close, nothing new is submitted for them.
  void end_controllers(const std::function<bool(const Controller&)>& of, const char* why);
  // From a queue. Its commands are still with the device as it closes; they have all come back; it
  // closes while its Connect waits for another queue's.
  void left_behind(TargetQueue& queue, const Controller& controller);
  void came_back(TargetQueue& queue);
  void aborted_io_back();  // nothing that a preempt-and-abort ended is with the device for a queue
  bool has_leftovers(uint16_t controller_id) const;
  void stopped_waiting(TargetQueue& queue) { std::erase(waiting_, &queue); }
  void expire(uint64_t now_ns);  // those whose keep alive ran out
  const std::vector<std::unique_ptr<Controller>>& controllers() const { return controllers_; }

  // How the hosts of a port reach the namespaces of a group; they are told. INVALID_ARGUMENT.
  Status set_ana_state(uint16_t port, uint32_t group, AnaState state);
  const AnaPort& ana_port(uint16_t port) { return ana_.port(port); }
  LogData ana_log(const Controller& controller, bool groups_only) const;

  // What `host` may see. Entries without an address of their own name `local_host`.
  LogData discovery_log(const HostIdentity& host, const std::string& local_host) const;
  uint32_t controllers_ended = 0;
  uint64_t buffered_bytes = 0;    // of all queues
  uint64_t buffer_share() const;  // what one queue may have of it just now
  FlightRecorder recorder;        // of all queues

  struct Leftover {  // a closed queue with commands at the device
    TargetQueue* queue;
    std::string nqn;
    HostIdentity host;
    std::string local_address;  // ours, that the host reached
    uint16_t controller_id = 0;
  };
  const std::vector<Leftover>& leftovers() const { return leftovers_; }

  // How the driver saves a reservation: it answers with NamespaceReservation::on_saved.
  using SaveReservation = std::function<void(NamespaceRef of, const ReservationState& state)>;
  void set_save_reservation(SaveReservation save) { save_reservation_ = std::move(save); }
  void save_reservation(Namespace& of, const ReservationState& state);
  // Its reservation waits until nothing of a preempted host is with the device any more.
  void await_aborted(Namespace& of) { aborting_.push_back(&of); }

 private:
  ConnectAnswer connect_admin(TargetQueue& queue, const ConnectCommand& command,
                              const ConnectData& data, uint64_t now_ns);
  ConnectAnswer connect_io(TargetQueue& queue, const ConnectCommand& command,
                           const ConnectData& data);
  ConnectAnswer admit(const Subsystem& subsystem, const HostIdentity& host) const;
  bool replace_association(const Subsystem& subsystem, const HostIdentity& host,
                           const std::string& local_address, const Controller* except);
  bool is_anothers(const Subsystem& subsystem, const HostIdentity& host) const;
  bool channel_fits(const TargetQueue& queue, const ConnectData& data) const;
  std::unique_ptr<AuthController> doubt(const Subsystem& subsystem, const HostIdentity& host) const;
  bool too_many_strangers() const;
  uint16_t free_id();
  void discovery_changed();
  void namespace_changed(const Subsystem& subsystem, uint32_t nsid);
  Result<Subsystem*> find(const std::string& nqn) const;

  TargetLimits limits_;
  DigestPolicy policy_;
  FillRandom random_;
  std::vector<DiscoveryEntry> addresses_;
  std::map<std::string, std::shared_ptr<Subsystem>> subsystems_;
  std::function<bool(const std::string& nqn)> expects_;  // of those that are not there
  std::vector<std::unique_ptr<Controller>> controllers_;
  std::vector<Leftover> leftovers_;
  std::vector<TargetQueue*> waiting_;  // whose Connect waits until leftovers are gone
  AnaTable ana_;
  uint16_t last_id_ = 0;
  uint64_t generation_ = 1;
  SaveReservation save_reservation_;
  std::vector<NamespaceRef> aborting_;
};

}  // namespace bb::io::nvme
