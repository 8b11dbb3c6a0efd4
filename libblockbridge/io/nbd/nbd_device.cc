// SPDX-License-Identifier: Apache-2.0
// The nbd: device's connections: made, watched, made again. Its requests: nbd_requests.cc.
#include "io/nbd/nbd_device.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "io/offload.h"

namespace bb::io::nbd {
namespace {

constexpr uint64_t kTransferMaxBytes = 4 * MiB;
constexpr uint64_t kZeroesBytes = 128 * KiB;
constexpr uint32_t kPhysicalMaxBytes = 1u << 20;
constexpr uint64_t kBackoffFirstNs = 10 * kNsPerMs;
constexpr uint64_t kBackoffMaxNs = 5 * kNsPerSecond;

}  // namespace

NbdDevice::NbdDevice(Context context, NbdOptions options, std::string uri)
    : context_(context),
      options_(std::move(options)),
      slots_(size_t{options_.queue_depth} * options_.connections),
      gate_(context.loop),
      wake_(context.loop),
      tasks_(context.loop),
      queries_(context.loop, 1) {
  info_.uri = std::move(uri);
  tick_.device = this;
  tick_.fire = [](Timer* timer) { static_cast<Tick*>(timer)->device->on_tick(); };
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.device = this;
    slot.index = i;
    slot.done = [](ClientCommand* command, Status lost) {
      auto* self = static_cast<Slot*>(command);
      self->device->on_done(*self, std::move(lost));
    };
  }
}

NbdDevice::~NbdDevice() {
  BB_CHECK(connections_.empty(), "{}: destroyed without close()", info_.uri);
}

Task<Status> NbdDevice::open() {
  Status status = co_await load_tls();
  if (status.ok()) status = co_await connect();
  if (!status.ok()) {
    set_state(DeviceState::kClosed);
    stopping_ = true;
    co_await disconnect(status);
    co_return status.with_context(info_.uri);
  }
  usable_ = true;
  on_tick();
  tasks_.spawn(maintain());
  co_return Status();
}

// Once: a certificate that changes on disk is seen by who opens the device anew.
Task<Status> NbdDevice::load_tls() {
  if (options_.wishes.tls == TlsPolicy::kOff) co_return Status();
  Result<std::shared_ptr<TlsContext>> made{nullptr};
  auto* into = &made;
  const TlsOptions* options = &options_.tls;
  if (context_.offload != nullptr) {
    co_await context_.offload->run(context_.loop, [=] { *into = TlsContext::create(*options); });
  } else {
    made = TlsContext::create(*options);
  }
  if (!made.ok()) co_return made.status();
  tls_ = std::move(made).value();
  co_return Status();
}

Task<Status> NbdDevice::add_connection(uint64_t deadline_ns) {
  auto stream = co_await context_.network.connect({options_.address}, deadline_ns);
  if (!stream.ok()) co_return stream.status();
  connections_.push_back(
      std::make_unique<ClientConnection>(context_.loop, std::move(stream).value()));
  ClientConnection* added = connections_.back().get();
  // One place more than we use for I/O: a block status takes it.
  auto depth = static_cast<uint16_t>(options_.queue_depth + 1);
  BB_CO_TRY(co_await added->establish(options_.wishes, tls_, depth, deadline_ns));
  ClientConnection::Owner* owner = this;
  added->set_owner(owner);
  co_return Status();
}

Task<Status> NbdDevice::connect() {
  uint64_t deadline_ns = context_.loop.now_ns() + options_.connect_timeout_ns;
  BB_CO_TRY(co_await add_connection(deadline_ns));
  BB_CO_TRY(describe(connections_.front()->remote()));
  while (connections_.size() < options_.connections && offers(kCanMultiConn)) {
    BB_CO_TRY(co_await add_connection(deadline_ns));
    const RemoteExport& other = connections_.back()->remote();
    if (other.size_bytes != remote_.size_bytes || other.framing != remote_.framing) {
      co_return error(Code::k_bad_state, "the server shows each connection another export");
    }
  }
  for (auto& each : connections_) {
    if (each->broken()) co_return each->why();
  }
  size_t usable = options_.queue_depth * connections_.size();
  free_.clear();
  for (size_t i = usable; i-- > 0;) free_.push_back(static_cast<uint32_t>(i));
  co_return Status();
}

// Takes over what the server says of the export; one that is another now is refused.
Status NbdDevice::describe(const RemoteExport& remote) {
  uint32_t block = remote.block_min_bytes <= 512 ? 512 : remote.block_min_bytes;
  if (block != 512 && block != 4096) {
    return error(Code::k_not_supported, "blocks of {} bytes", block);
  }
  if (remote.size_bytes == 0 || remote.size_bytes % block != 0) {
    return error(Code::k_not_supported, "a size of {} bytes, not a multiple of {}",
                 remote.size_bytes, block);
  }
  if (remote.payload_max_bytes < block) {
    return error(Code::k_not_supported, "at most {} bytes at once", remote.payload_max_bytes);
  }
  bool read_only = (remote.flags & kReadOnly) != 0 || options_.read_only;
  bool again = info_.size_bytes != 0;
  if (again && (remote.size_bytes != info_.size_bytes || block != info_.block_size_bytes ||
                read_only != info_.read_only)) {
    return error(Code::k_bad_state,
                 "the export has changed: {} bytes in blocks of {}{}; it was {} in blocks of {}{}",
                 remote.size_bytes, block, read_only ? ", read-only" : "", info_.size_bytes,
                 info_.block_size_bytes, info_.read_only ? ", read-only" : "");
  }
  remote_ = remote;
  info_.size_bytes = remote.size_bytes;
  info_.block_size_bytes = block;
  info_.physical_block_bytes =
      std::clamp(remote.block_preferred_bytes, block, std::max(block, kPhysicalMaxBytes));
  info_.transfer_max_bytes = static_cast<uint32_t>(
      round_down(std::min<uint64_t>(remote.payload_max_bytes, kTransferMaxBytes), block));
  info_.read_only = read_only;
  info_.volatile_cache = offers(kSendFlush);
  info_.discard = offers(kSendTrim);
  info_.fast_zero = offers(kSendWriteZeroes) && offers(kSendFastZero);
  if (!offers(kSendWriteZeroes) && zeroes_.empty()) {
    zeroes_.resize(std::min<uint64_t>(kZeroesBytes, info_.transfer_max_bytes));
  }
  return {};
}

Task<void> NbdDevice::disconnect(Status why) {
  for (auto& each : connections_) {
    if (!why.ok()) each->break_off(why);
  }
  for (size_t i = 0; i < connections_.size(); ++i) co_await connections_[i]->close();
  connections_.clear();
}

Task<Status> NbdDevice::close() {
  set_state(DeviceState::kClosed);
  if (!usable_) fail_parked(UINT64_MAX);  // otherwise they only wait for their turn
  co_await gate_.close();
  stopping_ = true;
  if (!usable_) {  // an attempt to connect may be under way
    for (auto& each : connections_) {
      each->break_off(error(Code::k_cancelled, "{}: closed", info_.uri));
    }
  }
  wake_.set();
  co_await tasks_.join();
  context_.loop.disarm(tick_);
  co_return Status();
}

// A flush on one connection speaks for all: when one has gone, so have they all.
void NbdDevice::on_connection_broken(ClientConnection& connection) {
  wake_.set();
  if (!usable_) return;  // not in use yet, or the others follow
  usable_ = false;
  stats_.last_error = connection.why();
  for (auto& each : connections_) each->break_off(connection.why());
  if (state() == DeviceState::kClosed) return fail_parked(UINT64_MAX);
  log_warn("{}: {} -> unavailable, reconnecting", info_.uri, connection.why().text());
  set_state(DeviceState::kUnavailable);
  uint64_t until_ns = context_.loop.now_ns() + options_.wait_ns;
  for (IoRequest* request = parked_first_; request != nullptr; request = parked(*request).next) {
    parked(*request).deadline_ns = until_ns;
  }
  if (options_.wait_ns == 0) fail_parked(UINT64_MAX);
}

Task<void> NbdDevice::maintain() {
  while (!stopping_) {
    while (usable_ && !stopping_) {
      co_await wake_.wait();
      wake_.reset();
    }
    if (stopping_) break;
    co_await disconnect(stats_.last_error);
    bool back = co_await reconnect();
    if (!back) break;
  }
  usable_ = false;
  co_await disconnect(Status());
}

// With back-off and jitter, until it works or the device is closed: -> false.
Task<bool> NbdDevice::reconnect() {
  uint64_t backoff_ns = kBackoffFirstNs;
  for (;;) {
    uint64_t jittered_ns = backoff_ns / 2 + context_.loop.prng().below(backoff_ns);
    wake_.reset();
    if (stopping_) co_return false;
    uint64_t until_ns = context_.loop.now_ns() + jittered_ns;
    while (!stopping_ && co_await wake_.wait_until(until_ns)) wake_.reset();
    if (stopping_) co_return false;
    Status status = co_await connect();
    if (stopping_) co_return false;  // maintain() closes what there is
    if (status.ok()) break;
    ++stats_.connect_failures;
    if (stats_.last_error.text() != status.text()) {
      log_warn("{}: cannot reconnect: {} -> trying again", info_.uri, status.text());
    }
    stats_.last_error = status;
    co_await disconnect(status);
    backoff_ns = std::min(2 * backoff_ns, kBackoffMaxNs);
  }
  usable_ = true;
  ++stats_.reconnects;
  raise_incarnation();
  log_info("{}: connected again -> incarnation {}", info_.uri, incarnation());
  if (state() != DeviceState::kClosed) set_state(DeviceState::kReady);
  start_parked();
  co_return true;
}

std::vector<EventCount> NbdDevice::event_counts() const {
  return {{"reconnects", stats_.reconnects}, {"connect_failures", stats_.connect_failures}};
}

Task<Result<std::unique_ptr<Device>>> open_nbd_device(Context context, Uri uri, std::string text) {
  auto options = parse_nbd_options(std::move(uri));
  if (!options.ok()) co_return options.status();
  auto device = std::make_unique<NbdDevice>(context, std::move(options).value(), std::move(text));
  BB_CO_TRY(co_await device->open());
  co_return std::unique_ptr<Device>(std::move(device));
}

}  // namespace bb::io::nbd
