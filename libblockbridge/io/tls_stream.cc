// SPDX-License-Identifier: Apache-2.0
#include "io/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "io/reactor.h"

namespace bb::io {
namespace {

constexpr size_t kRecordBytes = 16 * 1024;  // of plain text, at most
constexpr size_t kRecordRoomBytes = kRecordBytes + 512;
constexpr uint64_t kGoodbyeNs = kNsPerSecond;

int as_int(size_t length) { return static_cast<int>(std::min<size_t>(length, 1u << 30)); }

}  // namespace

// OpenSSL reads and writes what lies in the stream's two buffers; when there is nothing, or no
// room, it is told to come again.
struct TlsStream::Bio {
  static int read(BIO* bio, char* into, int length) {
    auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    size_t there = std::min(self->in_end_ - self->in_at_, static_cast<size_t>(std::max(0, length)));
    if (there == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    std::memcpy(into, self->in_.get() + self->in_at_, there);
    self->in_at_ += there;
    return static_cast<int>(there);
  }

  static int write(BIO* bio, const char* from, int length) {
    auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    size_t room = std::min(kBufferBytes - self->out_end_, static_cast<size_t>(std::max(0, length)));
    if (room == 0) {
      BIO_set_retry_write(bio);
      return -1;
    }
    std::memcpy(self->out_.get() + self->out_end_, from, room);
    self->out_end_ += room;
    return static_cast<int>(room);
  }

  static long control(BIO*, int what, long, void*) {  // NOLINT: OpenSSL's types
    return what == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static BIO* make(TlsStream* stream) {
    static BIO_METHOD* const kMethod = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bb");
      BB_CHECK(method != nullptr, "out of memory");
      BIO_meth_set_read(method, read);
      BIO_meth_set_write(method, write);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    BIO* bio = BIO_new(kMethod);
    BB_CHECK(bio != nullptr, "out of memory");
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    return bio;
  }
};

TlsStream::TlsStream(Loop& loop, std::shared_ptr<TlsContext> context, std::unique_ptr<Stream> below,
                     ConstBytes received)
    : loop_(&loop),
      context_(std::move(context)),
      below_(std::move(below)),
      ssl_(context_->new_connection()),
      in_(new std::byte[kBufferBytes]),
      out_(new std::byte[kBufferBytes]),
      gate_(loop) {
  BB_CHECK(ssl_ != nullptr, "{}: no TLS connection: {}", below_->peer(), tls_complaint());
  BB_CHECK(received.size() <= kBufferBytes, "{} bytes received before", received.size());
  std::copy(received.begin(), received.end(), in_.get());
  in_end_ = received.size();
  BIO* bio = Bio::make(this);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, &psk_identity_);
  receive_.stream = flush_.stream = received_.stream = sent_.stream = alarm_.stream = this;
  receive_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Below*>(op)->stream->on_received(std::move(length));
  };
  flush_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Below*>(op)->stream->on_flushed(std::move(length));
  };
  auto complete = [](Work* work) {
    auto* completion = static_cast<Completion*>(work);
    TlsStream* self = completion->stream;
    StreamOp* op = std::exchange(completion->op, nullptr);
    Result<size_t> result = std::move(completion->result);
    op->done(op, std::move(result));
    self->gate_.leave();  // last: whoever closes the stream waits for this
  };
  received_.run = sent_.run = complete;
  alarm_.fire = [](Timer* timer) {
    TlsStream* self = static_cast<Alarm*>(timer)->stream;
    self->down_ = true;
    self->below_->shutdown();
  };
}

TlsStream::~TlsStream() {
  BB_CHECK(gate_.inside() == 0, "{}: a TLS stream is destroyed in use", below_->peer());
  SSL_free(ssl_);
}

std::string TlsStream::suite() const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_);
  return cipher == nullptr ? std::string() : SSL_CIPHER_get_name(cipher);
}

// The handshake is a coroutine of its own: nothing else uses the stream yet.

Task<Status> TlsStream::handshake(uint64_t deadline_ns) {
  BB_CHECK(!established_ && broken_.ok(), "{}: a second handshake", peer());
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: a handshake while closing", peer());
  loop_->arm(alarm_, deadline_ns);
  Status status = co_await shake_hands();
  if (!status.ok() && !alarm_.armed()) {
    status = error(Code::k_timed_out, "{}: no TLS handshake in time", peer());
  }
  loop_->disarm(alarm_);
  if (status.ok()) status = check_peer();
  established_ = status.ok();
  if (!status.ok()) {
    broken_ = status;
    down_ = true;
    below_->shutdown();
  }
  gate_.leave();
  co_return status;
}

Task<Status> TlsStream::shake_hands() {
  for (;;) {
    ERR_clear_error();
    int done = SSL_do_handshake(ssl_);
    int why = done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, done);
    Status failed;
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
      failed = refused();
    }
    if (out_end_ > 0) {  // an alert, too, tells the peer why
      auto sent = co_await below_->send_all(ConstBytes(out_.get(), out_end_));
      out_end_ = 0;
      if (!failed.ok()) co_return failed;
      if (!sent.ok()) co_return sent.status();
    }
    if (!failed.ok()) co_return failed;
    if (why == SSL_ERROR_NONE) co_return Status();
    if (why == SSL_ERROR_WANT_WRITE) continue;
    in_at_ = in_end_ = 0;
    auto got = co_await below_->recv_some({in_.get(), kBufferBytes});
    if (!got.ok()) co_return got.status();
    if (*got == 0) {
      co_return error(Code::k_unavailable,
                      "{}: the peer closed the connection during the TLS handshake", peer());
    }
    in_end_ = *got;
  }
}

Status TlsStream::refused() const {
  long verified = SSL_get_verify_result(ssl_);  // NOLINT: OpenSSL's type
  std::string why = tls_complaint();
  if (!context_->options().ca_file.empty() && verified != X509_V_OK) {
    why = X509_verify_cert_error_string(verified);
  }
  return error(Code::k_permission_denied, "{}: TLS: {}", below_->peer(), why);
}

Status TlsStream::check_peer() {
  const TlsOptions& options = context_->options();
  if (options.psk || options.find_psk) {
    // Resumed: what OpenSSL calls a connection whose key both sides knew.
    if (SSL_session_reused(ssl_) != 1) {
      return error(Code::k_permission_denied, "{}: TLS: the peer knows no common key", peer());
    }
    peer_identity_ = options.psk ? options.psk->identity : psk_identity_;
    return {};
  }
  X509* certificate = SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr) return {};
  char subject[256] = "";
  X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
  peer_identity_ = subject;
  return {};
}

// Receiving.

void TlsStream::recv(StreamOp& op) {
  BB_CHECK(receiving_ == nullptr && received_.op == nullptr, "{}: two receives", peer());
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", peer());
  receiving_ = &op;
  go_on_receiving();
}

void TlsStream::go_on_receiving() {
  if (receiving_ == nullptr) return;
  if (!established_) return end_receive(error(Code::k_bad_state, "{}: no TLS handshake", peer()));
  size_t total = 0;
  for (uint32_t i = 0; i < receiving_->iov_count; ++i) {
    const iovec& piece = receiving_->iov[i];
    for (size_t at = 0; at < piece.iov_len;) {
      ERR_clear_error();
      int got =
          SSL_read(ssl_, static_cast<std::byte*>(piece.iov_base) + at, as_int(piece.iov_len - at));
      if (got > 0) {
        at += static_cast<size_t>(got);
        total += static_cast<size_t>(got);
        continue;
      }
      int why = SSL_get_error(ssl_, got);
      bool more = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
      if (why == SSL_ERROR_ZERO_RETURN) {
        peer_closed_ = true;
      } else if (!more) {
        fail(refused());
      }
      flush();  // a read may have to answer: an alert, a new key
      if (total > 0) return end_receive(total);
      if (peer_closed_) return end_receive(size_t{0});
      if (!more) return end_receive(broken_);
      if (why == SSL_ERROR_WANT_READ) receive_below();
      return;  // on_received or on_flushed goes on
    }
  }
  end_receive(total);
}

void TlsStream::receive_below() {
  if (receive_.busy) return;
  if (down_)
    return end_receive(broken_.ok() ? error(Code::k_unavailable, "{}: shut down", peer())
                                    : broken_);
  in_at_ = in_end_ = 0;
  receive_.one = {.iov_base = in_.get(), .iov_len = kBufferBytes};
  receive_.iov = &receive_.one;
  receive_.iov_count = 1;
  receive_.busy = true;
  below_->recv(receive_);
}

void TlsStream::on_received(Result<size_t> length) {
  receive_.busy = false;
  if (!length.ok()) {
    fail(length.status());
    return end_receive(broken_);
  }
  if (*length == 0) {
    fail(error(Code::k_unavailable, "{}: the connection ended without a TLS close_notify", peer()));
    return end_receive(stopping_ ? Result<size_t>(size_t{0}) : Result<size_t>(broken_));
  }
  in_end_ = *length;
  go_on_receiving();
}

void TlsStream::end_receive(Result<size_t> result) {
  if (receiving_ == nullptr) return;
  received_.op = std::exchange(receiving_, nullptr);
  received_.result = std::move(result);
  loop_->post(received_);
}

// Sending.

void TlsStream::send(StreamOp& op) {
  BB_CHECK(sending_ == nullptr && sent_.op == nullptr, "{}: two sends", peer());
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", peer());
  sending_ = &op;
  send_piece_ = 0;
  send_skip_ = 0;
  send_done_bytes_ = 0;
  staged_bytes_ = 0;
  go_on_sending();
}

// Fills the buffer with records, then sends it; the next ones follow once it has left.
void TlsStream::go_on_sending() {
  if (sending_ == nullptr) return;
  if (!established_) return end_send(error(Code::k_bad_state, "{}: no TLS handshake", peer()));
  if (stopping_ && broken_.ok()) broken_ = error(Code::k_unavailable, "{}: shut down", peer());
  if (!broken_.ok()) return end_send(broken_);
  if (flush_.busy) return;
  while (kBufferBytes - out_end_ >= kRecordRoomBytes && encrypt()) {
  }
  if (!broken_.ok()) return end_send(broken_);
  if (out_end_ > 0) return flush();
  end_send(send_done_bytes_);
}

// Small pieces, as headers and digests are, go into one record: copying them is cheaper.
size_t TlsStream::gather() {
  if (staged_.empty()) staged_ = Secret(kRecordBytes);
  size_t end = 0;
  uint32_t piece = send_piece_;
  size_t skip = send_skip_;
  while (piece < sending_->iov_count && end < kRecordBytes) {
    const iovec& from = sending_->iov[piece];
    size_t part = std::min(from.iov_len - skip, kRecordBytes - end);
    if (part > 0)
      std::memcpy(staged_.data() + end, static_cast<std::byte*>(from.iov_base) + skip, part);
    end += part;
    skip += part;
    if (skip < from.iov_len) break;
    ++piece;
    skip = 0;
  }
  return end;
}

bool TlsStream::encrypt() {
  while (send_piece_ < sending_->iov_count && send_skip_ == sending_->iov[send_piece_].iov_len) {
    ++send_piece_;
    send_skip_ = 0;
  }
  if (send_piece_ == sending_->iov_count) return false;
  const iovec& piece = sending_->iov[send_piece_];
  const std::byte* from = static_cast<std::byte*>(piece.iov_base) + send_skip_;
  size_t length = piece.iov_len - send_skip_;
  if (length < kRecordBytes) {
    length = gather();
    from = staged_.data();
  }
  ERR_clear_error();
  int took = SSL_write(ssl_, from, as_int(std::min(length, kRecordBytes)));
  if (took <= 0) {
    int why = SSL_get_error(ssl_, took);
    if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ) fail(refused());
    return false;
  }
  send_done_bytes_ += static_cast<size_t>(took);
  for (auto left = static_cast<size_t>(took); left > 0;) {
    size_t part = std::min(left, sending_->iov[send_piece_].iov_len - send_skip_);
    send_skip_ += part;
    left -= part;
    if (send_skip_ < sending_->iov[send_piece_].iov_len) break;
    ++send_piece_;
    send_skip_ = 0;
  }
  return true;
}

void TlsStream::flush() {
  if (flush_.busy || out_end_ == 0 || down_) return;
  flushing_bytes_ = out_end_;
  flush_.one = {.iov_base = out_.get(), .iov_len = flushing_bytes_};
  flush_.iov = &flush_.one;
  flush_.iov_count = 1;
  flush_.busy = true;
  bool entered = gate_.enter();  // may outlast the receive that caused it
  BB_CHECK(entered, "{}: used while closing", peer());
  below_->send(flush_);
}

void TlsStream::on_flushed(Result<size_t> length) {
  flush_.busy = false;
  // What came behind while this was under way, as answers to the peer, moves to the front.
  std::memmove(out_.get(), out_.get() + flushing_bytes_, out_end_ - flushing_bytes_);
  out_end_ -= flushing_bytes_;
  if (!length.ok()) {
    fail(length.status());
    out_end_ = 0;
  }
  if (stopping_) {
    say_goodbye();
  } else if (out_end_ > 0 && sending_ == nullptr) {
    flush();
  }
  go_on_sending();
  if (receiving_ != nullptr && !receive_.busy) go_on_receiving();
  gate_.leave();  // last
}

void TlsStream::end_send(Result<size_t> result) {
  if (sending_ == nullptr) return;
  sent_.op = std::exchange(sending_, nullptr);
  sent_.result = std::move(result);
  loop_->post(sent_);
}

// The end.

void TlsStream::fail(Status why) {
  if (broken_.ok()) broken_ = std::move(why);
}

void TlsStream::shutdown() {
  if (stopping_) return;
  stopping_ = true;
  bool polite = established_ && broken_.ok() && !flush_.busy;
  if (!polite) {
    down_ = true;
    return below_->shutdown();
  }
  loop_->arm(alarm_, loop_->now_ns() + kGoodbyeNs);
  (void)SSL_shutdown(ssl_);
  flush();
  if (!flush_.busy) say_goodbye();
}

void TlsStream::say_goodbye() {
  if (flush_.busy || down_) return;
  loop_->disarm(alarm_);
  down_ = true;
  below_->shutdown();
}

void TlsStream::abort() {
  stopping_ = true;
  down_ = true;
  loop_->disarm(alarm_);
  below_->abort();
}

bool TlsStream::move_to(Reactor& there) {
  // Not the caller's doing: the peer may ask for a new key at any time, and the answer to that is
  // on its way.
  if (gate_.inside() > 0 || alarm_.armed() || !established_ || stopping_) return false;
  if (!below_->move_to(there)) return false;
  loop_ = &there;
  gate_.move_to(there);
  return true;
}

Task<void> TlsStream::close() {
  shutdown();
  co_await gate_.close();
  loop_->disarm(alarm_);
  co_await below_->close();
}

}  // namespace bb::io
