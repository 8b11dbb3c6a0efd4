// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>

#include "io/context.h"
#include "io/rpc/line_channel.h"

namespace bb::io::rpc {

// One connection to an RpcServer; calls may overlap. Once the connection is lost every call fails
// with UNAVAILABLE: the owner makes a new client.
class RpcClient {
 public:
  using OnEvent = std::function<void(const std::string& method, const Json& params)>;

  static Task<Result<std::unique_ptr<RpcClient>>> connect(Context context, Address to,
                                                          uint64_t deadline_ns);
  ~RpcClient();

  // The server's answer or its error. TIMED_OUT and UNAVAILABLE mean that the call may have
  // happened all the same.
  Task<Result<Json>> call(std::string method, Json params, uint64_t deadline_ns);

  // Called for every event of the server, on the loop, between two awaits. May not destroy us.
  void on_event(OnEvent handler) { on_event_ = std::move(handler); }
  // Called once when the connection is lost, or closed; like on_event().
  void on_lost(std::function<void()> handler) { on_lost_ = std::move(handler); }
  bool connected() const { return lost_.ok() && !channel_.broken(); }
  Task<void> close();  // before destruction

 private:
  struct Waiting {
    Event done;
    std::optional<Result<Json>> result;
    explicit Waiting(Loop& loop) : done(loop) {}
  };
  RpcClient(Context context, std::unique_ptr<Stream> stream);
  Task<void> receive();
  void answer(Response response);
  void fail_all(const Status& status);

  Context context_;
  LineChannel channel_;
  OnEvent on_event_;
  std::function<void()> on_lost_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, Waiting*> waiting_;
  Status lost_;  // why no call can succeed any more
  Gate calls_;
  TaskGroup group_;
};

}  // namespace bb::io::rpc
