// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <list>
#include <map>

#include "io/context.h"
#include "io/rpc/line_channel.h"

namespace bb::io::rpc {

// What a handler may do besides answering. Lives until the handler has ended.
class Call {
 public:
  virtual ~Call() = default;
  // An event to this caller only (progress). Dropped when the caller has gone or does not read.
  virtual void notify(std::string method, Json params) = 0;
  virtual bool caller_gone() const = 0;
};

// A handler runs to its end even if the caller disconnects: half an array is worse than an
// unheard answer. Write it as a plain lambda that calls a member coroutine:
//   server.add("array.list", [this](Json params, rpc::Call*) { return list(std::move(params)); });
using Handler = std::function<Task<Result<Json>>(Json params, Call* call)>;

struct ServerOptions {
  uint32_t connections_max = 64;
  uint32_t calls_max = 32;                      // in flight on one connection
  uint64_t unread_bytes_max = 4 * 1024 * 1024;  // answers waiting for a caller that does not read
};

// Whether a control socket may listen there: a Unix socket or a loopback address. Anything else
// carries no TLS yet, so it is NOT_SUPPORTED unless `insecure` asks for it. Pure.
Status check_control_address(const Address& at, bool insecure);

// Serves JSON-RPC. Unix sockets get mode 0600 from the network.
class RpcServer {
 public:
  RpcServer(Context context, ServerOptions options = {});
  ~RpcServer();

  void add(std::string method, Handler handler);  // before listen
  // `insecure`: see check_control_address. May be called for several addresses.
  Status listen(Address at, bool insecure = false);
  std::vector<std::string> local_addresses() const;

  // An event to every connection (state changes). Dropped for those that do not read.
  void notify_all(const std::string& method, const Json& params);

  // Refuses new calls, waits for those in flight, sends their answers, closes. Before destruction,
  // if listen succeeded.
  Task<void> stop();

 private:
  struct Connection;
  struct CallState;
  Task<void> accept_loop(Listener* listener);
  Task<void> refuse(std::unique_ptr<Stream> stream);
  Task<void> serve(Connection* connection);
  Task<void> run_call(Connection* connection, Request request);
  void handle_line(Connection* connection, const std::string& line);
  void handle_request(Connection* connection, Request request);

  Context context_;
  ServerOptions options_;
  std::map<std::string, Handler, std::less<>> handlers_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::list<std::unique_ptr<Connection>> connections_;
  uint32_t refusing_ = 0;
  bool stopping_ = false;
  Event idle_;  // set while no connection is open
  Gate calls_;
  TaskGroup group_;
};

}  // namespace bb::io::rpc
