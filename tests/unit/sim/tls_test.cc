// SPDX-License-Identifier: Apache-2.0
// TLS over the simulated network: slow, stalling, breaking and flipping bits.
#include <gtest/gtest.h>

#include "sim/sim_net.h"
#include "support/tls_peers.h"

namespace bb::sim {
namespace {

using namespace test;

struct Outcome {
  std::string handshake;
  Status exchange;
};

Outcome run(uint64_t seed, const SimNetOptions& options) {
  SimLoop world(seed);
  SimNet net(world, options, world.prng().fork());
  auto server = net.attach("server", world);
  auto client = net.attach("client", world);
  auto listener = std::move(server->listen({":4420"})).value();
  TlsPair pair;
  world.block_on(connect_tls(&world, client.get(), listener.get(), "server:4420",
                             tls_client(psk(1)), tls_server({psk(1)}), &pair));
  Outcome outcome{.handshake = pair.outcome(), .exchange = Status()};
  if (pair.client_status.ok() && pair.server_status.ok()) {
    outcome.exchange = world.block_on(exchange(&world, &pair, 300'000, 700));
  }
  world.block_on(close_tls(&pair));
  world.block_on(listener->close());
  return outcome;
}

TEST(TlsInTheSimulator, CarriesBytesOverASlowNetworkThatStalls) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Outcome outcome = run(seed, {.chunk_max_bytes = 1 + static_cast<uint32_t>(seed * 137),
                                 .window_bytes = 20'000,
                                 .lost_one_in = 400,
                                 .retransmit_ns = 1'000'000});
    EXPECT_EQ(outcome.handshake, "ok / ok") << seed;
    EXPECT_TRUE(outcome.exchange.ok()) << seed << outcome.exchange.to_string();
  }
}

// Whatever arrives damaged is an error, never other bytes.
TEST(TlsInTheSimulator, AFlippedBitIsNeverDelivered) {
  uint32_t noticed = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Outcome outcome = run(seed, {.chunk_max_bytes = 4096, .flip_one_in = 40});
    EXPECT_TRUE(outcome.exchange.ok() || outcome.exchange.code() != Code::k_corrupt) << seed;
    if (outcome.handshake != "ok / ok" || !outcome.exchange.ok()) ++noticed;
  }
  EXPECT_GT(noticed, 20u);
}

TEST(TlsInTheSimulator, ABrokenConnectionIsAnErrorAndEnds) {
  uint32_t broken = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Outcome outcome = run(seed, {.chunk_max_bytes = 4096, .reset_one_in = 100});
    bool fine = outcome.handshake == "ok / ok" && outcome.exchange.ok();
    EXPECT_TRUE(fine || outcome.exchange.ok() || outcome.exchange.code() == Code::k_unavailable)
        << seed << outcome.exchange.to_string();
    if (!fine) ++broken;
  }
  EXPECT_GT(broken, 20u);
}

}  // namespace
}  // namespace bb::sim
