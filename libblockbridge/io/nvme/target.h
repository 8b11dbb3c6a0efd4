// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/nvme/reservation_store.h"
#include "io/nvme/target_connection.h"
#include "io/stats_report.h"
#include "io/tls_policy.h"

namespace bb::io::nvme {

struct TargetOptions {
  std::vector<Address> listen;
  // "host:port" that the discovery log names; empty: the addresses we listen on.
  std::vector<std::string> advertise;
  // The highest port there is: 0 where there are as many as `listen` has.
  uint16_t ports = 0;
  // Takes the connections to subsystems that live elsewhere (SubsystemOptions::home); called on the
  // target's loop.
  std::function<void(Handover)> hand_over;
  // Is a subsystem that is not here on its way, such as one whose array is being assembled? Its
  // hosts are told to try again; told that there is none, Linux gives up and fails all I/O.
  std::function<bool(const std::string& nqn)> expects;
  DigestPolicy digests = DigestPolicy::kAllow;
  // By TLS 1.3, with a host's key in the SecurityConfig of a subsystem; kAllowed: plain hosts too,
  // where no keys are given out.
  TlsPolicy tls = TlsPolicy::kOff;
  TargetLimits limits;
  uint64_t slow_ns = 0;  // what the flight recorder calls slow; 0: see FlightRecorder
};

struct NamespaceOptions {
  uint32_t nsid = 0;  // 0: the lowest that is free
  Device* device =
      nullptr;  // borrowed until remove_namespace, remove_subsystem or stop has returned
  Uuid uuid;
  bool read_only = false;  // to its hosts, whatever the device is
  // Where its reservation outlives the target (PTPL); borrowed likewise. `reservation` is what it
  // has loaded. Without one, hosts are told that reservations do not persist.
  ReservationStore* reservation_store = nullptr;
  ReservationState reservation;
  uint32_t ana_group = 1;
};

struct SubsystemOptions {
  std::string nqn;
  Device* device = nullptr;  // namespace 1, borrowed likewise; null: see `namespaces`
  Uuid uuid;                 // of namespace 1, and where `serial` comes from if that is empty
  std::vector<NamespaceOptions> namespaces;  // beside `device`; more may follow
  std::string serial;
  std::string model = "Blockbridge";
  std::vector<std::string> allowed_hosts;  // NQNs; empty: any
  SecurityConfig security;
  Admission* admission = nullptr;  // borrowed likewise
  // A host (its NQN and its identifier) has one association at a time by each address of ours: the
  // Connect of the next one is answered once nothing of the one before reaches the device any more,
  // and Identify Controller says so. For hosts that count on a command they gave up not to be
  // executed behind a later one; not for hosts that connect twice to one address.
  bool single_association = false;
  // Not 0: it lives with another target, which `hand_over` knows by this number: without namespaces
  // here, but found by hosts, and with the keys by which they come.
  uint32_t home = 0;
};

struct NamespaceStat {
  std::string nqn;
  uint32_t nsid = 0;
  Uuid uuid;
  Device* device = nullptr;
  Geometry geometry;  // as hosts see it
  uint32_t ana_group = 1;
  Counters counters;
};

struct ControllerStat {
  std::string nqn;
  HostIdentity host;
  std::string peer;
  uint16_t controller_id = 0;
  uint16_t io_queues = 0;  // connected
  Digests digests;
  uint64_t connected_ns = 0;  // loop time
  Counters counters;
};

// An NVMe/TCP target: publishes devices as namespaces of subsystems, with a discovery subsystem
// beside them. Belongs to one loop.
class Target {
 public:
  // ALREADY_EXISTS when a port is in use, INVALID_ARGUMENT for a bad address or limit.
  static Result<std::unique_ptr<Target>> create(Context context, TargetOptions options);
  ~Target();

  // INVALID_ARGUMENT, ALREADY_EXISTS (the NQN, an nsid), NO_SPACE (a limit).
  Status add_subsystem(SubsystemOptions options);
  // Returns once nothing of it reaches the device any more. NOT_FOUND.
  Task<Status> remove_subsystem(std::string nqn);

  // Namespaces come, go and change their size while hosts are connected: they are told. A device
  // must take transfers as long as the first ones of its subsystem. Errors as of add_subsystem.
  Result<uint32_t> add_namespace(const std::string& nqn, NamespaceOptions options);  // the nsid
  // Returns once nothing of it reaches the device any more. NOT_FOUND.
  Task<Status> remove_namespace(std::string nqn, uint32_t nsid);
  // Looks at what its device says of itself now. NOT_FOUND, INVALID_ARGUMENT (other blocks).
  Status update_namespace(const std::string& nqn, uint32_t nsid);
  // Another device takes its place, with the same contents as far as hosts shall not notice:
  // larger, or elsewhere. Returns once nothing reaches the one before any more. Errors as of
  // add_namespace.
  Task<Status> replace_device(std::string nqn, uint32_t nsid, Device* device);
  std::vector<NamespaceStat> namespaces() const;
  std::vector<std::string> subsystems() const;  // their NQNs

  // Asymmetric namespace access: how hosts reach the namespaces of a group by a port, which is a
  // place in TargetOptions::listen, from 1 on; 0: by every one. They are told. Returns, when the
  // state is one without access, once nothing that came by the port reaches the group's devices any
  // more, or a later call has given access again. INVALID_ARGUMENT.
  Task<Status> set_ana_state(uint16_t port, uint32_t group, AnaState state);
  AnaState ana_state(uint16_t port, uint32_t group) { return core_.ana_port(port).state(group); }

  // Goes on with a connection that another target's `hand_over` gave; its stream is on this loop.
  void adopt(Handover handover);

  // Cuts off the hosts that `which` chooses. Once it has returned, no command of theirs from before
  // reaches the device. They may connect again unless Admission refuses them.
  Task<void> disconnect(std::string nqn, std::function<bool(const HostIdentity&)> which);

  // Ends all registrations and the reservation of a namespace, durably. NOT_FOUND, IO_ERROR.
  Task<Status> clear_reservation(std::string nqn, uint32_t nsid);

  std::vector<ControllerStat> controllers() const;
  Counters counters(const std::string& nqn) const;  // of a subsystem, all hosts so far
  // A row for each subsystem that lives here, followed by one for each connection of its I/O
  // queues; and what was slow or failed.
  void collect(StatsReport* into) const;
  std::vector<std::string> addresses() const;  // we listen on, with the ports chosen
  uint64_t buffer_bytes() const { return pool_.used_bytes() + pool_.idle_bytes(); }

  // Cuts off everybody and waits for what is in flight. Once, before destruction.
  Task<void> stop();

 private:
  struct Housekeeping : Timer {
    Target* owner = nullptr;
  };

  Target(Context context, TargetOptions options);
  Status listen();
  Status prepare_tls();
  Task<void> accept(Listener* listener, uint16_t port);
  void make_room();
  using Connections = std::list<std::unique_ptr<TargetConnection>>;
  Connections::iterator begin(std::unique_ptr<Stream> stream, uint16_t port);
  Task<void> refuse(std::unique_ptr<Stream> stream);
  uint16_t port_count() const;
  Task<void> serve(Connections::iterator at);
  Task<void> drained(std::function<bool(const TargetConnection&)> of);
  void keep_house();
  Task<void> save_reservation(NamespaceRef of, ReservationState state);
  void remember(const TargetConnection& connection);

  struct Past {  // of connections that have ended
    IoStats io;
    uint64_t digest_errors = 0;
    void add(const TargetQueue& queue);
  };

  Loop& loop_;
  Network& network_;
  TargetOptions options_;
  BufferPool pool_;
  KeyExchanger exchanger_;
  TargetCore core_;
  std::shared_ptr<TlsContext> tls_;  // null: off
  Event progress_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  Connections connections_;
  std::map<std::string, Past> past_;  // by NQN
  TaskGroup accepting_;
  TaskGroup serving_;
  TaskGroup saving_;
  Housekeeping housekeeping_;
  uint64_t turned_away_ = 0;  // since it last kept house
  bool stopping_ = false;
};

}  // namespace bb::io::nvme
