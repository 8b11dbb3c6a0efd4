// SPDX-License-Identifier: Apache-2.0
// pure: the host's side of one NVMe/TCP queue: bytes and commands in, bytes and completions out
#pragma once

#include <sys/uio.h>

#include <vector>

#include "base/status.h"
#include "io/nvme/command.h"
#include "io/nvme/pdu_reader.h"

namespace bb::io::nvme {

// One command: lives in whoever issues it until it comes out of take_completed() or take_lost(),
// and the memory of its iovecs with it.
struct HostCommand {
  // The issuer's.
  Sqe sqe;  // the queue fills in the command id and the data descriptor
  const iovec* iov = nullptr;
  uint32_t iov_count = 0;
  uint32_t length_bytes = 0;  // of data, in either direction
  bool to_controller = false;
  void (*done)(HostCommand* command, Status lost) = nullptr;  // called by the driver

  // The outcome.
  Cqe cqe;
  bool digest_error = false;  // data arrived damaged: what the iovecs hold is worthless
  bool sent = false;          // lost: some of it may have reached the target

 private:
  friend class InitiatorQueue;
  enum class State : uint8_t { kIdle, kQueued, kSent };
  struct Cursor {
    uint32_t index = 0;
    size_t skip = 0;
  };
  HostCommand* next_ = nullptr;
  State state_ = State::kIdle;
  bool in_line_ = false;   // in the queue of what is to send
  bool in_batch_ = false;  // its payload is being sent: the memory must stay
  bool answered_ = false;
  bool in_capsule_ = false;
  uint32_t moved_bytes_ = 0;  // received, or handed over for sending
  uint32_t asked_bytes_ = 0;  // by R2Ts so far; moved_bytes_ follows
  uint16_t transfer_tag_ = 0;
  Cursor cursor_;
};

// What goes out with one send: headers in an arena of its own, payload in the callers' memory.
class SendBatch {
 public:
  SendBatch();
  SendBatch(const SendBatch&) = delete;
  const iovec* iov() const { return iov_.data(); }
  uint32_t iov_count() const { return static_cast<uint32_t>(iov_.size()); }
  size_t bytes() const { return bytes_; }
  bool empty() const { return iov_.empty(); }

 private:
  friend class InitiatorQueue;
  static constexpr size_t kArenaBytes = 64 * 1024;
  static constexpr size_t kIovecs = 1000;
  static constexpr size_t kBytes = 1 << 20;

  bool room(size_t iovecs) const;
  Bytes tail() { return Bytes(arena_).subspan(used_); }
  void commit(size_t length);  // the next `length` bytes of the arena go out
  void payload(const iovec& piece);
  void clear();

  std::vector<std::byte> arena_;
  size_t used_ = 0;
  size_t bytes_ = 0;
  std::vector<iovec> iov_;
  std::vector<HostCommand*> members_;
};

// Connection set-up, command slots, in-capsule data or R2T, placement of what is read, digests.
// Every command completes exactly once. Whatever the target sends that it may not is answered by a
// termination request, and the connection is of no use any more.
class InitiatorQueue {
 public:
  struct Options {
    Digests digests{.header = true, .data = true};
    uint16_t depth = 32;                     // commands at once
    uint32_t capsule_data_max_bytes = 8192;  // data that goes with the command
    uint32_t transfer_max_bytes = 1u << 20;
  };

  explicit InitiatorQueue(Options options);

  void start();  // the connection stands: asks for it to be initialised
  bool ready() const { return ready_; }
  bool has_room() const { return !free_.empty(); }
  bool nothing_to_send() const { return line_first_ == nullptr && control_.empty(); }
  size_t outstanding() const { return slots_.size() - free_.size(); }
  void submit(HostCommand& command);

  // Collects what is to send; false when there is nothing. One batch at a time: sent() follows.
  bool fill(SendBatch& batch);
  void sent(SendBatch& batch);

  // Takes received bytes. An error ends the connection: UNAVAILABLE (the target ended it),
  // CORRUPT (a header digest is wrong), NOT_SUPPORTED (digests refused), IO_ERROR (illegal);
  // a last fill() gives the termination request, if one is due.
  Status receive(ConstBytes input);
  // Where the data awaited next belongs, if it is one long piece: receiving there, and handing
  // those very bytes to receive(), saves the copy. Empty otherwise.
  Bytes direct_target() const;
  // Long pieces are on their way: of what follows one, little should come with it.
  bool expects_long_data() const { return long_data_; }

  HostCommand* take_completed();  // null when there is none
  // After the end of the connection, and of the last send: each command not completed, once.
  HostCommand* take_lost();
  uint64_t digest_errors() const { return reader_.digest_errors(); }

 private:
  static constexpr uint32_t kIndexBits = 10;
  struct Slot {
    HostCommand* command = nullptr;
    uint16_t generation = 0;
  };
  using Header = ConstBytes;

  HostCommand* find(uint16_t command_id) const;
  void line_up(HostCommand& command);
  void add_capsule(SendBatch& batch, HostCommand& command);
  void add_data(SendBatch& batch, HostCommand& command);
  void add_payload(SendBatch& batch, HostCommand& command, uint32_t length);
  void settle(HostCommand& command);  // completes it if nothing holds it back
  void answer(HostCommand& command);
  Status illegal(FatalError error, uint32_t information, const char* what, Header header);
  Status on_header(Header header);
  Status on_ic_resp(Header header);
  Status on_response(Header header);
  Status on_data_header(Header header);
  Status on_r2t(Header header);
  Status on_term(Header header);
  Status on_end(bool digest_ok);
  void place(ConstBytes bytes);

  Options options_;
  PduReader reader_;
  PduFormat format_;  // of what we send
  uint32_t h2c_data_max_bytes_ = 4096;
  bool ready_ = false;
  bool ended_ = false;
  bool started_ = false;
  std::vector<std::byte> control_;  // ICReq or termination request, to send before all else
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_;
  HostCommand* line_first_ = nullptr;
  HostCommand* line_last_ = nullptr;
  HostCommand* completed_first_ = nullptr;
  HostCommand* completed_last_ = nullptr;
  HostCommand* receiving_ = nullptr;  // whose data the present PDU carries
  DataHeader receiving_header_;
  uint32_t receiving_left_ = 0;
  bool long_data_ = false;  // the last data the target sent was
};

}  // namespace bb::io::nvme
