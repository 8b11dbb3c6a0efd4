// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>

#include "sim/sim_net.h"

namespace bb::sim {

// One node's way into the network, for one life of the node.
class SimPort final : public io::Network {
 public:
  SimPort(SimNet& net, uint32_t node, io::Loop& owner) : net_(net), node_(node), owner_(owner) {}
  ~SimPort() override;

  io::Task<Result<std::unique_ptr<io::Stream>>> connect(io::Address to,
                                                        uint64_t deadline_ns) override;
  Result<std::unique_ptr<io::Listener>> listen(io::Address at) override;

  void crash();
  bool crashed() const { return crashed_; }
  io::Loop& owner() { return owner_; }
  uint32_t node() const { return node_; }

 private:
  friend class SimListener;
  SimNet& net_;
  uint32_t node_;
  io::Loop& owner_;
  bool crashed_ = false;
};

// A node with several ways into the network, each under a name of its own, so that each can fail
// alone. It listens by the name in the address and connects by the first.
class SimPorts final : public io::Network {
 public:
  void add(std::string name, std::unique_ptr<io::Network> network) {
    ports_.push_back({std::move(name), std::move(network)});
  }
  io::Task<Result<std::unique_ptr<io::Stream>>> connect(io::Address to,
                                                        uint64_t deadline_ns) override;
  Result<std::unique_ptr<io::Listener>> listen(io::Address at) override;

 private:
  struct Named {
    std::string name;
    std::unique_ptr<io::Network> network;
  };
  std::vector<Named> ports_;
};

class SimListener final : public io::Listener {
 public:
  SimListener(SimNet& net, SimPort& port, uint16_t number);
  ~SimListener() override;

  io::Task<Result<std::unique_ptr<io::Stream>>> accept() override;
  void shutdown() override;
  io::Task<void> close() override;
  std::string local_address() const override;

  static constexpr size_t kBacklogMax = 128;
  bool offer(std::unique_ptr<SimStream> stream);  // false: the backlog is full

 private:
  SimNet& net_;
  SimPort& port_;
  uint16_t number_;
  bool shut_ = false;
  std::deque<std::unique_ptr<SimStream>> backlog_;
  io::Event arrival_;
};

}  // namespace bb::sim
