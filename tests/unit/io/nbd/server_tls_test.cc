// SPDX-License-Identifier: Apache-2.0
// STARTTLS of our server, and what strangers get who do not go on with it.
#include <gtest/gtest.h>

#include "io/nbd/client_connection.h"
#include "support/nbd_host.h"
#include "support/tls_peers.h"

namespace bb::io::nbd {
namespace {

using namespace test;

constexpr uint64_t kSoonNs = 5'000'000'000;

struct Fixture {
  World world;
  NbdHost host;
  explicit Fixture(ServerLimits limits = {}, TlsPolicy policy = TlsPolicy::kRequired)
      : host(world, "mem:1M", {}, limits, {.policy = policy, .context = tls_server({psk(1)})}) {}
  ~Fixture() { world.run(host.stop_all()); }

  Task<Result<std::unique_ptr<Stream>>> dial() {
    co_return co_await world.context.network.connect({host.address()}, deadline());
  }
  uint64_t deadline() { return world.context.loop.now_ns() + kSoonNs; }
};

std::vector<std::byte> start_tls() {
  std::vector<std::byte> out;
  Writer(out)
      .be(uint32_t{3})
      .be(kOptionMagic)
      .be(static_cast<uint32_t>(Option::kStartTls))
      .be(uint32_t{0});
  return out;
}

std::vector<std::byte> list_option() {
  std::vector<std::byte> out;
  Writer(out).be(kOptionMagic).be(static_cast<uint32_t>(Option::kList)).be(uint32_t{0});
  return out;
}

// What a client gets that says `words` to a server: all of it, until the end.
Task<std::string> answers(Fixture* fixture, const std::vector<std::byte>* words) {
  auto stream = co_await fixture->dial();
  if (!stream.ok()) co_return stream.status().to_string();
  std::string got;
  auto sent = co_await (*stream)->send_all(*words);
  std::byte buffer[4096];
  while (sent.ok()) {
    auto more = co_await (*stream)->recv_some(buffer);
    if (!more.ok() || *more == 0) break;
    got.append(as_text(ConstBytes(buffer, *more)));
  }
  co_await (*stream)->close();
  co_return got;
}

constexpr size_t kAckBytes = 20;

TEST(NbdServerTls, EndsAHandshakeThatStallsInTls) {
  Fixture fixture({.handshake_ns_max = 100'000'000});
  auto words = start_tls();
  std::string got = fixture.world.run(answers(&fixture, &words));
  EXPECT_LE(got.size(), kGreetingBytes + kAckBytes);
}

// An attacker who can write into the connection puts a word of his own behind the option; it must
// never be taken for the client's.
TEST(NbdServerTls, WhatStandsInTheClearBehindTheOptionIsNotHeard) {
  Fixture fixture;
  auto words = start_tls();
  auto more = list_option();
  words.insert(words.end(), more.begin(), more.end());
  std::string got = fixture.world.run(answers(&fixture, &words));
  EXPECT_EQ(got.find("mem:1M"), std::string::npos);
  EXPECT_EQ(got.find(std::string("\0\x03\xe8\x89\x04\x55\x65\xa9", 8), kGreetingBytes + kAckBytes),
            std::string::npos)
      << "an option reply in the clear";
  EXPECT_GE(got.size(), kGreetingBytes + kAckBytes) << "the option itself was answered";
}

TEST(NbdServerTls, MoreBehindTheOptionThanTlsTakesIsRefused) {
  Fixture fixture;
  auto words = start_tls();
  words.resize(words.size() + 200'000, std::byte{0x16});
  std::string got = fixture.world.run(answers(&fixture, &words));
  EXPECT_LE(got.size(), kGreetingBytes + kAckBytes + 7) << "at most an alert behind it";
}

Task<Status> established(Fixture* fixture, std::unique_ptr<ClientConnection>* into) {
  BB_CO_ASSIGN(auto stream, co_await fixture->dial());
  *into = std::make_unique<ClientConnection>(fixture->world.context.loop, std::move(stream));
  co_return co_await (*into)->establish({.export_name = "d", .tls = TlsPolicy::kRequired},
                                        tls_client(psk(1)), 4, fixture->deadline());
}

// Connections that begin TLS and then say nothing take all places; then somebody comes who goes on.
Task<Status> flooded(Fixture* fixture) {
  std::vector<std::unique_ptr<Stream>> silent;
  auto words = start_tls();
  Status first;
  for (int i = 0; i < 40 && first.ok(); ++i) {
    auto stream = co_await fixture->dial();
    if (!stream.ok()) co_return stream.status();
    auto sent = co_await (*stream)->send_all(words);
    (void)sent;  // the oldest are gone by now
    std::byte answer[kGreetingBytes];
    first = co_await recv_exactly(stream->get(), answer);
    silent.push_back(std::move(*stream));
    if (fixture->host.server().connections().size() > 2 * 8) {
      first =
          error(Code::k_internal, "{} connections", fixture->host.server().connections().size());
    }
  }
  std::unique_ptr<ClientConnection> client;
  if (first.ok()) first = co_await established(fixture, &client);
  if (client != nullptr) co_await client->close();
  for (size_t i = 0; i < silent.size(); ++i) co_await silent[i]->close();
  co_return first;
}

TEST(NbdServerTls, ThoseWhoSayNothingMakeRoom) {
  Fixture fixture({.connections_max = 8});
  Status status = fixture.world.run(flooded(&fixture));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

// A server, or whoever sits in between, that puts a reply of its own before TLS.
Task<void> inject(Listener* listener) {
  auto stream = co_await listener->accept();
  if (!stream.ok()) co_return;
  std::vector<std::byte> out;
  Writer(out).be(kGreetingMagic).be(kOptionMagic).be(uint16_t{3});
  auto sent = co_await (*stream)->send_all(out);
  std::byte words[20];
  Status status = co_await recv_exactly(stream->get(), words);
  out.clear();
  for (auto option : {Option::kStartTls, Option::kExtendedHeaders}) {
    Writer(out)
        .be(kOptionReplyMagic)
        .be(static_cast<uint32_t>(option))
        .be(static_cast<uint32_t>(OptionReply::kAck))
        .be(uint32_t{0});
  }
  if (sent.ok() && status.ok()) sent = co_await (*stream)->send_all(out);
  co_await (*stream)->close();
}

Task<Status> meets_injection(World* world) {
  BB_CO_ASSIGN(auto listener, world->context.network.listen({"127.0.0.1:0"}));
  TaskGroup group(world->context.loop);
  group.spawn(inject(listener.get()));
  uint64_t deadline_ns = world->context.loop.now_ns() + kSoonNs;
  auto stream = co_await world->context.network.connect({listener->local_address()}, deadline_ns);
  ClientConnection client(world->context.loop, std::move(*stream));
  Status status = co_await client.establish({.export_name = "d", .tls = TlsPolicy::kRequired},
                                            tls_client(psk(1)), 4, deadline_ns);
  co_await client.close();
  co_await group.join();
  co_await listener->close();
  co_return status;
}

TEST(NbdClientTls, AReplyInTheClearBehindTheServersYesIsRefused) {
  World world;
  Status status = world.run(meets_injection(&world));
  EXPECT_EQ(status.code(), Code::k_io_error);
  EXPECT_NE(status.to_string().find("the server does not wait for TLS"), std::string::npos)
      << status.to_string();
}

}  // namespace
}  // namespace bb::io::nbd
