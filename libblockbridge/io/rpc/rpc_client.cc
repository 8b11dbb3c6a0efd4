// SPDX-License-Identifier: Apache-2.0
#include "io/rpc/rpc_client.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace bb::io::rpc {

RpcClient::RpcClient(Context context, std::unique_ptr<Stream> stream)
    : context_(context),
      channel_(context.loop, std::move(stream)),
      calls_(context.loop),
      group_(context.loop) {
  group_.spawn(receive());
}

RpcClient::~RpcClient() {
  BB_CHECK(group_.running() == 0, "an RpcClient was destroyed while connected: co_await close()");
}

Task<Result<std::unique_ptr<RpcClient>>> RpcClient::connect(Context context, Address to,
                                                            uint64_t deadline_ns) {
  auto stream = co_await context.network.connect(std::move(to), deadline_ns);
  if (!stream.ok()) co_return stream.status();
  co_return std::unique_ptr<RpcClient>(new RpcClient(context, std::move(stream).value()));
}

Task<Result<Json>> RpcClient::call(std::string method, Json params, uint64_t deadline_ns) {
  if (!lost_.ok()) co_return lost_;
  uint64_t id = next_id_++;
  std::string line = encode_request({.id = id, .method = method, .params = std::move(params)});
  if (line.size() > kLineMax) {
    co_return error(Code::k_invalid_argument, "{}: the call has {} bytes, allowed are {}", method,
                    line.size(), kLineMax);
  }
  if (!calls_.enter()) co_return error(Code::k_cancelled, "{}: the client is closed", method);
  Waiting waiting(context_.loop);
  waiting_.emplace(id, &waiting);
  channel_.push(std::move(line));  // if that fails, receive() will end and tell us why
  bool answered = co_await waiting.done.wait_until(deadline_ns);
  waiting_.erase(id);
  calls_.leave();
  if (waiting.result.has_value()) co_return std::move(*waiting.result);
  BB_CHECK(!answered, "{}: woken without a result", method);
  co_return error(Code::k_timed_out, "{}: {}: no answer in time", channel_.peer(), method);
}

Task<void> RpcClient::receive() {
  for (;;) {
    auto line = co_await channel_.next_line();
    if (!line.ok()) {
      fail_all(line.status());
      break;
    }
    if (!line->has_value()) {
      fail_all(error(Code::k_unavailable, "{}: the daemon closed the connection", channel_.peer()));
      break;
    }
    if ((*line)->empty()) continue;
    auto message = decode_message(**line);
    if (auto* response = std::get_if<Response>(&message)) {
      if (!response->id.has_value()) {  // about the connection as a whole (too many, not JSON)
        fail_all(response->result.status().with_context(channel_.peer()));
        break;
      }
      answer(std::move(*response));
    } else if (auto* event = std::get_if<Request>(&message)) {
      if (on_event_) on_event_(event->method, event->params);
    } else {
      fail_all(std::get<BadMessage>(message).status.with_context(channel_.peer()));
      break;
    }
  }
  channel_.shutdown();
}

void RpcClient::answer(Response response) {
  auto found = waiting_.find(*response.id);
  if (found == waiting_.end()) return;  // the caller's deadline has passed
  found->second->result = std::move(response.result);
  found->second->done.set();
}

void RpcClient::fail_all(const Status& status) {
  lost_ = status;
  for (auto& [id, waiting] : waiting_) {
    if (waiting->result.has_value()) continue;
    waiting->result = status;
    waiting->done.set();
  }
  if (on_lost_) std::exchange(on_lost_, nullptr)();
}

Task<void> RpcClient::close() {
  channel_.shutdown();
  co_await group_.join();
  co_await calls_.close();
  co_await channel_.close();
}

}  // namespace bb::io::rpc
