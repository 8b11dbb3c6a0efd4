// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/client_handshake.h"

#include <gtest/gtest.h>

#include "io/nbd/handshake.h"

namespace bb::io::nbd {
namespace {

using Out = std::vector<std::byte>;
using State = ClientHandshake::State;

const std::vector<ExportInfo> kExports = {
    {.name = "one", .size_bytes = 1 << 20, .trim = true},
    {.name = "two", .size_bytes = 2 << 20, .block_min_bytes = 4096, .read_only = true}};

struct Talk {
  ClientHandshake client;
  Handshake server;
  Out asked;  // by the client, all of it
};

// Both sides of ours, byte by byte.
Talk talk(ClientWishes wishes, TlsPolicy tls = TlsPolicy::kOff) {
  Talk all{.client = ClientHandshake(std::move(wishes)), .server = Handshake(tls), .asked = {}};
  Out to_client = Handshake::greeting();
  Out at_client;
  Out at_server;
  while (!to_client.empty() && all.client.state() == State::kHaggling) {
    Out to_server;
    for (std::byte b : std::exchange(to_client, {})) {
      at_client.push_back(b);
      size_t used = all.client.feed(at_client, to_server);
      at_client.erase(at_client.begin(), at_client.begin() + static_cast<ptrdiff_t>(used));
    }
    if (all.client.state() == State::kStartTls) {
      EXPECT_EQ(all.server.state(), Handshake::State::kStartTls);
      all.server.secured();
      all.client.secured(to_server);
    }
    all.asked.insert(all.asked.end(), to_server.begin(), to_server.end());
    at_server.insert(at_server.end(), to_server.begin(), to_server.end());
    size_t used = all.server.feed(at_server, kExports, to_client);
    at_server.erase(at_server.begin(), at_server.begin() + static_cast<ptrdiff_t>(used));
  }
  return all;
}

TEST(NbdClientHandshake, AgreesWithOurServer) {
  struct Case {
    const char* name;
    ClientWishes wishes;
    TlsPolicy tls;
    Framing framing;
  };
  const Case cases[] = {
      {"extended", {.export_name = "one"}, TlsPolicy::kOff, Framing::kExtended},
      {"structured",
       {.export_name = "one", .extended = false},
       TlsPolicy::kOff,
       Framing::kStructured},
      {"simple",
       {.export_name = "one", .extended = false, .structured = false},
       TlsPolicy::kOff,
       Framing::kSimple},
      {"TLS",
       {.export_name = "one", .tls = TlsPolicy::kRequired},
       TlsPolicy::kAllowed,
       Framing::kExtended},
      {"TLS, required",
       {.export_name = "one", .tls = TlsPolicy::kRequired},
       TlsPolicy::kRequired,
       Framing::kExtended},
  };
  for (const Case& each : cases) {
    Talk all = talk(each.wishes, each.tls);
    ASSERT_EQ(all.client.state(), State::kTransmission) << each.name << all.client.why().text();
    EXPECT_EQ(all.server.state(), Handshake::State::kTransmission) << each.name;
    const RemoteExport& remote = all.client.result();
    EXPECT_EQ(remote.size_bytes, 1u << 20) << each.name;
    EXPECT_EQ(remote.framing, each.framing) << each.name;
    EXPECT_EQ(all.server.agreed().framing, each.framing) << each.name;
    EXPECT_EQ(remote.allocation, each.framing != Framing::kSimple) << each.name;
    EXPECT_EQ(all.server.agreed().allocation, remote.allocation) << each.name;
    EXPECT_EQ(remote.flags, kExports[0].transmission_flags(each.framing)) << each.name;
    EXPECT_EQ(remote.block_min_bytes, 512u) << each.name;
    EXPECT_EQ(remote.payload_max_bytes, kPayloadMax) << each.name;
  }
  EXPECT_EQ(talk({.export_name = "two"}).client.result().block_min_bytes, 4096u);
}

TEST(NbdClientHandshake, SaysWhyItFailed) {
  struct Case {
    const char* name;
    ClientWishes wishes;
    TlsPolicy tls;
    Code code;
    const char* text;
  };
  const Case cases[] = {
      {"no such export", {.export_name = "none"}, TlsPolicy::kOff, Code::k_not_found, "none"},
      {"TLS is wanted",
       {.export_name = "one", .tls = TlsPolicy::kRequired},
       TlsPolicy::kOff,
       Code::k_not_supported,
       "refuses TLS"},
      {"TLS is required",
       {.export_name = "one"},
       TlsPolicy::kRequired,
       Code::k_permission_denied,
       "requires TLS"},
  };
  for (const Case& each : cases) {
    Talk all = talk(each.wishes, each.tls);
    ASSERT_EQ(all.client.state(), State::kFailed) << each.name;
    EXPECT_EQ(all.client.why().code(), each.code) << each.name << all.client.why().text();
    EXPECT_NE(all.client.why().text().find(each.text), std::string::npos)
        << all.client.why().text();
    EXPECT_EQ(all.server.state(), Handshake::State::kClosed) << each.name;  // told so
  }
}

// A server of our own making: what it says after its greeting.
struct Said {
  Out bytes = Handshake::greeting();
  Said& reply(Option option, uint32_t type, std::string_view data = "") {
    Writer(bytes)
        .be(kOptionReplyMagic)
        .be(static_cast<uint32_t>(option))
        .be(type)
        .be(static_cast<uint32_t>(data.size()))
        .text(data);
    return *this;
  }
  Said& raw(std::string_view data) {
    Writer(bytes).text(data);
    return *this;
  }
};

constexpr std::string_view kExportInfo("\0\0\0\0\0\0\0\x10\0\0\1\x01", 12);
constexpr uint32_t kUnsupported = 0x80000001;

ClientHandshake heard(const Said& said, ClientWishes wishes = {.export_name = "x"}) {
  ClientHandshake client(std::move(wishes));
  Out out;
  client.feed(said.bytes, out);
  return client;
}

TEST(NbdClientHandshake, OldServersAreEnough) {
  Said without_go = Said()
                        .reply(Option::kExtendedHeaders, kUnsupported)
                        .reply(Option::kStructuredReply, kUnsupported)
                        .reply(Option::kGo, kUnsupported)
                        .raw(std::string_view("\0\0\0\0\0\x10\0\0\0\5", 10));
  ClientHandshake client = heard(without_go);
  ASSERT_EQ(client.state(), State::kTransmission) << client.why().text();
  EXPECT_EQ(client.result().size_bytes, 1u << 20);
  EXPECT_EQ(client.result().framing, Framing::kSimple);
  Said without_context = Said()
                             .reply(Option::kExtendedHeaders, kUnsupported)
                             .reply(Option::kStructuredReply, 1)
                             .reply(Option::kSetMetaContext, 0x80000003)
                             .reply(Option::kGo, 3, kExportInfo)
                             .reply(Option::kGo, 1);
  client = heard(without_context);
  ASSERT_EQ(client.state(), State::kTransmission) << client.why().text();
  EXPECT_FALSE(client.result().allocation);
}

TEST(NbdClientHandshake, WhatNoServerMaySay) {
  Said plain = Said().reply(Option::kExtendedHeaders, 1).reply(Option::kSetMetaContext, 1);
  Said no_greeting;
  no_greeting.bytes.assign(18, std::byte{'x'});
  Said old_style;
  store_be<uint64_t>(old_style.bytes.data() + 8, 0x00420281861253);
  Said endless = plain;
  for (int i = 0; i < 1100; ++i) endless.reply(Option::kGo, 3, kExportInfo);
  struct Case {
    const char* name;
    Said said;
  };
  const Case cases[] = {
      {"no NBD", no_greeting},
      {"old style", old_style},
      {"an answer to another option", Said().reply(Option::kGo, 1)},
      {"no magic", Said().raw(std::string(40, 'x'))},
      {"too long", Said().reply(Option::kExtendedHeaders, 1, std::string(20'000, 'x'))},
      {"a server entry", Said().reply(Option::kExtendedHeaders, 2)},
      {"no size", Said(plain).reply(Option::kGo, 1)},
      {"short information", Said(plain).reply(Option::kGo, 3, kExportInfo.substr(0, 11))},
      {"no flags", Said(plain)
                       .reply(Option::kGo, 3, std::string_view("\0\0\0\0\0\0\0\x10\0\0\0\0", 12))
                       .reply(Option::kGo, 1)},
      {"blocks of 3",
       Said(plain)
           .reply(Option::kGo, 3, kExportInfo)
           .reply(Option::kGo, 3, std::string_view("\0\3\0\0\0\3\0\0\x10\0\2\0\0\0", 14))
           .reply(Option::kGo, 1)},
      {"endless", endless},
  };
  for (const Case& each : cases) {
    ClientHandshake client = heard(each.said);
    EXPECT_EQ(client.state(), State::kFailed) << each.name;
    EXPECT_FALSE(client.why().ok()) << each.name;
  }
}

TEST(NbdClientHandshake, TheServersWordsAreMadeHarmless) {
  Said said = Said()
                  .reply(Option::kExtendedHeaders, 1)
                  .reply(Option::kSetMetaContext, 1)
                  .reply(Option::kGo, 0x80000002, "no\n\x1b[31m way");
  ClientHandshake client = heard(said);
  EXPECT_EQ(client.why().code(), Code::k_permission_denied);
  EXPECT_NE(client.why().text().find("no??[31m way"), std::string::npos) << client.why().text();
}

TEST(NbdClientHandshake, NothingButTheQuestionGoesInTheClear) {
  ClientHandshake client({.export_name = "secret", .tls = TlsPolicy::kRequired});
  Out out;
  client.feed(Said().reply(Option::kStartTls, 1).bytes, out);
  EXPECT_EQ(client.state(), State::kStartTls);
  Out want;
  Writer(want).be(uint32_t{3}).be(kOptionMagic).be(uint32_t{5}).be(uint32_t{0});
  EXPECT_EQ(out, want);
}

}  // namespace
}  // namespace bb::io::nbd
