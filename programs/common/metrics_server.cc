// SPDX-License-Identifier: Apache-2.0
#include "common/metrics_server.h"

#include <httplib.h>

#include "base/log.h"
#include "base/uri.h"
#include "io/prometheus.h"

namespace bb::program {
namespace {

constexpr size_t kThreads = 2;
constexpr size_t kRequestBytesMax = 4096;
constexpr time_t kTimeoutSeconds = 5;

Result<HostPort> parse_metrics_address(const std::string& text) {
  if (text.find(':') == std::string::npos) return HostPort::parse("127.0.0.1:" + text);
  return HostPort::parse(text.starts_with(':') ? "127.0.0.1" + text : text);
}

}  // namespace

MetricsServer::MetricsServer(io::Loop& loop, io::CollectStats collect)
    : loop_(loop),
      collect_(std::move(collect)),
      collecting_(loop),
      server_(std::make_unique<httplib::Server>()) {
  job_.server = this;
  job_.run = [](io::Work* work) {
    MetricsServer* server = static_cast<Job*>(work)->server;
    server->collecting_.spawn(server->collect());
  };
}

MetricsServer::~MetricsServer() {
  BB_CHECK(!thread_.joinable(), "a MetricsServer was destroyed without stop()");
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(io::Loop& loop,
                                                            const std::string& address,
                                                            io::CollectStats collect) {
  BB_ASSIGN(HostPort at, parse_metrics_address(address));
  std::unique_ptr<MetricsServer> self(new MetricsServer(loop, std::move(collect)));
  BB_TRY(self->listen(at.host, at.port));
  return self;
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start_if(io::Loop& loop,
                                                               const std::string& address,
                                                               io::CollectStats collect) {
  if (address.empty()) return std::unique_ptr<MetricsServer>();
  return start(loop, address, std::move(collect));
}

Status MetricsServer::listen(const std::string& host, int port) {
  server_->set_tcp_nodelay(true);
  server_->set_keep_alive_max_count(1);  // an idle scraper holds no thread
  server_->set_payload_max_length(kRequestBytesMax);
  server_->set_read_timeout(kTimeoutSeconds);
  server_->set_write_timeout(kTimeoutSeconds);
  server_->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server_->Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    std::string text;
    if (take_text(&text)) {
      response.set_content(text, io::kPrometheusContentType);
    } else {
      response.status = 503;
    }
  });
  bool bound = true;
  if (port == 0) {
    port = server_->bind_to_any_port(host);
    bound = port > 0;
  } else {
    bound = server_->bind_to_port(host, port);
  }
  if (!bound) {
    return error(Code::k_already_exists, "metrics: cannot listen on {}:{}: {}", host, port,
                 std::strerror(errno));
  }
  address_ = fmt::format("{}:{}", host, port);
  thread_ = std::thread([this] { server_->listen_after_bind(); });
  // Before it runs, httplib would not hear a stop().
  while (!server_->is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return {};
}

bool MetricsServer::take_text(std::string* text) {
  std::lock_guard one(asking_);
  std::unique_lock lock(mutex_);
  if (stopping_ || posted_) return false;  // posted: the loop has not answered the one before
  posted_ = true;
  loop_.post_remote(job_);
  bool came = changed_.wait_for(lock, std::chrono::seconds(kTimeoutSeconds),
                                [this] { return stopping_ || !posted_; });
  if (!came || posted_) return false;
  *text = std::move(text_);
  return true;
}

io::Task<void> MetricsServer::collect() {
  io::StatsReport report;
  co_await collect_(&report);
  std::string text = io::encode_prometheus(report.objects);
  std::lock_guard lock(mutex_);
  text_ = std::move(text);
  posted_ = false;
  changed_.notify_all();
}

io::Task<void> MetricsServer::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  server_->stop();
  thread_.join();
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (!posted_) break;
    }
    co_await loop_.yield();  // the loop still has our job
  }
  co_await collecting_.join();
}

}  // namespace bb::program
