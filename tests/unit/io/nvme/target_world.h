// SPDX-License-Identifier: Apache-2.0
// A target over real TCP, with hosts that are nothing but bytes.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "io/device_uri.h"
#include "io/nvme/hex.h"
#include "io/nvme/target.h"
#include "io/tcp.h"
#include "support/nvme_fake.h"

namespace bb::io::nvme {

using test::Buffer;
using test::HostSeen;
using test::HostWire;

inline constexpr uint64_t kSecond = 1'000'000'000;

// A host's connection.
struct Peer {
  std::unique_ptr<Stream> stream;
  HostWire wire;
  HostSeen seen;
  bool ended = false;
  Buffer room = Buffer(1 << 20);

  // Receives until `enough` answers are there, or the end.
  Task<void> wait(size_t responses, size_t data = 0) {
    while (!ended && seen.term.error == FatalError::kNone &&
           (seen.responses.size() < responses || seen.data.size() < data)) {
      auto got = co_await stream->recv_some(room);
      if (!got.ok() || *got == 0) {
        ended = true;
      } else {
        seen.feed(ConstBytes(room).first(*got));
      }
    }
  }
  Task<void> send(Buffer bytes) {
    auto sent = co_await stream->send_all(ConstBytes(bytes));
    if (!sent.ok()) ended = true;
  }
};

struct World {
  std::unique_ptr<Reactor> reactor = std::move(Reactor::create()).value();
  std::unique_ptr<Network> network = make_tcp_network(*reactor, nullptr);
  Context context{.loop = *reactor, .network = *network, .reactor = reactor.get()};
  std::unique_ptr<Device> device;
  std::unique_ptr<Target> target;

  void open(TargetOptions options = {}) {
    device = std::move(reactor->block_on(open_device(context, "mem:64M"))).value();
    options.listen = {{"127.0.0.1:0"}};
    target = std::move(Target::create(context, std::move(options))).value();
    Status added = target->add_subsystem({.nqn = test::kNqn, .device = device.get()});
    EXPECT_TRUE(added.ok()) << added.to_string();
  }
  void close() {
    reactor->block_on(target->stop());
    EXPECT_EQ(target->controllers().size(), 0u);
    EXPECT_TRUE(reactor->block_on(device->close()).ok());
  }
};

inline Task<std::unique_ptr<Peer>> dial(World* world, Digests digests = {}) {
  auto peer = std::make_unique<Peer>();
  auto stream = co_await world->network->connect({world->target->addresses()[0]},
                                                 world->reactor->now_ns() + kSecond);
  peer->stream = std::move(stream).value();
  co_await peer->send(HostWire::ic_req(digests));
  peer->wire.format.digests = digests;
  co_return peer;
}

inline Task<std::unique_ptr<Peer>> attach(World* world, uint16_t queue, uint16_t controller,
                                          Digests digests = {}, uint32_t keep_alive_ms = 0) {
  auto peer = co_await dial(world, digests);
  co_await peer->send(peer->wire.connect(queue, queue == 0 ? 31 : 127, controller, test::kNqn,
                                         test::kHostNqn, 0, keep_alive_ms));
  co_await peer->wait(1);
  EXPECT_EQ(peer->seen.responses.at(0).status, NvmeStatus::kSuccess);
  if (queue == 0) {
    co_await peer->send(peer->wire.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)));
    co_await peer->wait(2);
  }
  co_return peer;
}

inline uint16_t id_of(const Peer& admin) {
  return static_cast<uint16_t>(admin.seen.responses.at(0).result);
}

}  // namespace bb::io::nvme
