// SPDX-License-Identifier: Apache-2.0
#include "io/ublk/attachment.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/units.h"
#include "io/offload.h"

namespace bb::io::ublk {
namespace {

constexpr uint64_t kDyingNs = 5 * kNsPerSecond;  // how long a dead server may take to be gone
constexpr uint64_t kLookAgainNs = 20 * kNsPerMs;

// Memory that this thread needs to serve a write must not wait for that very write.
void serve_without_waiting_for_ourselves() {
#ifdef PR_SET_IO_FLUSHER
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    log_info(
        "ublk: prctl(PR_SET_IO_FLUSHER): {} -> under memory pressure the kernel may wait for "
        "this process to free memory",
        std::strerror(errno));
  }
#endif
}

}  // namespace

Attachment::Attachment(Context context, Device& device, AttachOptions options)
    : context_(context), device_(device), options_(std::move(options)) {}

Attachment::~Attachment() {
  BB_CHECK(queue_ == nullptr, "{}: destroyed while it is attached", path_);
}

Task<Result<std::unique_ptr<Attachment>>> Attachment::start(Context context, Device* device,
                                                            AttachOptions options) {
  if (context.reactor == nullptr || context.offload == nullptr) {
    co_return error(Code::k_not_supported, "ublk: there is no kernel in the simulator");
  }
  if (context.reactor->uring() == nullptr) {
    co_return error(Code::k_not_supported, "ublk: needs io_uring, and this runtime has epoll");
  }
  if (options.queue_depth == 0 || options.queue_depth > kQueueDepthMax) {
    co_return error(Code::k_invalid_argument, "ublk: a queue depth of {} is not 1 to {}",
                    options.queue_depth, kQueueDepthMax);
  }
  if (options.device_id && *options.device_id > kDeviceIdMax) {
    co_return error(Code::k_invalid_argument, "ublk: the number {} is above {}", *options.device_id,
                    kDeviceIdMax);
  }
  if (options.identity.empty()) options.identity = device->info().uri;
  std::unique_ptr<Attachment> made(new Attachment(context, *device, std::move(options)));
  Status status = co_await made->attach();
  if (!status.ok()) co_return status.with_context(device->info().uri);
  co_return made;
}

Task<Status> Attachment::attach() {
  uint32_t io_max = io_max_bytes_of(device_.info(), options_.io_max_bytes);
  BB_CO_ASSIGN(Parameters parameters, parameters_of(device_.info(), io_max));
  BB_CO_ASSIGN(control_, Control::open(*context_.reactor));
  serve_without_waiting_for_ourselves();
  if (options_.device_id) {
    auto found = co_await settled(*options_.device_id);
    if (found.ok()) co_return co_await recover(*found, parameters);
    if (found.code() != Code::k_not_found) co_return found.status();
  }
  co_return co_await create(parameters);
}

// A server that was killed needs a moment until the kernel has noticed.
Task<Result<DeviceRecord>> Attachment::settled(uint32_t device_id) {
  uint64_t deadline_ns = context_.loop.now_ns() + kDyingNs;
  for (;;) {
    auto record = co_await control_->info(device_id);
    if (!record.ok() || record->status != DeviceStatus::kLive) co_return record;
    if (context_.loop.now_ns() >= deadline_ns) {
      co_return error(Code::k_busy, "{} is served by process {}", block_path(device_id),
                      record->server_pid);
    }
    co_await context_.loop.sleep_for(kLookAgainNs);
  }
}

Task<Status> Attachment::create(Parameters parameters) {
  DeviceRecord wanted;
  wanted.queue_count = 1;  // an object belongs to one reactor
  wanted.queue_depth = static_cast<uint16_t>(options_.queue_depth);
  wanted.io_max_bytes = parameters.basic.io_max_sectors * kSectorBytes;
  wanted.device_id = options_.device_id.value_or(kAnyDevice);
  wanted.flags = kUserRecovery | kUserRecoveryReissue | kIoctlEncoded;
  wanted.server_flags = server_flags_of(options_.identity);
  BB_CO_ASSIGN(DeviceRecord added, co_await control_->add(wanted));
  uint32_t id = added.device_id;
  Status status = co_await control_->set_parameters(id, parameters);
  if (status.ok()) {
    status = co_await serve(id, {.depth = added.queue_depth, .io_max_bytes = added.io_max_bytes});
  }
  if (status.ok()) status = co_await control_->start(id);
  if (!status.ok()) co_await undo(id);
  co_return status;
}

Task<Status> Attachment::recover(DeviceRecord found, Parameters parameters) {
  uint32_t id = found.device_id;
  if (!is_ours(found.server_flags) || (found.flags & kUserRecovery) == 0) {
    co_return error(Code::k_already_exists, "{}: the number belongs to another program",
                    block_path(id));
  }
  if (found.status == DeviceStatus::kDead) {  // stopped, or never started: nobody has it open
    BB_CO_TRY(co_await control_->remove(id));
    co_return co_await create(parameters);
  }
  if (found.server_flags != server_flags_of(options_.identity)) {
    co_return error(Code::k_already_exists,
                    "{} waits for the device it showed before, and \"{}\" is another",
                    block_path(id), options_.identity);
  }
  BB_CO_ASSIGN(Parameters before, co_await control_->parameters(id));
  Status fits = check_takeover(before, parameters);
  if (!fits.ok()) co_return fits.with_context(block_path(id));
  Status status = co_await control_->start_recovery(id);
  uint64_t deadline_ns = context_.loop.now_ns() + kDyingNs;
  while (status.code() == Code::k_busy && context_.loop.now_ns() < deadline_ns) {
    co_await context_.loop.sleep_for(kLookAgainNs);
    status = co_await control_->start_recovery(id);
  }
  if (!status.ok()) co_return status;
  status = co_await serve(id, {.depth = found.queue_depth, .io_max_bytes = found.io_max_bytes});
  if (status.ok()) status = co_await control_->end_recovery(id);
  recovered_ = status.ok();
  // Stopping it would end what somebody has mounted: it goes on waiting, until we are gone.
  if (!status.ok() && queue_ != nullptr) co_await leave();
  co_return status;
}

// The fetches go to the driver with the loop's next turn; one it refused has come back after it.
// Starting the device would then wait for ever.
Task<Status> Attachment::serve(uint32_t device_id, Queue::Shape shape) {
  BB_CO_ASSIGN(queue_, Queue::open(*context_.reactor, device_, device_id, shape));
  device_id_ = device_id;
  path_ = block_path(device_id);
  queue_->fetch_all();
  for (int turn = 0; turn < 2; ++turn) co_await context_.loop.yield();
  if (queue_->fetching() == shape.depth) co_return Status();
  co_return error(Code::k_not_supported, "{}: the driver refused {} of {} fetches", path_,
                  shape.depth - queue_->fetching(), shape.depth);
}

Task<void> Attachment::undo(uint32_t device_id) {
  Status stopped = co_await control_->stop(device_id);
  if (queue_ != nullptr) co_await queue_->ended();
  queue_.reset();
  Status removed = co_await control_->remove(device_id);
  for (const Status& status : {stopped, removed}) {
    if (!status.ok()) log_warn("{} -> it may be left behind", status.to_string());
  }
}

// On the helper thread: the last one to close a block device writes back what it holds, which is
// I/O that this loop serves.
Task<Status> Attachment::in_use() {
  int number = 0;
  const char* path = path_.c_str();
  co_await context_.offload->run(context_.loop, [&number, path] {
    int fd = ::open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    number = fd < 0 ? errno : 0;
    if (fd >= 0) ::close(fd);
  });
  if (number != EBUSY) co_return Status();
  co_return error(Code::k_busy, "{} is mounted or open exclusively", path_);
}

Task<Status> Attachment::stop() {
  BB_CO_TRY(co_await in_use());
  co_await undo(device_id_);
  co_return Status();
}

Task<void> Attachment::leave() { co_await Queue::abandon(std::move(queue_)); }

}  // namespace bb::io::ublk
