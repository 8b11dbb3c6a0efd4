// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "io/stream.h"
#include "io/sync.h"
#include "sim/sim_loop.h"

namespace bb::sim {

class SimNet;
class SimStream;

// One direction of a connection. What a packet network does to a stream - loss, reordering,
// duplication - its reader sees as delay, odd chunks, a stall or a reset; so that is what happens
// here. Bytes keep their order.
struct SimPipe {
  struct Chunk {
    uint32_t length_bytes = 0;  // 0: end of stream
    uint64_t due_ns = 0;
  };
  struct Alarm : io::Timer {
    struct SimConnection* connection = nullptr;
    uint32_t from = 0;
  } alarm;
  std::deque<Chunk> chunks;       // on their way
  std::vector<std::byte> buffer;  // from `head` on: arrived bytes, then those on their way
  size_t head = 0;
  size_t arrived = 0;
  uint64_t last_due_ns = 0;
  bool ended = false;  // the end of the stream has arrived

  size_t held_bytes() const { return buffer.size() - head; }
};

struct SimConnection {
  SimNet* net = nullptr;
  uint32_t node[2] = {};   // of the network's node table
  SimPipe pipe[2];         // [i]: from end i
  SimStream* end[2] = {};  // null: closed, or its node crashed
  bool silent = false;     // half-open: nothing arrives any more, nobody is told
  bool crashed[2] = {};    // this end's node lost power: packets to it are answered by none
  uint64_t id = 0;
};

// One end of a connection.
class SimStream final : public io::Stream {
 public:
  SimStream(SimNet& net, SimConnection& connection, uint32_t side, io::Loop& owner,
            std::string peer);
  ~SimStream() override;

  void recv(io::StreamOp& op) override;
  void send(io::StreamOp& op) override;
  void shutdown() override;
  void abort() override;
  io::Task<void> close() override;
  const std::string& peer() const override { return peer_; }
  std::string local() const override { return local_; }
  void set_local(std::string address) { local_ = std::move(address); }

  // From the network: something arrived or there is room; the connection broke.
  void on_arrival();
  void on_room();
  void fail(Status status);
  bool broken() const { return !broken_.ok(); }
  bool is_shut() const { return shut_; }

 private:
  struct Pending : io::Work {
    io::StreamOp* op = nullptr;
    SimStream* stream = nullptr;
    Result<size_t> result{size_t{0}};
    bool busy = false;    // from recv()/send() until `done`
    bool posted = false;  // the result is on its way
    size_t moved = 0;
  };
  void finish(Pending& pending, Result<size_t> result);
  void start(Pending& pending, io::StreamOp& op);

  SimNet& net_;
  SimConnection* connection_;
  uint32_t side_;
  io::Loop& owner_;
  std::string peer_;
  std::string local_;
  Pending receiving_;
  Pending sending_;
  Status broken_;
  bool shut_ = false;
  io::Event idle_;
};

}  // namespace bb::sim
