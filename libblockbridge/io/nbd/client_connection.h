// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>

#include "io/loop.h"
#include "io/nbd/client_handshake.h"
#include "io/nbd/client_queue.h"
#include "io/stream.h"
#include "io/sync.h"
#include "io/tls_context.h"

namespace bb::io::nbd {

// One connection to a server. What is submitted in one turn of the loop goes out with one send;
// what arrives is taken in large pieces, long data straight into the callers' memory.
class ClientConnection {
 public:
  struct Owner {
    virtual void on_connection_broken(ClientConnection& connection) = 0;

   protected:
    ~Owner() = default;
  };

  ClientConnection(Loop& loop, std::unique_ptr<Stream> stream);
  ~ClientConnection();

  // Haggles; close() also after an error. `tls` is there when it is wished for.
  Task<Status> establish(ClientWishes wishes, std::shared_ptr<TlsContext> tls, uint16_t depth,
                         uint64_t deadline_ns);
  const RemoteExport& remote() const { return remote_; }
  void set_owner(Owner* owner) { owner_ = owner; }

  // The command's `done` runs exactly once; with the reason when the connection broke.
  void submit(ClientCommand& command);

  // Ends it: all commands fail as soon as their memory is free.
  void break_off(Status why);
  bool broken() const { return broken_; }
  const Status& why() const { return why_; }
  void check_deadlines(uint64_t now_ns);
  const std::string& peer() const { return stream_->peer(); }
  Task<void> close();  // says goodbye if nothing is in flight, breaks it off, waits for the end

 private:
  static constexpr size_t kReceiveBytes = 256 * 1024;
  static_assert(kReceiveBytes >= ClientHandshake::kUnitMax);

  Task<Status> haggle(ClientHandshake* handshake, std::shared_ptr<TlsContext> tls,
                      uint64_t deadline_ns);
  Task<Status> start_tls(std::shared_ptr<TlsContext> tls, uint64_t deadline_ns);
  void flush_soon();
  void pump();
  void arm_receive();
  void on_sent(const Result<size_t>& length);
  void on_received(const Result<size_t>& length);
  Status feed(size_t length);
  void complete();
  void maybe_drained();

  struct Flush : Work {
    ClientConnection* connection = nullptr;
    bool posted = false;
  };
  struct Op : StreamOp {
    ClientConnection* connection = nullptr;
  };
  struct Limit : Timer {
    ClientConnection* connection = nullptr;
    bool fired = false;
  };

  Loop& loop_;
  std::unique_ptr<Stream> stream_;
  RemoteExport remote_;
  std::optional<ClientQueue> queue_;  // once it is established
  Owner* owner_ = nullptr;
  ClientQueue::Batch batch_;
  std::vector<std::byte> buffer_;
  Bytes direct_;
  iovec receive_iov_[2] = {};
  Op send_;
  Op receive_;
  Flush flush_;
  bool sending_ = false;
  bool receiving_ = false;
  bool broken_ = false;
  Status why_;
  Event drained_;
};

}  // namespace bb::io::nbd
