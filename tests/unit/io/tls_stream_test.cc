// SPDX-License-Identifier: Apache-2.0
#include "io/tls_stream.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/units.h"
#include "io/secret_file.h"
#include "support/tls_peers.h"
#include "support/world.h"

namespace bb::io {
namespace {

using namespace test;

class TlsStreamTest : public ::testing::Test {
 protected:
  TlsStreamTest() { listener = std::move(world.network->listen({"127.0.0.1:0"})).value(); }
  ~TlsStreamTest() override {
    world.run(close_tls(&pair));
    world.run(listener->close());
  }
  std::string connect(std::shared_ptr<TlsContext> client, std::shared_ptr<TlsContext> server) {
    world.run(connect_tls(world.reactor.get(), world.network.get(), listener.get(),
                          listener->local_address(), client, server, &pair));
    std::string text = pair.outcome();
    for (size_t at; (at = text.find("127.0.0.1:")) != std::string::npos;) {
      text.erase(at, text.find(": ", at) + 2 - at);
    }
    return text;
  }
  Task<Result<size_t>> receive(TlsStream* stream) {
    std::byte buffer[64];
    co_return co_await stream->recv_some(buffer);
  }

  Task<Result<size_t>> send(TlsStream* stream) {
    co_return co_await stream->send_all(as_bytes("x"));
  }
  Task<void> nap() { co_await world.reactor->sleep_for(20 * kNsPerMs); }

  // A server's handshake with somebody who says `words`.
  Task<Status> handshake_with(std::string_view words, uint64_t timeout_ns) {
    auto here = co_await world.network->connect({listener->local_address()}, UINT64_MAX / 2);
    auto there = co_await listener->accept();
    EXPECT_TRUE(here.ok() && there.ok());
    TlsStream tls(*world.reactor, tls_server({psk(1)}), std::move(*there));
    if (!words.empty()) (void)co_await (*here)->send_all(as_bytes(words));
    Status status = co_await tls.handshake(world.reactor->now_ns() + timeout_ns);
    co_await tls.close();
    co_await (*here)->close();
    co_return status;
  }

  // As a server does that looks at the first bytes to see whether they are TLS.
  Task<Status> serve_after_peeking() {
    Loop& loop = *world.reactor;
    uint64_t deadline_ns = loop.now_ns() + 5 * kNsPerSecond;
    auto here = co_await world.network->connect({listener->local_address()}, deadline_ns);
    auto there = co_await listener->accept();
    EXPECT_TRUE(here.ok() && there.ok());
    pair.client = std::make_unique<TlsStream>(loop, tls_client(psk(1)), std::move(*here));
    TaskGroup group(loop);
    group.spawn(shake(pair.client.get(), deadline_ns, &pair.client_status));
    std::byte first[7];
    Status peeked = co_await recv_exactly(there->get(), first);
    EXPECT_TRUE(peeked.ok()) << peeked.to_string();
    pair.server = std::make_unique<TlsStream>(loop, tls_server({psk(1)}), std::move(*there), first);
    pair.server_status = co_await pair.server->handshake(deadline_ns);
    co_await group.join();
    EXPECT_EQ(pair.outcome(), "ok / ok");
    co_return co_await exchange(&loop, &pair, 10'000, 100);
  }
  static Task<void> shake(TlsStream* stream, uint64_t deadline_ns, Status* status) {
    *status = co_await stream->handshake(deadline_ns);
  }

  World world;
  std::unique_ptr<Listener> listener;
  TlsPair pair;
  bool& flip_next = pair.flip_next;
};

TEST_F(TlsStreamTest, CarriesBytesBothWaysUnderEitherHash) {
  for (Hash hash : {Hash::kSha256, Hash::kSha384}) {
    ASSERT_EQ(connect(tls_client(psk(1, hash)), tls_server({psk(2, hash, "other"), psk(1, hash)})),
              "ok / ok");
    EXPECT_EQ(pair.client->suite(),
              hash == Hash::kSha256 ? "TLS_AES_128_GCM_SHA256" : "TLS_AES_256_GCM_SHA384");
    EXPECT_EQ(pair.server->peer_identity(), "one");
    for (size_t piece : {size_t{1}, size_t{100}, 16 * KiB, 16 * KiB + 1, MiB}) {
      size_t length = piece < 100 ? 5000 : 3 * MiB + 17;
      Status status = world.run(exchange(world.reactor.get(), &pair, length, piece));
      EXPECT_TRUE(status.ok()) << piece << status.to_string();
    }
    world.run(close_tls(&pair));
  }
}

TEST_F(TlsStreamTest, NobodyReadsAlong) {
  ASSERT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  std::vector<std::byte> pattern(MiB, std::byte{'Q'});
  std::vector<std::byte> got(MiB);
  Status sent;
  Status received;
  TaskGroup group(*world.reactor);
  group.spawn(send_bytes(pair.client.get(), &pattern, 4096, &sent));
  group.spawn(recv_bytes(pair.server.get(), &got, &received));
  world.run(group.join());
  EXPECT_TRUE(sent.ok() && received.ok());
  EXPECT_EQ(got, pattern);
  EXPECT_GT(pair.tape.size(), MiB);
  EXPECT_EQ(pair.tape.find(std::string(16, 'Q')), std::string::npos);
}

TEST_F(TlsStreamTest, AnotherKeyOrAnUnknownNameIsRefused) {
  EXPECT_EQ(connect(tls_client(psk(1)), tls_server({psk(2)})),
            "TLS: sslv3 alert illegal parameter [permission_denied] / "
            "TLS: binder does not verify [permission_denied]");
  world.run(close_tls(&pair));
  EXPECT_EQ(connect(tls_client(psk(1)), tls_server({psk(1, Hash::kSha256, "another")})),
            "TLS: sslv3 alert handshake failure [permission_denied] / "
            "TLS: no suitable signature algorithm [permission_denied]");
  world.run(close_tls(&pair));
  // The right name and a suite that goes with another hash.
  EXPECT_NE(connect(tls_client(psk(1, Hash::kSha384)), tls_server({psk(1)})), "ok / ok");
}

TEST_F(TlsStreamTest, CloseNotifyIsTheEndAndNothingElse) {
  ASSERT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  pair.client->shutdown();
  auto end = world.run(receive(pair.server.get()));
  ASSERT_TRUE(end.ok()) << end.status().to_string();
  EXPECT_EQ(*end, 0u);
  auto own = world.run(receive(pair.client.get()));
  EXPECT_TRUE(!own.ok() || *own == 0);
  world.run(close_tls(&pair));

  ASSERT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  pair.client->abort();
  end = world.run(receive(pair.server.get()));
  EXPECT_EQ(end.code(), Code::k_unavailable);
}

TEST_F(TlsStreamTest, ShutdownEndsWhatIsPending) {
  ASSERT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  std::vector<std::byte> much(16 * MiB);  // nobody reads it
  std::vector<std::byte> little(16);
  Status sent;
  Status received;
  TaskGroup group(*world.reactor);
  group.spawn(send_bytes(pair.client.get(), &much, MiB, &sent));
  group.spawn(recv_bytes(pair.client.get(), &little, &received));
  world.run(nap());
  pair.client->shutdown();
  world.run(group.join());
  EXPECT_EQ(sent.code(), Code::k_unavailable) << sent.to_string();
  EXPECT_EQ(received.code(), Code::k_unavailable) << received.to_string();
  auto late = world.run(send(pair.client.get()));
  EXPECT_EQ(late.code(), Code::k_unavailable);
}

// The peer has a say in when something is on its way: that must end no process.
TEST_F(TlsStreamTest, DoesNotMoveWhileSomethingIsOnItsWay) {
  EXPECT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  TaskGroup group(*world.reactor);
  std::vector<std::byte> bytes(1);
  Status sent = error(Code::k_internal, "not yet");
  group.spawn(send_bytes(pair.server.get(), &bytes, 1, &sent));
  EXPECT_FALSE(pair.server->move_to(*world.reactor));
  world.run(group.join());
  EXPECT_TRUE(sent.ok());
  EXPECT_TRUE(pair.server->move_to(*world.reactor));
  pair.server->shutdown();
  EXPECT_FALSE(pair.server->move_to(*world.reactor));
}

TEST_F(TlsStreamTest, AFlippedBitEndsTheConnection) {
  ASSERT_EQ(connect(tls_client(psk(1)), tls_server({psk(1)})), "ok / ok");
  flip_next = true;
  (void)world.run(send(pair.client.get()));
  auto got = world.run(receive(pair.server.get()));
  EXPECT_EQ(got.code(), Code::k_permission_denied);
  EXPECT_NE(got.status().text().find("TLS: decryption failed or bad record mac"), std::string::npos)
      << got.status().text();
}

// A peer that says nothing, and peers that do not speak TLS.
TEST_F(TlsStreamTest, TheHandshakeEnds) {
  Status silent = world.run(handshake_with("", 100 * kNsPerMs));
  EXPECT_EQ(silent.code(), Code::k_timed_out) << silent.to_string();
  for (std::string_view nonsense : {std::string_view("GET / HTTP/1.0\r\n\r\n"),
                                    std::string_view("\0\0\x80\0\x80\0\0\0\0\0\0\0\0\0", 14),
                                    std::string_view("\x16\x03\x01\x00\x04\xff\xff\xff\xff", 9)}) {
    Status status = world.run(handshake_with(nonsense, 5 * kNsPerSecond));
    EXPECT_EQ(status.code(), Code::k_permission_denied) << status.to_string();
  }
}

TEST_F(TlsStreamTest, WhatWasReadBeforeCountsToo) {
  EXPECT_TRUE(world.run(serve_after_peeking()).ok());
}

// Certificates, made by OpenSSL's own program.

class TlsFiles : public TlsStreamTest {
 protected:
  TlsFiles() {
    char name[] = "/tmp/bb-tls-XXXXXX";
    folder = ::mkdtemp(name);
    run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca "
        "-keyout ca.key -out ca.pem");
    for (const char* who : {"server", "client"}) {
      run(
          fmt::format("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={0} "
                      "-keyout {0}.key -out {0}.csr",
                      who));
      std::ofstream(folder + "/ext") << "subjectAltName=DNS:box.example,IP:127.0.0.1\n";
      run(
          fmt::format("x509 -req -days 2 -in {0}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
                      "-extfile ext -out {0}.pem",
                      who));
    }
  }
  ~TlsFiles() override { std::filesystem::remove_all(folder); }

  void run(const std::string& command) {
    std::string line = "cd " + folder + " && openssl " + command + " 2>/dev/null";
    ASSERT_EQ(std::system(line.c_str()), 0) << line;  // NOLINT: a shell is what is wanted
  }
  std::string file(const std::string& name) const { return folder + "/" + name; }
  TlsOptions server_files(bool ask_clients) const {
    return {.role = TlsRole::kServer,
            .certificate_file = file("server.pem"),
            .key_file = file("server.key"),
            .ca_file = ask_clients ? file("ca.pem") : ""};
  }
  TlsOptions client_files(std::string name, bool own) const {
    return {.certificate_file = own ? file("client.pem") : "",
            .key_file = own ? file("client.key") : "",
            .ca_file = file("ca.pem"),
            .server_name = std::move(name)};
  }
  std::string connect_files(TlsOptions client, TlsOptions server) {
    auto ours = TlsContext::create(std::move(client));
    auto theirs = TlsContext::create(std::move(server));
    if (!ours.ok() || !theirs.ok()) {
      return ours.status().to_string() + " / " + theirs.status().to_string();
    }
    return connect(*ours, *theirs);
  }

  std::string folder;
};

TEST_F(TlsFiles, CertificatesProveTheServerAndMayProveTheClient) {
  ASSERT_EQ(connect_files(client_files("box.example", false), server_files(false)), "ok / ok");
  EXPECT_EQ(pair.client->peer_identity(), "/CN=server");
  EXPECT_EQ(pair.server->peer_identity(), "");
  Status status = world.run(exchange(world.reactor.get(), &pair, MiB, 1000));
  EXPECT_TRUE(status.ok()) << status.to_string();
  world.run(close_tls(&pair));
  ASSERT_EQ(connect_files(client_files("127.0.0.1", true), server_files(true)), "ok / ok");
  EXPECT_EQ(pair.server->peer_identity(), "/CN=client");
}

TEST_F(TlsFiles, AnotherNameOrNoCertificateIsRefused) {
  EXPECT_EQ(connect_files(client_files("other.example", false), server_files(false)),
            "TLS: hostname mismatch [permission_denied] / "
            "TLS: sslv3 alert bad certificate [permission_denied]");
  world.run(close_tls(&pair));
  EXPECT_EQ(connect_files(client_files("127.0.0.2", false), server_files(false)),
            "TLS: IP address mismatch [permission_denied] / "
            "TLS: sslv3 alert bad certificate [permission_denied]");
  world.run(close_tls(&pair));
  // The server judges after the client is done: the client's first receive says so.
  EXPECT_EQ(connect_files(client_files("box.example", false), server_files(true)),
            "ok / TLS: peer did not return a certificate [permission_denied]");
  EXPECT_EQ(world.run(receive(pair.client.get())).code(), Code::k_permission_denied);
}

TEST_F(TlsFiles, OptionsThatCannotBeSayWhy) {
  struct Row {
    TlsOptions options;
    std::string error;
  };
  TlsOptions none;
  TlsOptions both = client_files("x", false);
  both.psk = psk(1);
  TlsOptions open = server_files(false);
  TlsOptions missing = server_files(false);
  missing.certificate_file = file("none.pem");
  TlsOptions swapped = server_files(false);
  swapped.certificate_file = file("ext");
  TlsOptions other_key = server_files(false);
  other_key.key_file = file("client.key");
  TlsOptions short_key;
  short_key.psk = TlsPsk{.identity = "a", .key = Secret(31)};
  TlsOptions unnamed = client_files("", false);
  for (const Row& row : {
           Row{none,
               "TLS: needed are pre-shared keys or certificates, and not both "
               "[invalid_argument]"},
           Row{both,
               "TLS: needed are pre-shared keys or certificates, and not both "
               "[invalid_argument]"},
           Row{missing, file("none.pem") + ": No such file or directory [not_found]"},
           Row{swapped, file("ext") + ": no certificate in PEM: PEM lib [invalid_argument]"},
           Row{other_key, file("client.key") +
                              ": not the certificate's key in PEM: key values mismatch "
                              "[invalid_argument]"},
           Row{short_key, "TLS: a pre-shared key of 31 bytes for SHA-256 [invalid_argument]"},
           Row{unnamed,
               "TLS: a client needs a CA and the server's name to check it "
               "[invalid_argument]"},
       }) {
    EXPECT_EQ(TlsContext::create(row.options).status().to_string(), row.error);
  }
  ASSERT_EQ(::chmod(file("server.key").c_str(), 0640), 0);
  EXPECT_EQ(TlsContext::create(open).status().to_string(),
            file("server.key") +
                ": a secret that others than its owner may read or change (mode 0640): "
                "chmod 600 it [permission_denied]");
}

TEST_F(TlsFiles, SecretsAreReadFromFilesThatOnlyTheirOwnerReads) {
  std::ofstream(file("secret")) << "xyz\n";
  ASSERT_EQ(::chmod(file("secret").c_str(), 0600), 0);
  auto secret = read_secret_file(file("secret"));
  ASSERT_TRUE(secret.ok()) << secret.status().to_string();
  EXPECT_EQ(as_text(secret->bytes()), "xyz\n");
  for (mode_t mode : {0640u, 0604u, 0620u}) {
    ASSERT_EQ(::chmod(file("secret").c_str(), mode), 0);
    EXPECT_EQ(read_secret_file(file("secret")).code(), Code::k_permission_denied) << mode;
  }
  ASSERT_EQ(::chmod(file("secret").c_str(), 0600), 0);
  std::ofstream(file("secret")) << std::string(4097, 'x');
  EXPECT_EQ(read_secret_file(file("secret")).status().to_string(),
            file("secret") + ": a secret of more than 4096 bytes [invalid_argument]");
  EXPECT_EQ(read_secret_file(folder).status().to_string(),
            folder + ": not a file [invalid_argument]");
  EXPECT_EQ(read_secret_file(file("none")).code(), Code::k_not_found);
}

}  // namespace
}  // namespace bb::io
