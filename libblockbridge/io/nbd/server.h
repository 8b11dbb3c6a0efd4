// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/context.h"
#include "io/device.h"
#include "io/nbd/buffer_pool.h"
#include "io/nbd/handover.h"
#include "io/nbd/handshake.h"
#include "io/stats_report.h"
#include "io/sync.h"
#include "io/tls_context.h"

namespace bb::io::nbd {

struct ServerLimits {
  uint32_t connections_max = 64;
  uint32_t requests_max = 256;                 // in flight on one connection
  uint64_t request_bytes_max = 64ull << 20;    // their data, on one connection
  uint64_t buffer_bytes_max = 512ull << 20;    // on all connections together
  uint64_t handshake_ns_max = 15'000'000'000;  // from accept to transmission, TLS included
  uint64_t stall_ns_max = 120'000'000'000;     // in the middle of a write, or not reading
  uint64_t drain_ns_max = 10'000'000'000;      // replies still unsent when stopping
  uint64_t slow_ns = 0;  // what the flight recorder calls slow; 0: see FlightRecorder
};

struct ServerTls {
  TlsPolicy policy = TlsPolicy::kOff;
  std::shared_ptr<TlsContext> context;  // unless it is off
};

struct ConnectionCounters {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;  // flush, trim, write zeroes, cache, block status
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t errors = 0;
};

struct ConnectionInfo {
  uint64_t id = 0;
  std::string peer;
  std::string export_name;  // empty while haggling
  uint32_t in_flight = 0;
  ConnectionCounters counters;
};

class Connection;

// A device offered under a name. Stays until its last connection has ended.
struct Export {
  ExportInfo info;
  Device* device = nullptr;
  uint32_t home = 0;  // not 0: it lives there, and only what is said of it is here
  bool removing = false;
  bool exclusive = false;
  uint64_t turns = 0;  // how often it was chosen
};

struct ExportOptions {
  std::string description;
  bool read_only = false;  // whatever the device says
  // One connection at a time: a new one ends those before it, and is served once nothing that they
  // asked for can happen any more. A client that comes back can then not be overtaken by its past.
  bool exclusive = false;
};

// Exports devices over NBD, on any number of addresses. Belongs to one loop. Devices stay the
// caller's; each must outlive its export.
class Server {
 public:
  explicit Server(Context context, ServerLimits limits = {}, ServerTls tls = {});
  ~Server();  // after stop()

  // ALREADY_EXISTS, INVALID_ARGUMENT (name). May be called while running.
  Status add_export(std::string name, Device& device, ExportOptions options = {});
  // One that lives with another server, which `hand_over` knows by `home`, not 0. ALREADY_EXISTS.
  Status add_export_elsewhere(ExportInfo info, uint32_t home);
  const ExportInfo* info(std::string_view name);  // null: there is none of that name
  // Takes the connections to exports that live elsewhere; called on this loop.
  void set_hand_over(std::function<void(Handover)> hand_over) { hand_over_ = std::move(hand_over); }
  // Goes on with a connection that another server's `hand_over` gave; its stream is on this loop.
  void adopt(Handover handover);
  // Refuses new requests, waits for those in flight, ends the connections. NOT_FOUND.
  Task<Status> remove_export(std::string name);

  // Listens; gives the address with the port the system chose. Several times for several addresses.
  Result<std::string> start(Address at);
  // Stops listening, drains all connections. Once, before destruction.
  Task<void> stop();

  std::vector<ConnectionInfo> connections() const;
  std::vector<std::string> export_names() const;
  // A row for each export that lives here, followed by one for each of its connections; what was
  // slow or failed.
  void collect(StatsReport* into) const;

 private:
  friend class Connection;

  Task<void> accept_loop(Listener* listener);
  bool make_room();
  Task<void> refuse(std::unique_ptr<Stream> stream);
  Task<void> serve(Connection* connection);
  Task<void> take_over(Connection* connection);
  std::vector<ExportInfo> offered() const;
  Export* find(std::string_view name);
  void tick();
  void arm_tick();
  void remember(const Connection& connection);
  void on_room();  // a buffer came back while some connection wanted one

  struct Tick final : Timer {
    Server* server = nullptr;
  };

  Context context_;
  ServerLimits limits_;
  ServerTls tls_;
  std::function<void(Handover)> hand_over_;
  BufferPool pool_;
  bool pool_starved_ = false;
  std::list<std::unique_ptr<Export>> exports_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::list<std::unique_ptr<Connection>> connections_;
  std::map<std::string, IoStats> past_;  // of connections that have ended, by export
  FlightRecorder recorder_;
  uint64_t next_id_ = 1;
  bool stopping_ = false;
  bool stopped_ = false;
  bool started_ = false;
  Tick tick_;
  Event ended_;  // some connection has
  TaskGroup tasks_;
};

}  // namespace bb::io::nbd
