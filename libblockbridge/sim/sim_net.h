// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/sim_stream.h"

namespace bb::sim {

class SimListener;
class SimPort;

// Faults are once in that many chunks; 0 is never.
struct SimNetOptions {
  uint64_t latency_min_ns = 10'000;
  uint64_t latency_max_ns = 200'000;
  uint32_t chunk_max_bytes = 16'384;
  uint32_t window_bytes = 262'144;  // sent but not read; a slow reader stops its sender
  uint32_t lost_one_in = 0;         // a packet is lost: the stream stalls until it is sent again
  uint64_t retransmit_ns = 200'000'000;
  uint32_t reset_one_in = 0;      // the connection breaks, both ends are told
  uint32_t half_open_one_in = 0;  // the connection breaks, nobody is told
  // Closing a connection does not call back what is on its way: it may arrive much later.
  bool deliver_after_shutdown = true;
  uint32_t flip_one_in = 0;  // one bit of the chunk changes
};

// A network of named nodes. A node attaches once each time it starts and gets an io::Network.
class SimNet {
 public:
  SimNet(SimLoop& world, SimNetOptions options, Prng prng);
  ~SimNet();
  SimNet(const SimNet&) = delete;

  std::unique_ptr<io::Network> attach(const std::string& node, io::Loop& owner);
  SimNetOptions& options() { return options_; }

  // Packets from one to the other are dropped until healed: a one-way partition. Streams stall.
  void block(const std::string& from, const std::string& to);
  void block_both(const std::string& a, const std::string& b);
  void heal();
  void heal(const std::string& a, const std::string& b);
  // Of one node, or all: they break and both ends are told; they become half-open.
  void reset_connections(const std::string& node = "");
  void silence_connections(const std::string& node = "");

  // The node's old objects can do nothing any more: all they do fails. kProcess: the kernel tells
  // the peers at once. kPower: nobody is told; once the node is attached again, it answers packets
  // of old connections by resetting them.
  enum class Crash { kProcess, kPower };
  void crash(const std::string& node, Crash how);

  uint64_t flips() const { return flips_; }
  uint64_t connections() const { return connections_.size(); }

  // For streams.
  size_t take(SimConnection& connection, uint32_t from, const io::StreamOp& op, size_t skip,
              size_t total);
  void consumed(SimConnection& connection, uint32_t from, size_t length);
  void end_of_stream(SimConnection& connection, uint32_t from);
  // All but what has left the node; false when the reset that goes with it is lost.
  bool drop_unsent(SimConnection& connection, uint32_t from);
  void detach(SimConnection& connection, uint32_t side);

 private:
  friend class SimListener;
  friend class SimPort;
  struct Node {
    std::string name;
    SimPort* port = nullptr;  // null: down
    std::map<uint16_t, SimListener*> listeners;
    uint16_t next_port = 49152;
  };
  uint32_t node_index(const std::string& name);
  bool concerns(const SimConnection& connection, const std::string& node);
  bool blocked(uint32_t from, uint32_t to) const { return blocked_.contains({from, to}); }
  SimConnection& make_connection(uint32_t from, uint32_t to);
  void push(SimConnection& connection, uint32_t from, uint32_t length_bytes);
  void on_due(SimConnection& connection, uint32_t from);
  void deliver(SimConnection& connection, uint32_t from);
  void rearm(SimConnection& connection, uint32_t from, uint64_t delay_ns);
  void reset(SimConnection& connection, const char* why);
  uint64_t latency_ns();

  SimLoop& world_;
  SimNetOptions options_;
  Prng prng_;
  std::vector<Node> nodes_;
  std::set<std::pair<uint32_t, uint32_t>> blocked_;
  std::vector<std::unique_ptr<SimConnection>> connections_;
  uint64_t next_connection_ = 1;
  uint64_t flips_ = 0;
};

}  // namespace bb::sim
