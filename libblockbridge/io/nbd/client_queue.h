// SPDX-License-Identifier: Apache-2.0
// pure: the client's side of transmission: bytes and commands in, bytes and completions out
#pragma once

#include <sys/uio.h>

#include <array>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/nbd/wire.h"

namespace bb::io::nbd {

// One command: lives in whoever issues it until it comes out of take_completed() or take_lost(),
// and the memory of its iovecs with it.
struct ClientCommand {
  // The issuer's.
  Request request;  // the queue fills in the cookie
  const iovec* iov = nullptr;
  uint32_t iov_count = 0;
  uint64_t deadline_ns = 0;                                     // for the driver; 0: none
  void (*done)(ClientCommand* command, Status lost) = nullptr;  // called by the driver

  // The outcome.
  Errno error = Errno::kNone;
  std::string error_text;
  std::vector<BlockState> states;  // of a block status

 private:
  friend class ClientQueue;
  enum class State : uint8_t { kIdle, kQueued, kSent };
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  ClientCommand* next_ = nullptr;
  State state_ = State::kIdle;
  bool in_batch_ = false;  // its payload is being sent: the memory must stay
  bool answered_ = false;
  std::vector<Range> arrived_;  // of a read, in order and apart from each other
};

// Command slots, replies in all three framings, placement of what is read. Every command completes
// exactly once; a read only succeeds when every byte of it has arrived. Whatever the server sends
// that it may not ends the connection.
class ClientQueue {
 public:
  struct Options {
    Framing framing = Framing::kSimple;
    uint16_t depth = 128;  // commands at once
    uint32_t context_id = 0;
  };

  // What goes out with one send: headers of its own, payload in the callers' memory.
  class Batch {
   public:
    Batch();
    Batch(const Batch&) = delete;
    const iovec* iov() const { return iov_.data(); }
    uint32_t iov_count() const { return static_cast<uint32_t>(iov_.size()); }
    bool empty() const { return iov_.empty(); }

   private:
    friend class ClientQueue;
    std::array<std::byte, 256 * kExtendedRequestBytes> headers_;
    std::vector<iovec> iov_;
    std::vector<ClientCommand*> members_;  // those with a payload
  };

  explicit ClientQueue(Options options);

  bool has_room() const { return !free_.empty(); }
  bool nothing_to_send() const { return line_first_ == nullptr; }
  size_t outstanding() const { return slots_.size() - free_.size(); }
  void submit(ClientCommand& command);

  // Collects what is to send; false when there is nothing. One batch at a time: sent() follows.
  bool fill(Batch& batch);
  void sent(Batch& batch);

  // Takes received bytes. An error (IO_ERROR: illegal) ends the connection.
  Status receive(ConstBytes input);
  // Where the data awaited next belongs, if it is one long piece: receiving there, and handing
  // those very bytes to receive(), saves the copy. Empty otherwise.
  Bytes direct_target() const;

  ClientCommand* take_completed();  // null when there is none
  // After the end of the connection, and of the last send: each command not completed, once.
  ClientCommand* take_lost();
  ClientCommand* earliest_deadline() const;  // null when nothing has one

 private:
  static constexpr uint32_t kIndexBits = 16;
  static constexpr size_t kDirectBytes = 16 * 1024;
  static constexpr uint64_t kCollectedMax = 1u << 20;  // a payload that is no data
  static constexpr size_t kRangesMax = 4096;
  enum class Reading : uint8_t { kHeader, kOffset, kData, kCollected };
  struct Slot {
    ClientCommand* command = nullptr;
    uint64_t generation = 0;
  };

  ClientCommand* find(uint64_t cookie) const;
  void settle(ClientCommand& command);
  void complete(ClientCommand& command);
  Status on_header();
  Status on_chunk(ClientCommand& command);
  Status on_offset();
  Status on_collected();
  Status on_error(Reader reader);
  Status on_hole(Reader reader);
  Status on_states(Reader reader);
  Status begin_data(uint64_t offset_bytes, uint64_t length_bytes);
  Status mark_arrived(ClientCommand& command, uint64_t begin, uint64_t end);
  void end_chunk();
  void await_header();
  bool collect(ConstBytes& input, size_t want);
  void place(ConstBytes bytes);
  Status illegal(std::string_view what);

  Options options_;
  bool ended_ = false;
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_;
  ClientCommand* line_first_ = nullptr;
  ClientCommand* line_last_ = nullptr;
  ClientCommand* completed_first_ = nullptr;
  ClientCommand* completed_last_ = nullptr;

  Reading reading_ = Reading::kHeader;
  std::vector<std::byte> collected_;  // of the present header, offset or payload
  size_t wanted_ = 4;
  ReplyHeader header_;
  ClientCommand* receiving_ = nullptr;  // whose reply it is
  uint64_t data_left_ = 0;
  uint32_t piece_ = 0;  // the iovec that the next data goes to
  size_t piece_skip_ = 0;
};

}  // namespace bb::io::nbd
