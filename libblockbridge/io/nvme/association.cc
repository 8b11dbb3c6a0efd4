// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/association.h"

#include <algorithm>

#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint16_t kAdminEntries = 32;
constexpr uint16_t kAdminDepth = 16;
constexpr uint32_t kAdminCapsuleBytes = 8192;  // by the transport's rules, for every target
constexpr uint32_t kAnaLogBytes = 16 * 1024;   // groups only; of a longer one the first
constexpr uint32_t kGroupsOnly = 1u << 8;      // RGO, in the log specific field

Sqe fabrics_sqe(FabricsType type) {
  Sqe sqe;
  sqe.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  sqe.nsid = static_cast<uint32_t>(type);
  return sqe;
}

}  // namespace

Association::Association(Context context, const AssociationOptions& options, Owner* owner)
    : context_(context), options_(options), owner_(owner) {}

void Association::on_connection_broken(InitiatorConnection& connection) {
  break_off(connection.why());
}

void Association::break_off(Status why) {
  if (broken_) return;
  broken_ = true;
  why_ = std::move(why);
  if (owner_ != nullptr) owner_->on_association_broken(*this);
  if (admin_ != nullptr) admin_->break_off(why_);
  for (auto& queue : queues_) queue->break_off(why_);
}

Task<void> Association::close() {
  break_off(error(Code::k_cancelled, "{}: the connection was closed", options_.address));
  for (auto& queue : queues_) co_await queue->close();
  if (admin_ != nullptr) co_await admin_->close();
  queues_.clear();
  admin_.reset();
}

Task<Result<std::unique_ptr<InitiatorConnection>>> Association::connect_queue(
    uint16_t queue_id, uint16_t entries, uint32_t capsule_data_bytes, uint64_t deadline_ns) {
  auto stream = co_await context_.network.connect({options_.address}, deadline_ns);
  if (!stream.ok()) co_return stream.status();
  stream = co_await secured(context_, std::move(stream).value(), options_.security,
                            options_.host.host_nqn, options_.subsystem_nqn, deadline_ns);
  if (!stream.ok()) co_return stream.status();
  InitiatorQueue::Options options{
      .digests = options_.digests,
      .depth = queue_id == 0 ? kAdminDepth : static_cast<uint16_t>(entries - 1),
      .capsule_data_max_bytes = capsule_data_bytes};
  auto connection =
      std::make_unique<InitiatorConnection>(context_.loop, std::move(stream).value(), options);
  Status status = co_await connection->initialize(deadline_ns);
  if (status.ok()) {
    status = co_await fabrics_connect(connection.get(), queue_id, entries, deadline_ns);
  }
  if (status.ok() && broken_) status = why_;
  if (!status.ok()) {
    co_await connection->close();
    co_return status;
  }
  connection->set_owner(this);
  co_return connection;
}

Task<Status> Association::fabrics_connect(InitiatorConnection* connection, uint16_t queue_id,
                                          uint16_t entries, uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe = fabrics_sqe(FabricsType::kConnect);
  ConnectCommand connect{.queue_id = queue_id, .queue_size = static_cast<uint16_t>(entries - 1)};
  if (queue_id == 0) {
    connect.keep_alive_ms =
        static_cast<uint32_t>(std::min<uint64_t>(options_.keep_alive_ns / kNsPerMs, UINT32_MAX));
  }
  connect.encode(command.sqe);
  std::vector<std::byte> data(kConnectDataBytes);
  ConnectData{.host = options_.host,
              .controller_id = controller_id_,
              .subsystem_nqn = options_.subsystem_nqn}
      .encode(data);
  command.carry(data, true);
  Status status = co_await connection->run(&command, deadline_ns);
  if (!status.ok()) {
    co_return status.with_context(fmt::format("connect queue {} as {} to {}", queue_id,
                                              options_.host.host_nqn, options_.subsystem_nqn));
  }
  bool wanted = (command.cqe.result & kConnectAuthentication) != 0;
  BB_CO_TRY(co_await authenticate(context_, connection, wanted, options_.security,
                                  options_.host.host_nqn, options_.subsystem_nqn, deadline_ns));
  if (queue_id == 0) controller_id_ = static_cast<uint16_t>(command.cqe.result & 0xffff);
  co_return Status();
}

Task<Result<uint64_t>> Association::get_property(Property property, bool eight_bytes,
                                                 uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe = fabrics_sqe(FabricsType::kPropertyGet);
  command.sqe.cdw10 = eight_bytes ? 1 : 0;
  command.sqe.cdw11 = static_cast<uint32_t>(property);
  Status status = co_await admin_->run(&command, deadline_ns);
  if (!status.ok()) co_return status.with_context("get property");
  co_return command.cqe.result;
}

Task<Status> Association::enable(uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe = fabrics_sqe(FabricsType::kPropertySet);
  command.sqe.cdw11 = static_cast<uint32_t>(Property::kCc);
  command.sqe.cdw12 = kCcEntrySizes | kCcEnable;
  Status status = co_await admin_->run(&command, deadline_ns);
  if (!status.ok()) co_return status.with_context("enable the controller");
  for (uint64_t wait_ns = 100 * kNsPerUs;; wait_ns = std::min(2 * wait_ns, 50 * kNsPerMs)) {
    BB_CO_ASSIGN(uint64_t state, co_await get_property(Property::kCsts, false, deadline_ns));
    if ((state & kCstsFatal) != 0) {
      co_return error(Code::k_io_error, "{}: the controller reports a fatal state",
                      options_.address);
    }
    if ((state & kCstsReady) != 0) co_return Status();
    if (context_.loop.now_ns() + wait_ns > deadline_ns) {
      co_return error(Code::k_timed_out, "{}: the controller does not become ready",
                      options_.address);
    }
    co_await context_.loop.sleep_for(wait_ns);
  }
}

Task<Status> Association::establish_admin(uint64_t deadline_ns) {
  auto admin = co_await connect_queue(0, kAdminEntries, kAdminCapsuleBytes, deadline_ns);
  if (!admin.ok()) co_return admin.status();
  admin_ = std::move(admin).value();
  BB_CO_ASSIGN(uint64_t cap, co_await get_property(Property::kCap, true, deadline_ns));
  queue_entries_max_ = Capabilities::decode(cap).queue_entries_max;
  BB_CO_TRY(co_await enable(deadline_ns));
  std::vector<std::byte> data(kIdentifyBytes);
  BB_CO_TRY(co_await identify(IdentifyCns::kController, 0, data, deadline_ns));
  auto decoded = ControllerInfo::decode(data);
  if (!decoded.ok()) co_return decoded.status().with_context(options_.address);
  controller_ = std::move(decoded).value();
  co_return Status();
}

Task<Status> Association::identify(IdentifyCns cns, uint32_t nsid, Bytes into,
                                   uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kIdentify);
  command.sqe.nsid = nsid;
  command.sqe.cdw10 = static_cast<uint32_t>(cns);
  command.carry(into, false);
  Status status = co_await admin_->run(&command, deadline_ns);
  if (!status.ok()) {
    co_return status.with_context(nsid == 0 ? std::string("identify controller")
                                            : fmt::format("identify namespace {}", nsid));
  }
  co_return Status();
}

Task<Status> Association::set_queue_count(uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kSetFeatures);
  command.sqe.cdw10 = static_cast<uint32_t>(FeatureId::kNumberOfQueues);
  uint32_t wanted = options_.queues - 1u;
  command.sqe.cdw11 = wanted | (wanted << 16);
  Status status = co_await admin_->run(&command, deadline_ns);
  if (!status.ok()) co_return status.with_context("set the number of queues");
  uint32_t granted = std::min(static_cast<uint32_t>(command.cqe.result & 0xffff),
                              static_cast<uint32_t>((command.cqe.result >> 16) & 0xffff)) +
                     1;
  queue_count_ = static_cast<uint16_t>(std::min<uint32_t>(options_.queues, granted));
  co_return Status();
}

Task<Status> Association::read_namespace(uint64_t deadline_ns) {
  std::vector<std::byte> data(kIdentifyBytes);
  BB_CO_TRY(co_await identify(IdentifyCns::kNamespace, options_.nsid, data, deadline_ns));
  auto decoded = NamespaceInfo::decode(data);
  if (!decoded.ok()) {
    co_return decoded.status().with_context(
        fmt::format("{}: namespace {}", options_.address, options_.nsid));
  }
  NamespaceInfo found = std::move(decoded).value();
  if (found.block_count == 0) {
    co_return error(Code::k_not_found, "{}: {} has no namespace {}", options_.address,
                    options_.subsystem_nqn, options_.nsid);
  }
  // Without NGUID the list of descriptors may have a UUID; Linux targets name themselves so.
  if (found.uuid.is_nil()) {
    Status listed =
        co_await identify(IdentifyCns::kNamespaceDescriptors, options_.nsid, data, deadline_ns);
    if (broken_) co_return why_;
    if (listed.ok()) found.uuid = NamespaceDescriptors::decode(data).uuid;
  }
  namespace_ = found;
  co_return Status();
}

Task<Result<AnaState>> Association::read_ana_state(uint64_t deadline_ns) {
  if (!controller_.ana) co_return AnaState::kOptimized;
  uint32_t limit = controller_.transfer_max_bytes;
  uint32_t length = limit == 0 ? kAnaLogBytes : std::min(limit, kAnaLogBytes);
  auto log = co_await get_log_page(LogId::kAsymmetricAccess, 0, length, deadline_ns);
  if (!log.ok()) co_return log.status();
  auto state = find_ana_state(*log, options_.nsid, namespace_.ana_group);
  if (!state.ok()) co_return state.status().with_context(options_.address);
  co_return state;
}

Task<Status> Association::establish_io(uint64_t deadline_ns) {
  BB_CO_TRY(co_await read_namespace(deadline_ns));
  BB_CO_TRY(co_await set_queue_count(deadline_ns));
  uint32_t entries = std::min<uint32_t>(options_.queue_depth + 1u, queue_entries_max_);
  if (entries < 2) {
    co_return error(Code::k_not_supported, "{}: the controller takes only {} queue entries",
                    options_.address, entries);
  }
  queue_depth_ = static_cast<uint16_t>(entries - 1);
  uint32_t capsule = controller_.capsule_bytes > kSqeBytes
                         ? controller_.capsule_bytes - static_cast<uint32_t>(kSqeBytes)
                         : 0;
  for (uint16_t id = 1; id <= queue_count_; ++id) {
    auto queue = co_await connect_queue(id, static_cast<uint16_t>(entries), capsule, deadline_ns);
    if (!queue.ok()) co_return queue.status();
    queues_.push_back(std::move(queue).value());
  }
  co_return Status();
}

Task<Status> Association::keep_alive(uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kKeepAlive);
  co_return co_await admin_->run(&command, deadline_ns);
}

Task<Status> Association::enable_events(uint32_t wanted, uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kSetFeatures);
  command.sqe.cdw10 = static_cast<uint32_t>(FeatureId::kAsyncEventConfig);
  command.sqe.cdw11 = wanted & controller_.async_events;
  Status status = co_await admin_->run(&command, deadline_ns);
  co_return status.with_context("enable asynchronous events");
}

Task<Result<uint32_t>> Association::next_event() {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kAsyncEventRequest);
  BB_CO_TRY(co_await admin_->run(&command, UINT64_MAX));
  co_return static_cast<uint32_t>(command.cqe.result);
}

Task<Result<bool>> Association::abort(uint16_t queue_id, uint16_t command_id,
                                      uint64_t deadline_ns) {
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kAbort);
  command.sqe.cdw10 = queue_id | (uint32_t{command_id} << 16);
  BB_CO_TRY(co_await admin_->run(&command, deadline_ns));
  co_return (command.cqe.result & 1) == 0;  // NVMe base 2.0, 5.1: bit 0 set, not aborted
}

Task<Result<std::vector<std::byte>>> Association::get_log_page(LogId id, uint64_t offset_bytes,
                                                               uint32_t length_bytes,
                                                               uint64_t deadline_ns) {
  std::vector<std::byte> data(length_bytes);
  SyncCommand command(context_.loop);
  command.sqe.opcode = static_cast<uint8_t>(AdminOpcode::kGetLogPage);
  uint32_t dwords = length_bytes / 4 - 1;
  command.sqe.cdw10 = static_cast<uint32_t>(id) | ((dwords & 0xffff) << 16);
  if (id == LogId::kAsymmetricAccess) command.sqe.cdw10 |= kGroupsOnly;
  command.sqe.cdw11 = dwords >> 16;
  command.sqe.cdw12 = static_cast<uint32_t>(offset_bytes);
  command.sqe.cdw13 = static_cast<uint32_t>(offset_bytes >> 32);
  command.carry(data, false);
  Status status = co_await admin_->run(&command, deadline_ns);
  if (!status.ok()) co_return status.with_context("get log page");
  co_return data;
}

}  // namespace bb::io::nvme
