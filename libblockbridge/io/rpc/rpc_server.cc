// SPDX-License-Identifier: Apache-2.0
#include "io/rpc/rpc_server.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "base/uri.h"

namespace bb::io::rpc {
namespace {

constexpr uint32_t kRefusingMax = 16;
constexpr uint64_t kDrainNs = kNsPerSecond;          // for callers that read slowly, at stop
constexpr uint64_t kAcceptPauseNs = 100 * kNsPerMs;  // after a failed accept (no descriptors left)

bool is_loopback(std::string_view host) {
  return host == "::1" || host == "localhost" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos);
}

}  // namespace

Status check_control_address(const Address& at, bool insecure) {
  if (at.text.starts_with("unix:")) return {};
  auto parsed = HostPort::parse(at.text);
  BB_TRY(parsed);
  if (insecure || is_loopback(parsed->host)) return {};
  return error(
      Code::k_not_supported,
      "control address {}: not a loopback address, and the control channel has no TLS yet: "
      "anyone who reaches it could give orders; use unix:PATH or 127.0.0.1, or set "
      "`insecure` on a network you trust",
      at.text);
}

struct RpcServer::Connection {
  LineChannel channel;
  TaskGroup calls;
  uint32_t in_flight = 0;
  Connection(Loop& loop, std::unique_ptr<Stream> stream)
      : channel(loop, std::move(stream)), calls(loop) {}
};

struct RpcServer::CallState final : Call {
  Connection* connection;
  uint64_t unread_bytes_max;
  CallState(Connection* c, uint64_t max) : connection(c), unread_bytes_max(max) {}
  void notify(std::string method, Json params) override {
    if (connection->channel.queued_bytes() > unread_bytes_max) return;
    std::string line = encode_request({.method = std::move(method), .params = std::move(params)});
    if (line.size() <= kLineMax) connection->channel.push(std::move(line));
  }
  bool caller_gone() const override { return connection->channel.broken(); }
};

RpcServer::RpcServer(Context context, ServerOptions options)
    : context_(context),
      options_(options),
      idle_(context.loop),
      calls_(context.loop),
      group_(context.loop) {
  idle_.set();
}

RpcServer::~RpcServer() {
  BB_CHECK(group_.running() == 0, "an RpcServer was destroyed while serving: co_await stop()");
}

void RpcServer::add(std::string method, Handler handler) {
  BB_CHECK(!method.empty() && method.size() <= kMethodMax, "method name \"{}\"", method);
  bool added = handlers_.emplace(method, std::move(handler)).second;
  BB_CHECK(added, "method \"{}\" was added twice", method);
}

Status RpcServer::listen(Address at, bool insecure) {
  BB_TRY(check_control_address(at, insecure));
  BB_ASSIGN(auto listener, context_.network.listen(at));
  listeners_.push_back(std::move(listener));
  group_.spawn(accept_loop(listeners_.back().get()));
  return {};
}

std::vector<std::string> RpcServer::local_addresses() const {
  std::vector<std::string> addresses;
  addresses.reserve(listeners_.size());
  for (const auto& listener : listeners_) addresses.push_back(listener->local_address());
  return addresses;
}

Task<void> RpcServer::accept_loop(Listener* listener) {
  while (!stopping_) {
    auto stream = co_await listener->accept();
    if (!stream.ok()) {
      if (stream.code() == Code::k_cancelled) break;
      log_warn("control channel: {} -> accepting again in 100 ms", stream.status().to_string());
      co_await context_.loop.sleep_for(kAcceptPauseNs);
      continue;
    }
    if (stopping_) {
      co_await (*stream)->close();
      break;
    }
    if (connections_.size() >= options_.connections_max) {
      if (refusing_ >= kRefusingMax) {
        co_await (*stream)->close();
      } else {
        ++refusing_;
        group_.spawn(refuse(std::move(stream).value()));
      }
      continue;
    }
    idle_.reset();
    connections_.push_back(std::make_unique<Connection>(context_.loop, std::move(stream).value()));
    group_.spawn(serve(connections_.back().get()));
  }
}

Task<void> RpcServer::refuse(std::unique_ptr<Stream> stream) {
  std::string line = encode_error(
      {}, error(Code::k_busy, "control channel: {} connections are open, allowed are {}",
                connections_.size(), options_.connections_max));
  (void)co_await stream->send_all(as_bytes(line));
  co_await stream->close();
  --refusing_;
}

Task<void> RpcServer::serve(Connection* connection) {
  for (;;) {
    auto line = co_await connection->channel.next_line();
    if (!line.ok()) {
      if (line.code() == Code::k_invalid_argument) {
        connection->channel.push(encode_error({}, line.status(), kParseError));
        connection->channel.finish();
      }
      break;
    }
    if (!line->has_value()) break;
    handle_line(connection, **line);
    // Nobody who floods us with calls and reads no answers makes us remember them all.
    if (connection->channel.queued_bytes() > options_.unread_bytes_max) {
      log_warn("control channel {}: {} bytes of answers unread -> connection closed",
               connection->channel.peer(), connection->channel.queued_bytes());
      connection->channel.shutdown();
      break;
    }
  }
  co_await connection->calls.join();
  connection->channel.finish();
  // The answer to the last line may still be on its way; a peer that does not read ends the wait.
  (void)co_await connection->channel.ended().wait_until(context_.loop.now_ns() + kDrainNs);
  co_await connection->channel.close();
  co_await context_.loop.yield();  // never out of a loop over connections_
  std::erase_if(connections_, [connection](const auto& c) { return c.get() == connection; });
  if (connections_.empty()) idle_.set();
}

void RpcServer::handle_line(Connection* connection, const std::string& line) {
  if (line.empty()) return;
  auto message = decode_message(line);
  if (auto* request = std::get_if<Request>(&message)) {
    handle_request(connection, std::move(*request));
    return;
  }
  BadMessage bad{.number = kInvalidRequest,
                 .status = error(Code::k_invalid_argument, "a response, where a request belongs")};
  if (auto* broken = std::get_if<BadMessage>(&message)) bad = std::move(*broken);
  connection->channel.push(encode_error(bad.id, bad.status, bad.number));
}

void RpcServer::handle_request(Connection* connection, Request request) {
  Status refused;
  int number = 0;
  if (!handlers_.contains(request.method)) {
    number = kMethodNotFound;
    refused = error(Code::k_not_supported, "no method \"{}\" here", request.method);
  } else if (stopping_) {
    refused = error(Code::k_unavailable, "{}: the daemon is stopping", request.method);
  } else if (connection->in_flight >= options_.calls_max) {
    refused = error(Code::k_busy, "{}: {} calls are in flight on this connection, allowed are {}",
                    request.method, connection->in_flight, options_.calls_max);
  }
  if (!refused.ok()) {
    if (request.id.has_value()) {
      connection->channel.push(encode_error(request.id, refused, number));
    }
    return;
  }
  connection->calls.spawn(run_call(connection, std::move(request)));
}

Task<void> RpcServer::run_call(Connection* connection, Request request) {
  bool entered = calls_.enter();
  BB_CHECK(entered, "a call began after stop()");
  ++connection->in_flight;
  CallState call(connection, options_.unread_bytes_max);
  const Handler& handler = handlers_.find(request.method)->second;  // the table no longer changes
  auto result = co_await handler(std::move(request.params), &call);
  if (request.id.has_value()) {
    std::string line = result.ok() ? encode_result(*request.id, *result)
                                   : encode_error(request.id, result.status());
    if (line.size() > kLineMax) {
      line = encode_error(request.id,
                          error(Code::k_no_space, "{}: the answer has {} bytes, allowed are {}",
                                request.method, line.size(), kLineMax));
    }
    connection->channel.push(std::move(line));
  }
  --connection->in_flight;
  calls_.leave();
}

void RpcServer::notify_all(const std::string& method, const Json& params) {
  std::string line = encode_request({.method = method, .params = params});
  if (line.size() > kLineMax) return;
  for (const auto& connection : connections_) {
    if (connection->channel.queued_bytes() + line.size() > options_.unread_bytes_max) continue;
    connection->channel.push(line);
  }
}

Task<void> RpcServer::stop() {
  if (stopping_) co_return;
  stopping_ = true;
  for (const auto& listener : listeners_) listener->shutdown();
  co_await calls_.close();
  for (const auto& connection : connections_) connection->channel.finish();
  (void)co_await idle_.wait_until(context_.loop.now_ns() + kDrainNs);
  for (const auto& connection : connections_) connection->channel.shutdown();
  co_await group_.join();
  // listeners_ does not change any more.
  for (size_t i = 0; i < listeners_.size(); ++i) co_await listeners_[i]->close();
  listeners_.clear();
}

}  // namespace bb::io::rpc
