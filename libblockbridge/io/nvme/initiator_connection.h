// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "io/loop.h"
#include "io/nvme/initiator_queue.h"
#include "io/stream.h"
#include "io/sync.h"

namespace bb::io::nvme {

// A command that a coroutine waits for.
struct SyncCommand : HostCommand {
  explicit SyncCommand(Loop& loop);
  SyncCommand(const SyncCommand&) = delete;
  void carry(Bytes data, bool to_target);

  Event ended;
  Status lost;
  iovec single{};
};

// One queue on one stream. What is submitted in one turn of the loop goes out with one send; what
// arrives is taken in large pieces, long data straight into the callers' memory.
class InitiatorConnection {
 public:
  struct Owner {
    virtual void on_connection_broken(InitiatorConnection& connection) = 0;

   protected:
    ~Owner() = default;
  };

  InitiatorConnection(Loop& loop, std::unique_ptr<Stream> stream, InitiatorQueue::Options options);
  ~InitiatorConnection();

  Task<Status> initialize(uint64_t deadline_ns);  // exchanges ICReq and ICResp
  void set_owner(Owner* owner) { owner_ = owner; }

  // The command's `done` runs exactly once; with the reason when the connection broke.
  void submit(HostCommand& command);
  // The completion's error, or that of the connection; breaks it when no answer comes in time
  // (UINT64_MAX: no limit).
  Task<Status> run(SyncCommand* command, uint64_t deadline_ns);

  // Ends it: all commands fail as soon as their memory is free.
  void break_off(Status why);
  bool broken() const { return broken_; }
  const Status& why() const { return why_; }
  const std::string& peer() const { return stream_->peer(); }
  Task<void> close();  // breaks it off unless it is, and waits for the end

 private:
  static constexpr size_t kReceiveBytes = 256 * 1024;

  void flush_soon();
  void pump();
  void arm_receive();
  void on_sent(Result<size_t> length);
  void on_received(Result<size_t> length);
  Status feed(size_t length);
  void end_with_termination(Status why);
  void end_stream();
  void complete();
  void maybe_drained();

  struct Flush : Work {
    InitiatorConnection* connection = nullptr;
    bool posted = false;
  };
  struct Op : StreamOp {
    InitiatorConnection* connection = nullptr;
  };
  struct LastWord : Timer {
    InitiatorConnection* connection = nullptr;
  };

  Loop& loop_;
  std::unique_ptr<Stream> stream_;
  InitiatorQueue queue_;
  Owner* owner_ = nullptr;
  SendBatch batch_;
  std::vector<std::byte> buffer_;
  Bytes direct_;
  iovec receive_iov_[2] = {};
  Op send_;
  Op receive_;
  Flush flush_;
  LastWord last_word_;  // a termination request that cannot be sent must not hold us up
  bool sending_ = false;
  bool receiving_ = false;
  bool broken_ = false;
  bool terminating_ = false;
  Status why_;
  Event ready_;
  Event drained_;
};

}  // namespace bb::io::nvme
