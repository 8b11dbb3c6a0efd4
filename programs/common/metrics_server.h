// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "io/loop.h"
#include "io/stats_collect.h"
#include "io/sync.h"

namespace httplib {
class Server;
}

namespace bb::program {

inline constexpr const char* kMetricsHelp =
    "serve Prometheus text at http://ADDRESS/metrics: PORT (on loopback) or HOST:PORT; no password";

// Serves GET /metrics, Prometheus text, over HTTP on a thread of its own; the statistics are
// collected on the loop. No TLS and no password: it listens on loopback unless told otherwise.
class MetricsServer {
 public:
  // "PORT", ":PORT" (loopback) or "HOST:PORT"; port 0: the system chooses. INVALID_ARGUMENT,
  // ALREADY_EXISTS (in use).
  static Result<std::unique_ptr<MetricsServer>> start(io::Loop& loop, const std::string& address,
                                                      io::CollectStats collect);
  // The same for a daemon's --metrics: null where `address` is empty.
  static Result<std::unique_ptr<MetricsServer>> start_if(io::Loop& loop, const std::string& address,
                                                         io::CollectStats collect);
  ~MetricsServer();
  const std::string& address() const { return address_; }
  io::Task<void> stop();  // before destruction

 private:
  struct Job : io::Work {
    MetricsServer* server = nullptr;
  };
  MetricsServer(io::Loop& loop, io::CollectStats collect);
  Status listen(const std::string& host, int port);
  bool take_text(std::string* text);  // on a thread of the server; false: none to be had
  io::Task<void> collect();           // on the loop

  io::Loop& loop_;
  io::CollectStats collect_;
  io::TaskGroup collecting_;
  std::string address_;
  std::unique_ptr<httplib::Server> server_;
  std::thread thread_;
  Job job_;
  std::mutex asking_;  // one scrape at a time
  std::mutex mutex_;   // of what follows
  std::condition_variable changed_;
  bool posted_ = false;  // job_ is with the loop, or collects
  bool stopping_ = false;
  std::string text_;
};

}  // namespace bb::program
