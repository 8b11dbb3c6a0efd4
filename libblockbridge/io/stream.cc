// SPDX-License-Identifier: Apache-2.0
#include "io/stream.h"

#include "base/check.h"

namespace bb::io {

bool Stream::Op::await_suspend(std::coroutine_handle<> caller) {
  if (iov == nullptr) iov = &single;  // set here: the awaitable has its final address by now
  done = [](StreamOp* op, Result<size_t> length) {
    auto* self = static_cast<Op*>(op);
    self->result = std::move(length);
    if (self->waiter) {
      Trampoline::run(self->waiter);
    } else {
      self->completed = true;
    }
  };
  if (sends) {
    stream.send(*this);
  } else {
    stream.recv(*this);
  }
  if (completed) return false;
  waiter = caller;
  return true;
}

Stream::Op Stream::recv_some(Bytes into) {
  return Op(*this, false, iovec{.iov_base = into.data(), .iov_len = into.size()});
}

Stream::Op Stream::recv_some(const iovec* iov, uint32_t iov_count) {
  return Op(*this, false, iov, iov_count);
}

Stream::Op Stream::send_all(ConstBytes from) {
  return Op(*this, true,
            iovec{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()});
}

Stream::Op Stream::send_all(const iovec* iov, uint32_t iov_count) {
  return Op(*this, true, iov, iov_count);
}

Result<size_t> Stream::send_at_once(const iovec* iov, size_t iov_count) {
  BB_CHECK(false, "{}: {} pieces at {} are to be sent at once, which it cannot", peer(), iov_count,
           static_cast<const void*>(iov));
  return size_t{0};
}

Task<Status> recv_exactly(Stream* stream, Bytes into) {
  while (!into.empty()) {
    auto got = co_await stream->recv_some(into);
    if (!got.ok()) co_return got.status();
    if (*got == 0) {
      co_return error(Code::k_unavailable, "{}: the peer closed the connection", stream->peer());
    }
    into = into.subspan(*got);
  }
  co_return Status();
}

}  // namespace bb::io
