// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_port.h"

#include <algorithm>

#include "base/uri.h"

namespace bb::sim {

SimPort::~SimPort() {
  SimNet::Node& node = net_.nodes_[node_];
  if (node.port == this) node.port = nullptr;
  BB_CHECK(crashed_ || node.listeners.empty(), "node {} leaves with listeners", node.name);
}

void SimPort::crash() {
  crashed_ = true;
  auto listeners = net_.nodes_[node_].listeners;
  for (auto& [number, listener] : listeners) listener->shutdown();
}

// The handshake: a packet there, a packet back, each lost while the way is blocked.
io::Task<Result<std::unique_ptr<io::Stream>>> SimPort::connect(io::Address to,
                                                               uint64_t deadline_ns) {
  constexpr uint64_t kTryAgainNs = 20'000'000;
  BB_CO_ASSIGN(HostPort address, HostPort::parse(to.text));
  uint32_t peer = net_.node_index(address.host);
  for (;;) {
    uint64_t latency = 2 * net_.latency_ns();
    if (net_.prng_.chance(net_.options_.lost_one_in)) latency += net_.options_.retransmit_ns;
    uint64_t now = owner_.now_ns();
    if (now >= deadline_ns) {
      co_return error(Code::k_timed_out, "{}: no answer within the deadline", to.text);
    }
    co_await owner_.sleep_until(std::min(deadline_ns, now + latency));
    if (crashed_) co_return error(Code::k_unavailable, "{}: this node crashed", to.text);
    bool reached = owner_.now_ns() < deadline_ns && net_.nodes_[peer].port != nullptr &&
                   !net_.blocked(node_, peer) && !net_.blocked(peer, node_);
    if (reached) break;
    if (owner_.now_ns() < deadline_ns) {
      co_await owner_.sleep_until(std::min(deadline_ns, owner_.now_ns() + kTryAgainNs));
    }
  }
  SimNet::Node& node = net_.nodes_[peer];
  auto listener = node.listeners.find(address.port);
  if (listener == node.listeners.end()) {
    co_return error(Code::k_unavailable, "{}: connection refused", to.text);
  }
  SimConnection& connection = net_.make_connection(node_, peer);
  auto here = std::make_unique<SimStream>(net_, connection, 0, owner_, to.text);
  auto there =
      std::make_unique<SimStream>(net_, connection, 1, node.port->owner(), net_.nodes_[node_].name);
  there->set_local(to.text);
  if (!listener->second->offer(std::move(there))) {
    co_return error(Code::k_unavailable, "{}: connection refused: too many wait", to.text);
  }
  co_return std::unique_ptr<io::Stream>(std::move(here));
}

Result<std::unique_ptr<io::Listener>> SimPort::listen(io::Address at) {
  BB_ASSIGN(HostPort address, HostPort::parse(at.text));
  SimNet::Node& node = net_.nodes_[node_];
  if (crashed_) return error(Code::k_unavailable, "{}: this node crashed", at.text);
  uint16_t number = address.port != 0 ? address.port : node.next_port++;
  if (node.listeners.contains(number)) {
    return error(Code::k_already_exists, "{}: the port is in use", at.text);
  }
  return std::unique_ptr<io::Listener>(std::make_unique<SimListener>(net_, *this, number));
}

SimListener::SimListener(SimNet& net, SimPort& port, uint16_t number)
    : net_(net), port_(port), number_(number), arrival_(port.owner()) {
  net_.nodes_[port_.node()].listeners[number_] = this;
}

SimListener::~SimListener() {
  shutdown();
  backlog_.clear();
}

void SimListener::shutdown() {
  if (shut_) return;
  shut_ = true;
  net_.nodes_[port_.node()].listeners.erase(number_);
  arrival_.set();
}

bool SimListener::offer(std::unique_ptr<SimStream> stream) {
  if (backlog_.size() >= kBacklogMax) return false;
  backlog_.push_back(std::move(stream));
  arrival_.set();
  return true;
}

io::Task<Result<std::unique_ptr<io::Stream>>> SimListener::accept() {
  for (;;) {
    if (shut_) co_return error(Code::k_cancelled, "{}: the listener was shut down", number_);
    if (!backlog_.empty()) {
      std::unique_ptr<io::Stream> stream = std::move(backlog_.front());
      backlog_.pop_front();
      co_return stream;
    }
    arrival_.reset();
    co_await arrival_.wait();
  }
}

Result<std::unique_ptr<io::Listener>> SimPorts::listen(io::Address at) {
  BB_ASSIGN(HostPort address, HostPort::parse(at.text));
  for (Named& port : ports_) {
    if (port.name == address.host) return port.network->listen(at);
  }
  return error(Code::k_invalid_argument, "{}: not a name of this node", at.text);
}

io::Task<Result<std::unique_ptr<io::Stream>>> SimPorts::connect(io::Address to,
                                                                uint64_t deadline_ns) {
  co_return co_await ports_.front().network->connect(to, deadline_ns);
}

io::Task<void> SimListener::close() {
  shutdown();
  co_return;
}

std::string SimListener::local_address() const {
  return net_.nodes_[port_.node()].name + ":" + std::to_string(number_);
}

}  // namespace bb::sim
