// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/loop.h"
#include "io/stream.h"
#include "io/sync.h"
#include "io/tls_context.h"

namespace bb::io {

// TLS 1.3 over another stream, be it TCP's or the simulator's. Behaves as Stream says, with these
// particulars:
//   - handshake() comes first, once; recv and send only after it has succeeded;
//   - the other side's close_notify is the end of the stream (recv gives 0); an end without it may
//     have been forged and is an error, UNAVAILABLE;
//   - shutdown() says close_notify, if that can be had within a second, then ends the stream below;
//   - completions come from the loop, never from within recv or send;
//   - memory besides OpenSSL's own (about 50 KiB) is two buffers of kBufferBytes, whatever the peer
//     does.
class TlsStream final : public Stream {
 public:
  static constexpr size_t kBufferBytes = 64 * 1024;

  // `received`: what was read from `below` before it was known to be TLS, at most kBufferBytes.
  TlsStream(Loop& loop, std::shared_ptr<TlsContext> context, std::unique_ptr<Stream> below,
            ConstBytes received = {});
  ~TlsStream() override;

  // UNAVAILABLE (the connection was lost), TIMED_OUT, PERMISSION_DENIED (the peer is not who it
  // should be, knows another key, or refuses us; with the reason). After an error only close().
  Task<Status> handshake(uint64_t deadline_ns);

  // After the handshake: the pre-shared key's identity, or the subject of the peer's certificate;
  // empty when the peer showed none.
  const std::string& peer_identity() const { return peer_identity_; }
  std::string suite() const;  // "TLS_AES_128_GCM_SHA256"

  void recv(StreamOp& op) override;
  void send(StreamOp& op) override;
  void shutdown() override;
  void abort() override;
  bool move_to(Reactor& there) override;
  Task<void> close() override;
  const std::string& peer() const override { return below_->peer(); }
  std::string local() const override { return below_->local(); }

 private:
  struct Below : StreamOp {
    TlsStream* stream = nullptr;
    iovec one{};
    bool busy = false;
  };
  struct Completion : Work {
    TlsStream* stream = nullptr;
    StreamOp* op = nullptr;
    Result<size_t> result{size_t{0}};
  };
  struct Alarm : Timer {
    TlsStream* stream = nullptr;
  };
  struct Bio;  // OpenSSL's view of the two buffers

  Task<Status> shake_hands();
  Status check_peer();
  Status refused() const;
  void go_on_receiving();
  void go_on_sending();
  bool encrypt();  // some of the present send; false: no room, or an error
  size_t gather();
  void receive_below();
  void flush();
  void on_received(Result<size_t> length);
  void on_flushed(Result<size_t> length);
  void fail(Status why);
  void end_receive(Result<size_t> result);
  void end_send(Result<size_t> result);
  void say_goodbye();

  Loop* loop_;
  std::shared_ptr<TlsContext> context_;
  std::unique_ptr<Stream> below_;
  ssl_st* ssl_ = nullptr;
  std::unique_ptr<std::byte[]> in_;   // [in_at_, in_end_) was received and is not yet decrypted
  std::unique_ptr<std::byte[]> out_;  // [0, out_end_) is to be sent, or being sent
  size_t in_at_ = 0;
  size_t in_end_ = 0;
  size_t out_end_ = 0;
  size_t flushing_bytes_ = 0;
  Secret staged_;  // small pieces of plain text on their way into one record
  size_t staged_bytes_ = 0;
  StreamOp* receiving_ = nullptr;
  StreamOp* sending_ = nullptr;
  uint32_t send_piece_ = 0;  // where in the present send we are
  size_t send_skip_ = 0;
  size_t send_done_bytes_ = 0;
  Below receive_;
  Below flush_;
  Completion received_;
  Completion sent_;
  Alarm alarm_;
  Gate gate_;
  Status broken_;  // what ended it
  bool established_ = false;
  bool peer_closed_ = false;
  bool stopping_ = false;
  bool down_ = false;  // the stream below was shut down
  std::string psk_identity_;
  std::string peer_identity_;
};

}  // namespace bb::io
