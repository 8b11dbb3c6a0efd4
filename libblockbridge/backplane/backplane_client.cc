// SPDX-License-Identifier: Apache-2.0
#include "backplane/backplane_client.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kConnectNs = 3 * kNsPerSecond;
constexpr uint64_t kPollNs = 1 * kNsPerSecond;
constexpr uint64_t kReportNs = 5 * kNsPerSecond;  // a node that does not answer so long is offline
constexpr uint64_t kClaimNs = 10 * kNsPerSecond;
constexpr uint64_t kBackoffMinNs = 200 * kNsPerMs;
constexpr uint64_t kBackoffMaxNs = 5 * kNsPerSecond;

}  // namespace

BackplaneClient::BackplaneClient(io::Context context, BackplaneConfig config)
    : context_(context),
      config_(std::move(config)),
      tried_(context.loop),
      stopping_(context.loop),
      wake_(context.loop),
      tasks_(context.loop) {}

void BackplaneClient::start() { tasks_.spawn(run()); }

io::Task<void> BackplaneClient::stop() {
  stopping_.set();
  wake_.set();
  co_await tasks_.join();
}

io::Task<void> BackplaneClient::run() {
  uint64_t backoff_ns = kBackoffMinNs;
  while (!stopping_.is_set()) {
    auto client = co_await io::rpc::RpcClient::connect(context_, {config_.control},
                                                       context_.loop.now_ns() + kConnectNs);
    Status lost = client.status();
    if (client.ok()) {
      client_ = std::move(client).value();
      client_->on_lost([this] { wake_.set(); });
      lost = co_await poll_until_lost();
      if (online_) backoff_ns = kBackoffMinNs;
      set_offline(lost);
      co_await client_->close();  // calls of others end first
      client_.reset();
    } else {
      set_offline(lost);
    }
    if (stopping_.is_set()) break;
    wake_.reset();
    uint64_t jitter = context_.loop.prng().below(backoff_ns / 2);
    co_await stopping_.wait_until(context_.loop.now_ns() + backoff_ns + jitter);
    backoff_ns = std::min(backoff_ns * 2, kBackoffMaxNs);
  }
}

io::Task<Status> BackplaneClient::poll_until_lost() {
  while (!stopping_.is_set()) {
    Status status = co_await refresh();
    if (!status.ok()) co_return status;
    if (!online_) log_info("backplane \"{}\": answers -> online", config_.name);
    online_ = true;
    detail_.clear();
    tried_.set();
    co_await wake_.wait_until(context_.loop.now_ns() + kPollNs);
    if (!client_->connected()) co_return error(Code::k_unavailable, "connection lost");
  }
  co_return error(Code::k_cancelled, "stopping");
}

io::Task<Status> BackplaneClient::refresh() {
  if (client_ == nullptr)
    co_return error(Code::k_unavailable, "backplane \"{}\" is offline: {}", config_.name, detail_);
  auto answer =
      co_await client_->call("node.info", Json::object(), context_.loop.now_ns() + kReportNs);
  if (!answer.ok()) co_return answer.status();
  auto report = decode_node_report(*answer);
  if (!report.ok()) co_return report.status();
  report_ = std::move(report).value();
  co_return Status();
}

void BackplaneClient::set_offline(const Status& why) {
  if (online_ || detail_ != why.text())
    log_warn("backplane \"{}\" at {}: {} -> offline", config_.name, config_.control,
             why.to_string());
  online_ = false;
  detail_ = why.text();
  tried_.set();
}

io::Task<Result<NodeDrive>> BackplaneClient::claim(Uuid drive, ClaimRequest request) {
  co_return co_await change("drive.claim", encode_claim_request(drive, request));
}

io::Task<Result<NodeDrive>> BackplaneClient::release(Uuid drive, ReleaseRequest request) {
  co_return co_await change("drive.release", encode_release_request(drive, request));
}

io::Task<Result<NodeDrive>> BackplaneClient::change(std::string method, Json params) {
  if (client_ == nullptr)
    co_return error(Code::k_unavailable, "backplane \"{}\" is offline: {}", config_.name, detail_);
  auto answer =
      co_await client_->call(method, std::move(params), context_.loop.now_ns() + kClaimNs);
  if (!answer.ok())
    co_return answer.status().with_context(fmt::format("backplane \"{}\"", config_.name));
  auto drive = decode_node_drive(*answer);
  if (!drive.ok())
    co_return drive.status().with_context(fmt::format("backplane \"{}\"", config_.name));
  for (NodeDrive& known : report_.drives)
    if (known.uuid == drive->uuid) known = *drive;
  co_return drive;
}

}  // namespace bb::backplane
