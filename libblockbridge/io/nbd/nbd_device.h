// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"
#include "io/nbd/client_connection.h"

namespace bb::io::nbd {

struct NbdOptions {
  std::string address;  // "host:port" or "unix:/path"
  ClientWishes wishes;
  TlsOptions tls;  // unless wishes.tls is off
  bool read_only = false;
  uint16_t queue_depth = 128;  // of one connection
  uint16_t connections = 1;    // where the server can do several
  uint64_t io_timeout_ns = 0;
  uint64_t connect_timeout_ns = 0;
  uint64_t wait_ns = 0;
};
// nbd://host:10809/export?connections=1&queue_depth=128&io_timeout=30s&connect_timeout=5s&wait=0
// &read_only=0&extended=1&structured=1&tls=off|allowed|required&tls_ca=FILE&tls_name=NAME
// &tls_certificate=FILE&tls_key=FILE, or nbd+unix:///export?socket=/path&…
Result<NbdOptions> parse_nbd_options(Uri uri);

struct NbdStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;    // flush, discard, write zeroes, block status
  uint64_t failures = 0;  // of those, how many failed
  uint64_t reconnects = 0;
  uint64_t connect_failures = 0;
  Status last_error;  // why the last connection ended or could not be made
};

// An export of an NBD server. When a connection ends, all end: everything in flight fails with
// UNAVAILABLE and the device is kUnavailable; it reconnects by itself, with back-off, raises its
// incarnation and is kReady again. New I/O meanwhile fails at once, or, with wait=, is kept so
// long. Nothing is ever sent twice: the protocol has no way to tell whether it was done.
class NbdDevice final : public Device, private ClientConnection::Owner {
 public:
  NbdDevice(Context context, NbdOptions options, std::string uri);
  ~NbdDevice() override;

  Task<Status> open();  // once, before all else; close() also after an error
  Task<Status> close() override;
  const NbdStats& stats() const { return stats_; }
  std::vector<EventCount> event_counts() const override;
  const RemoteExport& remote() const { return remote_; }

 protected:
  void do_submit(IoRequest& request) override;
  Task<Result<std::vector<Extent>>> do_extents(uint64_t offset_bytes, uint64_t length_bytes,
                                               uint32_t limit) override;

 private:
  struct Slot : ClientCommand {
    NbdDevice* device = nullptr;
    IoRequest* request_of = nullptr;
    uint32_t index = 0;
    uint64_t moved_bytes = 0;  // long ranges go in several commands
    bool flushing = false;     // done, now made durable where the server knows no FUA
    iovec zeroes{};
  };
  struct StatusQuery;
  // A request that waits for a slot or for the connection keeps its place in its own scratch.
  struct Parked {
    IoRequest* next = nullptr;
    uint64_t deadline_ns = 0;
  };
  static Parked& parked(IoRequest& request) { return *reinterpret_cast<Parked*>(request.scratch); }
  struct Tick : Timer {
    NbdDevice* device = nullptr;
  };

  // The connections.
  void on_connection_broken(ClientConnection& connection) override;
  Task<Status> load_tls();
  Task<Status> connect();
  Task<Status> add_connection(uint64_t deadline_ns);
  Status describe(const RemoteExport& remote);
  Task<void> disconnect(Status why);
  Task<void> maintain();
  Task<bool> reconnect();
  bool offers(TransmissionFlag flag) const { return (remote_.flags & flag) != 0; }

  // The requests.
  void park(IoRequest& request);
  IoRequest* unpark();
  void fail_parked(uint64_t until_ns);
  void start_parked();
  void start(IoRequest& request);
  void issue(Slot& slot);
  void build(Slot& slot);
  void build_zeroes(Slot& slot);
  void on_done(Slot& slot, Status lost);
  void finish(Slot& slot, Status status);
  void count(const IoRequest& request, const Status& status);
  void on_tick();
  Status unavailable(const IoRequest& request) const;

  Context context_;
  NbdOptions options_;
  std::shared_ptr<TlsContext> tls_;
  std::vector<std::unique_ptr<ClientConnection>> connections_;
  RemoteExport remote_;
  bool usable_ = false;  // connected: commands may go
  bool stopping_ = false;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  IoRequest* parked_first_ = nullptr;
  IoRequest* parked_last_ = nullptr;
  std::vector<std::byte> zeroes_;  // for servers without WRITE_ZEROES
  Tick tick_;
  Gate gate_;
  Event wake_;
  TaskGroup tasks_;
  Semaphore queries_;  // block status: one at a time, in a place of its own in the queue
  NbdStats stats_;
};

Task<Result<std::unique_ptr<Device>>> open_nbd_device(Context context, Uri uri, std::string text);

}  // namespace bb::io::nbd
