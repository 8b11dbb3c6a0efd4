// SPDX-License-Identifier: Apache-2.0
#include "io/rpc/line_channel.h"

namespace bb::io::rpc {

LineChannel::LineChannel(Loop& loop, std::unique_ptr<Stream> stream)
    : stream_(std::move(stream)), work_(loop), ended_(loop), group_(loop) {
  group_.spawn(send_queued());
}

Task<Result<std::optional<std::string>>> LineChannel::next_line() {
  for (;;) {
    auto line = splitter_.next();
    if (!line.ok()) co_return line.status().with_context(peer());
    if (line->has_value()) co_return line;
    if (broken_) co_return std::optional<std::string>();
    auto length = co_await stream_->recv_some(input_);
    if (!length.ok()) co_return length.status();
    if (*length == 0) co_return std::optional<std::string>();
    splitter_.feed(ConstBytes(input_).first(*length));
  }
}

bool LineChannel::push(std::string line) {
  if (broken_ || finishing_) return false;
  queued_bytes_ += line.size();
  queue_.push_back(std::move(line));
  work_.set();
  return true;
}

Task<void> LineChannel::send_queued() {
  while (!broken_) {
    if (queue_.empty()) {
      if (finishing_) break;
      work_.reset();
      co_await work_.wait();
      continue;
    }
    std::string line = std::move(queue_.front());
    queue_.pop_front();
    auto sent = co_await stream_->send_all(as_bytes(line));
    queued_bytes_ -= line.size();
    if (!sent.ok()) break;
  }
  shutdown();
}

void LineChannel::finish() {
  finishing_ = true;
  work_.set();
}

void LineChannel::shutdown() {
  broken_ = true;
  work_.set();
  ended_.set();
  stream_->shutdown();
}

Task<void> LineChannel::close() {
  shutdown();
  co_await group_.join();
  co_await stream_->close();
}

}  // namespace bb::io::rpc
