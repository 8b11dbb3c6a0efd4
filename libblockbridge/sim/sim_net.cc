// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_net.h"

#include <algorithm>

#include "io/device.h"
#include "sim/sim_port.h"

namespace bb::sim {
namespace {

constexpr size_t kFinelyCutBytes = 2048;

}  // namespace

SimNet::SimNet(SimLoop& world, SimNetOptions options, Prng prng)
    : world_(world), options_(options), prng_(prng) {}

SimNet::~SimNet() {
  BB_CHECK(connections_.empty(), "{} connections outlive their network", connections_.size());
}

uint32_t SimNet::node_index(const std::string& name) {
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].name == name) return i;
  }
  nodes_.push_back(Node{.name = name});
  return static_cast<uint32_t>(nodes_.size() - 1);
}

std::unique_ptr<io::Network> SimNet::attach(const std::string& node, io::Loop& owner) {
  uint32_t index = node_index(node);
  BB_CHECK(nodes_[index].port == nullptr, "node {} is attached already: crash it first", node);
  auto port = std::make_unique<SimPort>(*this, index, owner);
  nodes_[index].port = port.get();
  return port;
}

uint64_t SimNet::latency_ns() {
  return prng_.between(options_.latency_min_ns, options_.latency_max_ns);
}

SimConnection& SimNet::make_connection(uint32_t from, uint32_t to) {
  auto& connection = *connections_.emplace_back(std::make_unique<SimConnection>());
  connection.net = this;
  connection.node[0] = from;
  connection.node[1] = to;
  connection.id = next_connection_++;
  for (uint32_t side = 0; side < 2; ++side) {
    SimPipe::Alarm& alarm = connection.pipe[side].alarm;
    alarm.connection = &connection;
    alarm.from = side;
    alarm.fire = [](io::Timer* timer) {
      auto* due = static_cast<SimPipe::Alarm*>(timer);
      due->connection->net->on_due(*due->connection, due->from);
    };
  }
  world_.trace().event(world_.now_ns(), "net connect", connection.id, from, to);
  return connection;
}

void SimNet::detach(SimConnection& connection, uint32_t side) {
  connection.end[side] = nullptr;
  if (connection.end[1 - side] != nullptr) return;
  for (SimPipe& pipe : connection.pipe) world_.disarm(pipe.alarm);
  std::erase_if(connections_, [&](const auto& held) { return held.get() == &connection; });
}

size_t SimNet::take(SimConnection& connection, uint32_t from, const io::StreamOp& op, size_t skip,
                    size_t total) {
  SimPipe& pipe = connection.pipe[from];
  size_t held = pipe.held_bytes();
  if (held >= options_.window_bytes) return 0;
  // Small chunks cut headers everywhere; to cut all of a large payload so costs time for nothing.
  size_t largest = skip < kFinelyCutBytes ? options_.chunk_max_bytes
                                          : std::max<size_t>(options_.chunk_max_bytes, 8192);
  size_t length = prng_.between(1, largest);
  length = std::min({length, options_.window_bytes - held, total - skip});
  if (pipe.head > 65'536 && pipe.head > pipe.buffer.size() / 2) {
    pipe.buffer.erase(pipe.buffer.begin(), pipe.buffer.begin() + static_cast<long>(pipe.head));
    pipe.head = 0;
  }
  size_t at = pipe.buffer.size();
  pipe.buffer.resize(at + length);
  io::iov_gather(op.iov, op.iov_count, skip, Bytes(pipe.buffer).subspan(at));
  if (prng_.chance(options_.flip_one_in)) {
    ++flips_;
    uint64_t bit = prng_.below(length * 8);
    pipe.buffer[at + bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    world_.trace().event(world_.now_ns(), "net flip", connection.id, bit);
  }
  push(connection, from, static_cast<uint32_t>(length));
  return length;
}

void SimNet::push(SimConnection& connection, uint32_t from, uint32_t length_bytes) {
  SimPipe& pipe = connection.pipe[from];
  uint64_t due = world_.now_ns() + latency_ns();
  if (prng_.chance(options_.lost_one_in)) due += options_.retransmit_ns;
  pipe.last_due_ns = std::max(due, pipe.last_due_ns);  // what comes after a lost packet waits
  pipe.chunks.push_back({.length_bytes = length_bytes, .due_ns = pipe.last_due_ns});
  if (pipe.chunks.size() == 1) rearm(connection, from, 0);
}

void SimNet::rearm(SimConnection& connection, uint32_t from, uint64_t delay_ns) {
  SimPipe& pipe = connection.pipe[from];
  if (pipe.chunks.empty()) return;
  uint64_t due = std::max(pipe.chunks.front().due_ns, world_.now_ns() + delay_ns);
  world_.arm(pipe.alarm, due);
}

void SimNet::on_due(SimConnection& connection, uint32_t from) {
  if (connection.silent || blocked(connection.node[from], connection.node[1 - from])) return;
  if (connection.crashed[1 - from]) {
    if (nodes_[connection.node[1 - from]].port != nullptr) {
      reset(connection, "the peer has restarted and knows nothing of it");
    } else {
      rearm(connection, from, options_.retransmit_ns);
    }
    return;
  }
  if (prng_.chance(options_.reset_one_in)) return reset(connection, "reset");
  if (prng_.chance(options_.half_open_one_in)) {
    connection.silent = true;
    world_.trace().event(world_.now_ns(), "net half-open", connection.id);
    return;
  }
  deliver(connection, from);
}

void SimNet::deliver(SimConnection& connection, uint32_t from) {
  SimPipe& pipe = connection.pipe[from];
  SimPipe::Chunk chunk = pipe.chunks.front();
  pipe.chunks.pop_front();
  SimStream* reader = connection.end[1 - from];
  world_.trace().event(world_.now_ns(), "net deliver", connection.id, from, chunk.length_bytes);
  if (chunk.length_bytes > 0 && (reader == nullptr || reader->is_shut())) {
    return reset(connection, "the peer has closed the connection");
  }
  if (chunk.length_bytes == 0) {
    pipe.ended = true;
  } else {
    pipe.arrived += chunk.length_bytes;
  }
  rearm(connection, from, 0);
  if (reader != nullptr) reader->on_arrival();
}

void SimNet::consumed(SimConnection& connection, uint32_t from, size_t length) {
  SimPipe& pipe = connection.pipe[from];
  bool was_full = pipe.held_bytes() >= options_.window_bytes;
  pipe.arrived -= length;
  pipe.head += length;
  if (pipe.head == pipe.buffer.size()) {
    pipe.buffer.clear();
    pipe.head = 0;
  }
  if (was_full && connection.end[from] != nullptr) connection.end[from]->on_room();
}

void SimNet::end_of_stream(SimConnection& connection, uint32_t from) {
  SimPipe& pipe = connection.pipe[from];
  if (!options_.deliver_after_shutdown) {
    pipe.chunks.clear();
    pipe.buffer.resize(pipe.head + pipe.arrived);
    world_.disarm(pipe.alarm);
  }
  if (connection.end[1 - from] != nullptr) push(connection, from, 0);
}

// The node forgets what it would have sent, or sent again. How much had left it is anybody's guess,
// and that part still arrives, in order and as late as the network likes.
bool SimNet::drop_unsent(SimConnection& connection, uint32_t from) {
  SimPipe& pipe = connection.pipe[from];
  size_t left = prng_.below(pipe.chunks.size() + 1);
  while (pipe.chunks.size() > left) {
    pipe.buffer.resize(pipe.buffer.size() - pipe.chunks.back().length_bytes);
    pipe.chunks.pop_back();
  }
  if (pipe.chunks.empty()) world_.disarm(pipe.alarm);
  world_.trace().event(world_.now_ns(), "net drop", connection.id, from, left);
  return !prng_.chance(4);  // nobody sends a reset again
}

void SimNet::reset(SimConnection& connection, const char* why) {
  world_.trace().event(world_.now_ns(), "net reset", connection.id);
  connection.silent = true;
  for (SimStream* end : {connection.end[0], connection.end[1]}) {
    if (end != nullptr) {
      end->fail(error(Code::k_unavailable, "{}: connection lost: {}", end->peer(), why));
    }
  }
}

bool SimNet::concerns(const SimConnection& connection, const std::string& node) {
  if (node.empty()) return true;
  uint32_t index = node_index(node);
  return connection.node[0] == index || connection.node[1] == index;
}

void SimNet::reset_connections(const std::string& node) {
  for (auto& connection : connections_) {
    if (!connection->silent && concerns(*connection, node)) reset(*connection, "reset");
  }
}

void SimNet::silence_connections(const std::string& node) {
  for (auto& connection : connections_) {
    if (concerns(*connection, node)) connection->silent = true;
  }
}

void SimNet::block(const std::string& from, const std::string& to) {
  uint32_t sender = node_index(from);
  blocked_.insert({sender, node_index(to)});
}

void SimNet::block_both(const std::string& a, const std::string& b) {
  block(a, b);
  block(b, a);
}

void SimNet::heal() {
  blocked_.clear();
  for (auto& connection : connections_) {
    for (uint32_t side = 0; side < 2; ++side) {
      if (connection->silent || connection->pipe[side].alarm.armed()) continue;
      rearm(*connection, side, prng_.between(0, options_.retransmit_ns));
    }
  }
}

void SimNet::heal(const std::string& a, const std::string& b) {
  uint32_t first = node_index(a);
  uint32_t second = node_index(b);
  auto others = blocked_;
  others.erase({first, second});
  others.erase({second, first});
  heal();
  blocked_ = std::move(others);  // what was re-armed for a blocked way stops again when due
}

void SimNet::crash(const std::string& node, Crash how) {
  uint32_t index = node_index(node);
  SimPort* port = nodes_[index].port;
  if (port == nullptr) return;
  world_.trace().event(world_.now_ns(), "net crash", index, how == Crash::kPower ? 1 : 0);
  for (auto& connection : connections_) {
    for (uint32_t side = 0; side < 2; ++side) {
      if (connection->node[side] != index) continue;
      connection->crashed[side] = true;
      if (connection->end[side] != nullptr) {
        connection->end[side]->fail(error(Code::k_unavailable, "node {} crashed", node));
      }
      if (how == Crash::kProcess) {
        if (!connection->silent) reset(*connection, "the peer's process ended");
      } else {
        rearm(*connection, 1 - side, options_.retransmit_ns);
      }
    }
  }
  nodes_[index].port = nullptr;
  port->crash();
}

}  // namespace bb::sim
