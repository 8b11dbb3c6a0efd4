// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/tls_stream.h"

namespace bb::test {

inline io::TlsPsk psk(int fill, io::Hash hash = io::Hash::kSha256, std::string identity = "one") {
  io::Secret key(io::hash_bytes(hash));
  std::memset(key.data(), fill, key.size());
  return {.identity = std::move(identity), .key = std::move(key), .hash = hash};
}

inline std::shared_ptr<io::TlsContext> tls_client(io::TlsPsk key) {
  io::TlsOptions options;
  options.psk = std::move(key);
  return std::move(io::TlsContext::create(std::move(options))).value();
}

inline std::shared_ptr<io::TlsContext> tls_server(std::vector<io::TlsPsk> keys) {
  io::TlsOptions options{.role = io::TlsRole::kServer};
  options.find_psk = [keys](std::string_view identity) -> std::optional<io::TlsPsk> {
    for (const io::TlsPsk& key : keys) {
      if (key.identity == identity) return key;
    }
    return std::nullopt;
  };
  return std::move(io::TlsContext::create(std::move(options))).value();
}

// Keeps a copy of all that is sent and received through it: what an eavesdropper sees.
class Tapped final : public io::Stream {
 public:
  Tapped(std::unique_ptr<io::Stream> below, std::string* tape, bool* flip_next)
      : below_(std::move(below)), tape_(tape), flip_next_(flip_next) {}
  void recv(io::StreamOp& op) override { below_->recv(op); }
  void send(io::StreamOp& op) override {
    for (uint32_t i = 0; i < op.iov_count; ++i) {
      tape_->append(static_cast<const char*>(op.iov[i].iov_base), op.iov[i].iov_len);
    }
    if (std::exchange(*flip_next_, false)) {
      auto* bytes = static_cast<std::byte*>(op.iov[0].iov_base);
      bytes[op.iov[0].iov_len - 1] ^= std::byte{1};
    }
    below_->send(op);
  }
  void shutdown() override { below_->shutdown(); }
  void abort() override { below_->abort(); }
  io::Task<void> close() override { co_await below_->close(); }
  const std::string& peer() const override { return below_->peer(); }

 private:
  std::unique_ptr<io::Stream> below_;
  std::string* tape_;
  bool* flip_next_;  // damages the last byte of the next send
};

// Both ends of a connection, TLS on each.
struct TlsPair {
  std::unique_ptr<io::TlsStream> client;
  std::unique_ptr<io::TlsStream> server;
  Status client_status;
  Status server_status;
  std::string tape;  // what the client sent
  bool flip_next = false;

  std::string outcome() const {
    return client_status.to_string() + " / " + server_status.to_string();
  }
};

inline io::Task<void> accept_tls(io::Loop* loop, io::Listener* listener,
                                 std::shared_ptr<io::TlsContext> context, TlsPair* pair,
                                 uint64_t deadline_ns) {
  auto stream = co_await listener->accept();
  BB_CHECK(stream.ok(), "{}", stream.status().to_string());
  pair->server = std::make_unique<io::TlsStream>(*loop, context, std::move(*stream));
  pair->server_status = co_await pair->server->handshake(deadline_ns);
}

inline io::Task<void> connect_tls(io::Loop* loop, io::Network* network, io::Listener* listener,
                                  std::string address, std::shared_ptr<io::TlsContext> client,
                                  std::shared_ptr<io::TlsContext> server, TlsPair* pair) {
  uint64_t deadline_ns = loop->now_ns() + 5'000'000'000;
  io::TaskGroup group(*loop);
  group.spawn(accept_tls(loop, listener, server, pair, deadline_ns));
  auto stream = co_await network->connect({address}, deadline_ns);
  BB_CHECK(stream.ok(), "{}", stream.status().to_string());
  auto tapped = std::make_unique<Tapped>(std::move(*stream), &pair->tape, &pair->flip_next);
  pair->client = std::make_unique<io::TlsStream>(*loop, client, std::move(tapped));
  pair->client_status = co_await pair->client->handshake(deadline_ns);
  // In TLS 1.3 the client is done before the server has judged it: then its first word tells.
  co_await group.join();
}

inline io::Task<void> close_tls(TlsPair* pair) {
  if (pair->client != nullptr) co_await pair->client->close();
  if (pair->server != nullptr) co_await pair->server->close();
}

inline io::Task<void> send_bytes(io::Stream* stream, const std::vector<std::byte>* bytes,
                                 size_t piece_bytes, Status* status) {
  std::vector<iovec> pieces;
  for (size_t at = 0; at < bytes->size(); at += piece_bytes) {
    size_t length = std::min(piece_bytes, bytes->size() - at);
    pieces.push_back({.iov_base = const_cast<std::byte*>(bytes->data()) + at, .iov_len = length});
    if (pieces.size() % 7 == 0) pieces.push_back({.iov_base = nullptr, .iov_len = 0});
  }
  auto sent = co_await stream->send_all(pieces.data(), static_cast<uint32_t>(pieces.size()));
  *status = sent.status();
  if (sent.ok() && *sent != bytes->size()) *status = Status(Code::k_internal, "a short send");
}

inline io::Task<void> recv_bytes(io::Stream* stream, std::vector<std::byte>* bytes,
                                 Status* status) {
  *status = co_await io::recv_exactly(stream, *bytes);
}

// A damaged length makes a side wait for what never comes.
struct GiveUp : io::Timer {
  TlsPair* pair = nullptr;
};

// `length` bytes each way at once, in pieces of `piece_bytes`; the error that came first.
inline io::Task<Status> exchange(io::Loop* loop, TlsPair* pair, size_t length, size_t piece_bytes) {
  std::vector<std::byte> there(length);
  std::vector<std::byte> back(length);
  loop->prng().fill(there);
  loop->prng().fill(back);
  std::vector<std::byte> got_there(length);
  std::vector<std::byte> got_back(length);
  Status ends[4];
  GiveUp give_up;
  give_up.pair = pair;
  give_up.fire = [](io::Timer* timer) {
    static_cast<GiveUp*>(timer)->pair->client->shutdown();
    static_cast<GiveUp*>(timer)->pair->server->shutdown();
  };
  loop->arm(give_up, loop->now_ns() + 20'000'000'000);
  io::TaskGroup group(*loop);
  group.spawn(send_bytes(pair->client.get(), &there, piece_bytes, &ends[0]));
  group.spawn(send_bytes(pair->server.get(), &back, piece_bytes, &ends[1]));
  group.spawn(recv_bytes(pair->server.get(), &got_there, &ends[2]));
  group.spawn(recv_bytes(pair->client.get(), &got_back, &ends[3]));
  co_await group.join();
  loop->disarm(give_up);
  for (const Status& end : ends) {
    if (!end.ok()) co_return end;
  }
  if (there != got_there || back != got_back) co_return Status(Code::k_corrupt, "other bytes");
  co_return Status();
}

}  // namespace bb::test
