// SPDX-License-Identifier: Apache-2.0
#include "backplane/disk_node.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "io/rpc/stats_methods.h"
#include "io/stats_collect.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kRetryRefusedNs = 5 * kNsPerSecond;

}  // namespace

// A drive with its subsystem; asked by the target at each Connect.
struct DiskNode::Published final : io::nvme::Admission {
  std::unique_ptr<Drive> drive;
  const std::vector<std::string>* hosts = nullptr;

  Status allows(const io::nvme::HostIdentity& host) const {
    return decide_connect(drive->label().claim, *hosts,
                          {.host_nqn = host.host_nqn, .host_id = host.host_id.bytes});
  }
  Status admit(const io::nvme::HostIdentity& host) override {
    Status status = allows(host);
    if (!status.ok()) log_warn("{}: {} -> connect refused", drive->id(), status.text());
    return status;
  }
};

DiskNode::DiskNode(io::Context context, DiskNodeConfig config)
    : context_(context),
      config_(std::move(config)),
      server_(context),
      stopping_(context.loop),
      tasks_(context.loop) {}

DiskNode::~DiskNode() {
  BB_CHECK(tasks_.running() == 0, "a DiskNode was destroyed while running: co_await stop()");
}

io::Task<Result<std::unique_ptr<DiskNode>>> DiskNode::start(io::Context context,
                                                            DiskNodeConfig config) {
  std::unique_ptr<DiskNode> node(new DiskNode(context, std::move(config)));
  std::string where = fmt::format("disk node \"{}\"", node->config_.name);
  Status status = node->listen();
  if (status.ok()) {
    for (const DriveConfig& drive : node->config_.drives) {
      Status one = co_await node->publish(drive);
      if (one.ok()) continue;
      log_warn("{}: {} -> not published", where, one.to_string());
      node->refused_.push_back({drive, std::move(one)});
    }
    if (node->drives_.empty() && !node->refused_.empty()) status = node->refused_.front().status;
  }
  if (!status.ok()) {
    co_await node->stop();
    co_return status.with_context(where);
  }
  node->tasks_.spawn(node->retry_refused());
  co_return node;
}

Status DiskNode::listen() {
  io::nvme::TargetOptions options;
  for (const std::string& address : config_.listen) options.listen.push_back({address});
  BB_ASSIGN(target_, io::nvme::Target::create(context_, std::move(options)));
  add_methods();
  return server_.listen({config_.control}, config_.insecure_control);
}

void DiskNode::add_methods() {
  server_.add("node.info",
              [this](Json params, io::rpc::Call*) { return on_node_info(std::move(params)); });
  server_.add("drive.list",
              [this](Json params, io::rpc::Call*) { return on_drive_list(std::move(params)); });
  server_.add("drive.claim",
              [this](Json params, io::rpc::Call*) { return on_claim(std::move(params)); });
  server_.add("drive.release",
              [this](Json params, io::rpc::Call*) { return on_release(std::move(params)); });
  io::rpc::add_stats_methods(server_, context_.loop,
                             io::collect_here([this](auto* into) { collect(into); }));
}

void DiskNode::collect(io::StatsReport* into) const {
  for (const auto& published : drives_) io::collect_device(published->drive->device(), into);
  target_->collect(into);
}

io::Task<Status> DiskNode::publish(DriveConfig config) {
  BB_CO_ASSIGN(std::unique_ptr<Drive> drive, co_await Drive::open(context_, std::move(config)));
  io::nvme::ReservationState reservation;
  Status status;
  if (find(drive->label().drive) != nullptr) {
    status = error(Code::k_already_exists, "{}: a copy of {}, which is published already",
                   drive->config().uri, drive->id());
  } else {
    auto loaded = co_await drive->reservations().load();
    status = loaded.status();
    if (loaded.ok()) reservation = std::move(loaded).value();
  }
  if (status.ok()) {
    auto published = std::make_unique<Published>();
    published->drive = std::move(drive);
    published->hosts = &config_.hosts;
    const DriveLabel& label = published->drive->label();
    status = target_->add_subsystem(
        {.nqn = drive_nqn(label.drive),
         .uuid = label.drive,
         .namespaces = {{.nsid = 1,
                         .device = &published->drive->data(),
                         .uuid = label.drive,
                         .reservation_store = &published->drive->reservations(),
                         .reservation = std::move(reservation)}},
         .serial = label.serial,
         .model = label.model,
         .admission = published.get(),
         .single_association = true});
    if (status.ok()) {
      log_info("{}: slot {} of {} bytes -> published", published->drive->id(),
               published->drive->config().slot, label.data_size_bytes);
      drives_.push_back(std::move(published));
      co_return status;
    }
    drive = std::move(published->drive);
  }
  Status closed = co_await drive->close();
  if (!closed.ok()) log_warn("{}: close: {}", drive->id(), closed.to_string());
  co_return status;
}

// A drive that was missing or busy may come: looked for as long as the node runs.
io::Task<void> DiskNode::retry_refused() {
  while (!co_await stopping_.wait_until(context_.loop.now_ns() + kRetryRefusedNs)) {
    for (size_t i = 0; i < refused_.size() && !stopping_.is_set();) {
      Status status = co_await publish(refused_[i].config);
      if (status.ok()) {
        refused_.erase(refused_.begin() + static_cast<long>(i));
      } else {
        refused_[i++].status = std::move(status);
      }
    }
  }
}

io::Task<void> DiskNode::stop() {
  stopping_.set();
  co_await tasks_.join();
  co_await server_.stop();
  if (target_ != nullptr) co_await target_->stop();
  for (auto& published : drives_) {
    Status status = co_await published->drive->close();
    if (!status.ok()) log_warn("{}: close: {}", published->drive->id(), status.to_string());
  }
}

DiskNode::Published* DiskNode::find(const Uuid& drive) {
  for (auto& published : drives_)
    if (published->drive->label().drive == drive) return published.get();
  return nullptr;
}

NodeDrive DiskNode::describe(const Published& published) const {
  const DriveLabel& label = published.drive->label();
  const DeviceCounters& counters = published.drive->data().counters();
  return {.uuid = label.drive,
          .serial = label.serial,
          .model = label.model,
          .slot = published.drive->config().slot,
          .capacity_bytes = label.data_size_bytes,
          .block_size_bytes = label.block_size_bytes,
          .state = std::string(published.drive->state()),
          .detail = counters.last_error.text(),
          .errors = counters.read_errors + counters.write_errors,
          .claim = label.claim};
}

NodeReport DiskNode::report() const {
  NodeReport report{.name = config_.name,
                    .domain = config_.domain,
                    .enclosure = config_.enclosure,
                    .nvme = nvme_addresses()};
  for (const auto& published : drives_) report.drives.push_back(describe(*published));
  for (const Refused& one : refused_)
    report.refused.push_back({one.config.slot, one.config.uri, one.status.to_string()});
  return report;
}

std::vector<std::string> DiskNode::nvme_addresses() const { return target_->addresses(); }
std::vector<std::string> DiskNode::control_addresses() const { return server_.local_addresses(); }

io::Task<Result<Json>> DiskNode::on_node_info(Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "node.info"));
  BB_CO_TRY(fields.reject_unknown());
  co_return encode_node_report(report());
}

io::Task<Result<Json>> DiskNode::on_drive_list(Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "drive.list"));
  BB_CO_TRY(fields.reject_unknown());
  co_return Json{{"drives", encode_node_report(report())["drives"]}};
}

io::Task<Result<Json>> DiskNode::on_claim(Json params) {
  BB_CO_ASSIGN(DriveClaimRequest request, decode_claim_request(params));
  BB_CO_ASSIGN(NodeDrive drive, co_await claim(std::move(request)));
  co_return encode_node_drive(drive);
}

io::Task<Result<Json>> DiskNode::on_release(Json params) {
  BB_CO_ASSIGN(DriveReleaseRequest request, decode_release_request(params));
  BB_CO_ASSIGN(NodeDrive drive, co_await release(request));
  co_return encode_node_drive(drive);
}

io::Task<Result<NodeDrive>> DiskNode::claim(DriveClaimRequest request) {
  Published* published = find(request.drive);
  if (published == nullptr)
    co_return error(Code::k_not_found, "disk node \"{}\" has no drive {}", config_.name,
                    drive_id(request.drive));
  auto held = co_await published->drive->mutex().scoped();
  co_return co_await change_claim(published,
                                  decide_claim(published->drive->label().claim, request.claim));
}

io::Task<Result<NodeDrive>> DiskNode::release(DriveReleaseRequest request) {
  Published* published = find(request.drive);
  if (published == nullptr)
    co_return error(Code::k_not_found, "disk node \"{}\" has no drive {}", config_.name,
                    drive_id(request.drive));
  auto held = co_await published->drive->mutex().scoped();
  co_return co_await change_claim(published,
                                  decide_release(published->drive->label().claim, request.release));
}

// Durable first, then the old connections are cut, then the answer: whoever holds the answer knows
// that no write of the claim before can reach the drive any more.
io::Task<Result<NodeDrive>> DiskNode::change_claim(Published* published,
                                                   Result<ClaimDecision> decision) {
  Drive& drive = *published->drive;
  if (!decision.ok())
    co_return decision.status().with_context(fmt::format(
        "drive {} in slot \"{}\" of \"{}\"", drive.id(), drive.config().slot, config_.name));
  if (decision->changed) {
    BB_CO_TRY(co_await drive.write_claim(decision->next));
    const Claim& now = drive.label().claim;
    log_info("{}: claim written -> {} epoch {}", drive.id(), now.owned ? now.owner_name : "free",
             now.epoch);
  }
  if (decision->fence) {
    std::string nqn = drive_nqn(drive.label().drive);
    co_await target_->disconnect(nqn, [published](const io::nvme::HostIdentity& host) {
      return !published->allows(host).ok();
    });
    // Whoever reserved it before is not asked any more: the claim stands above.
    BB_CO_TRY((co_await target_->clear_reservation(nqn, 1)).with_context(drive.id()));
  }
  co_return describe(*published);
}

}  // namespace bb::backplane
