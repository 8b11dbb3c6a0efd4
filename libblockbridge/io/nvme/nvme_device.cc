// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_device.h"

#include <algorithm>

#include "base/log.h"
#include "base/mutant.h"
#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kTransferMaxBytes = 1u << 20;
constexpr uint64_t kZeroesBytes = 128 * KiB;
constexpr uint64_t kProofNs = 200 * kNsPerMs;

}  // namespace

NvmeDevice::NvmeDevice(Context context, NvmeOptions options, std::string uri)
    : context_(context),
      options_(std::move(options)),
      chooser_(options_.policy),
      gate_(context.loop),
      first_(context.loop),
      proof_(context.loop) {
  info_.uri = std::move(uri);
  tick_.device = this;
  tick_.fire = [](Timer* timer) { static_cast<Tick*>(timer)->device->on_tick(); };
  for (const std::string& address : options_.addresses) add_path(address);
}

bool NvmeDevice::add_path(const std::string& address) {
  bool is_known = std::any_of(paths_.begin(), paths_.end(),
                              [&](const auto& path) { return path->address() == address; });
  if (is_known || paths_.size() == kPathsMax || stopping_) return false;
  NvmePath::Owner& owner = *this;
  paths_.push_back(std::make_unique<NvmePath>(context_, options_, address, paths_.size(), owner));
  loads_.push_back(&paths_.back()->load());
  uint32_t more = uint32_t{options_.association.queue_depth} * options_.association.queues;
  for (uint32_t i = 0; i < more; ++i) {
    NvmeRequest& request = requests_.emplace_back();
    request.device = this;
    request.index = static_cast<uint32_t>(requests_.size() - 1);
    request.done = [](HostCommand* command, Status lost) {
      auto* self = static_cast<NvmeRequest*>(command);
      self->device->on_done(*self, std::move(lost));
    };
    free_.push_back(request.index);
  }
  waiting_.reserve(requests_.size());
  if (opened_) paths_.back()->start();
  return true;
}

NvmeDevice::~NvmeDevice() {
  BB_CHECK(stopping_ || !opened_, "{}: destroyed without close()", info_.uri);
}

// Ready as soon as one path is; the others follow when they can.
Task<Status> NvmeDevice::open() {
  opened_ = true;
  set_state(DeviceState::kUnavailable);
  for (auto& path : paths_) path->start();
  Status found = co_await find_paths();
  if (!found.ok()) {
    set_state(DeviceState::kClosed);
    co_await stop_paths();
    co_return found.with_context(info_.uri);
  }
  auto failed = [this] {
    return std::count_if(paths_.begin(), paths_.end(),
                         [](const auto& path) { return path->failures() > 0; });
  };
  while (!usable() && static_cast<size_t>(failed()) < paths_.size()) {
    first_.reset();
    if (any_live()) {  // but nothing may go: the ANA state may yet change
      bool in_time =
          co_await first_.wait_until(context_.loop.now_ns() + options_.connect_timeout_ns);
      if (!in_time) break;
    } else {
      co_await first_.wait();
    }
  }
  if (usable()) {
    on_tick();
    co_return Status();
  }
  Status status = any_live() ? error(Code::k_unavailable, "{}", why_unusable()) : paths_[0]->why();
  set_state(DeviceState::kClosed);
  co_await stop_paths();
  co_return status.with_context(info_.uri);
}

// Asks the discovery service, where there is one, and goes on listening to it. Addresses it no
// longer names stay: they cost an attempt to connect now and then, and may come back.
Task<Status> NvmeDevice::find_paths() {
  if (options_.services.empty()) co_return Status();
  watch_ = std::make_unique<DiscoveryWatch>(
      context_,
      DiscoveryOptions{.addresses = options_.services,
                       .host = options_.association.host,
                       .digests = options_.association.digests,
                       .security = options_.association.security,
                       .timeout_ns = options_.connect_timeout_ns},
      [this](const std::vector<DiscoveryEntry>& entries) { on_discovered(entries); });
  watch_->start();
  co_await first_.wait_until(context_.loop.now_ns() + options_.connect_timeout_ns);
  if (!paths_.empty()) co_return Status();
  if (!watch_->why().ok()) co_return watch_->why();
  co_return error(Code::k_not_found, "the discovery service names no address of {}",
                  options_.association.subsystem_nqn);
}

void NvmeDevice::on_discovered(const std::vector<DiscoveryEntry>& entries) {
  for (const DiscoveryEntry& entry : entries) {
    if (entry.subsystem_nqn != options_.association.subsystem_nqn) continue;
    if (add_path(address_of(entry))) {
      log_info("{}: discovered {}", info_.uri, address_of(entry));
    }
  }
  first_.set();
}

Task<void> NvmeDevice::stop_paths() {
  stopping_ = true;
  if (watch_ != nullptr) co_await watch_->stop();
  for (auto& path : paths_) path->tell_to_stop();
  for (auto& path : paths_) co_await path->stop();
  context_.loop.disarm(tick_);
}

Task<Status> NvmeDevice::close() {
  set_state(DeviceState::kClosed);
  if (!usable()) fail_waiting();  // otherwise they only wait for their turn
  co_await gate_.close();
  co_await stop_paths();
  co_return Status();
}

bool NvmeDevice::usable() const {
  return std::any_of(loads_.begin(), loads_.end(), [](const PathLoad* p) { return p->usable; });
}

bool NvmeDevice::any_live() const {
  return std::any_of(paths_.begin(), paths_.end(), [](const auto& path) { return path->live(); });
}

// How long a request waits for a path while none is usable.
uint64_t NvmeDevice::patience_ns() const {
  uint64_t longest_ns = options_.wait_ns;
  for (const auto& path : paths_) {
    if (path->in_transition()) longest_ns = std::max(longest_ns, path->ana_transition_ns());
  }
  return longest_ns;
}

std::string NvmeDevice::why_unusable() const {
  for (const auto& path : paths_) {
    if (!path->live()) continue;
    return fmt::format("no path may be used: {} is {}", path->address(),
                       ana_state_name(path->ana()));
  }
  return stats_.last_error.ok() ? "not connected" : stats_.last_error.text();
}

// Every path must lead to the same namespace: of the same subsystem, under the same name, with the
// same blocks. It may have grown.
Status NvmeDevice::identify(const NvmePath& path) const {
  const NamespaceInfo& ns = path.name_space();
  uint64_t size_bytes = ns.block_count * ns.block_bytes;
  if (ns.block_bytes != 512 && ns.block_bytes != 4096) {
    return error(Code::k_not_supported, "blocks of {} bytes", ns.block_bytes);
  }
  if (!known_) return {};
  // Growth comes with an event of a path in use, or while there is none; else it is another one.
  bool grown = size_bytes > info_.size_bytes && !path.live() && any_live();
  if (size_bytes < info_.size_bytes || grown || ns.block_bytes != info_.block_size_bytes ||
      ns.uuid != uuid_) {
    return error(Code::k_bad_state,
                 "{}: the namespace is another one, or has changed: {} bytes in blocks of {}, "
                 "uuid {}; it was {} in blocks of {}, uuid {} -> this path is refused",
                 path.address(), size_bytes, ns.block_bytes, ns.uuid.to_string(), info_.size_bytes,
                 info_.block_size_bytes, uuid_.to_string());
  }
  std::string subsystem = path.controller().serial + " " + path.controller().model;
  if (single() || subsystem == subsystem_) return {};
  return error(Code::k_bad_state,
               "{}: another subsystem answers: serial and model {}; the other paths lead to {} -> "
               "this path is refused",
               path.address(), subsystem, subsystem_);
}

void NvmeDevice::take_shape(const NvmePath& path) {
  const ControllerInfo& controller = path.controller();
  const NamespaceInfo& ns = path.name_space();
  info_.size_bytes = ns.block_count * ns.block_bytes;
  info_.block_size_bytes = ns.block_bytes;
  info_.physical_block_bytes = std::max(ns.physical_block_bytes, ns.block_bytes);
  uint32_t limit = controller.transfer_max_bytes;
  limit = limit == 0 ? kTransferMaxBytes : std::min(limit, kTransferMaxBytes);
  // Once known, limits only tighten: what was allowed to be submitted must be doable on each path.
  bool again = known_;
  info_.transfer_max_bytes = again && !single() ? std::min(info_.transfer_max_bytes, limit) : limit;
  info_.read_only = ns.read_only;
  info_.volatile_cache = controller.volatile_cache || (again && info_.volatile_cache);
  bool discard = (controller.optional_commands & kOncsDatasetManagement) != 0;
  bool can_zero = (controller.optional_commands & kOncsWriteZeroes) != 0;
  info_.discard = discard && (!again || info_.discard);
  shape_.nsid = options_.association.nsid;
  shape_.block_bytes = ns.block_bytes;
  shape_.can_zero = can_zero && (!again || shape_.can_zero);
  shape_.zeroes = &zeroes_;
  if (!shape_.can_zero && zeroes_.empty()) {
    zeroes_.resize(std::min<uint64_t>(kZeroesBytes, info_.transfer_max_bytes));
  }
  uuid_ = ns.uuid;
  subsystem_ = controller.serial + " " + controller.model;
  known_ = true;
}

Status NvmeDevice::accept(const NvmePath& path) {
  BB_TRY(identify(path));
  uint64_t before_bytes = info_.size_bytes;
  uint32_t limit = path.controller().transfer_max_bytes;
  bool again = known_;
  if (again && !single() && limit != 0 && info_.transfer_max_bytes > limit) {
    return error(Code::k_not_supported,
                 "{}: takes transfers of {} bytes, the other paths {} -> this path is refused",
                 path.address(), limit, info_.transfer_max_bytes);
  }
  take_shape(path);
  if (again && info_.size_bytes != before_bytes) {
    log_info("{}: has grown from {} to {} bytes", info_.uri, before_bytes, info_.size_bytes);
  }
  return {};
}

Status NvmeDevice::on_namespace_changed(NvmePath& path) { return accept(path); }

Task<Status> NvmeDevice::on_path_connected(NvmePath* path) {
  BB_CO_TRY(accept(*path));
  uint64_t since_ns = context_.loop.now_ns();
  bool another = co_await goes_on(path, since_ns);
  path->set_begins_anew(!another);
  co_return Status();
}

// Writes that completed but were not flushed may be lost when the whole subsystem was (power), and
// then every association with it was. Another path proves the contrary by answering, now that the
// new one stands, what it is asked from now on; that it seems to be there proves nothing.
Task<bool> NvmeDevice::goes_on(const NvmePath* besides, uint64_t since_ns) {
  for (auto& other : paths_) {
    if (other.get() != besides && other->live()) other->prove_alive();
  }
  uint64_t until_ns = since_ns + kProofNs;
  ++proving_;
  bool proved = false;
  while (any_live() && !proved) {
    proof_.reset();
    bool woken = co_await proof_.wait_until(until_ns);
    proved = std::any_of(paths_.begin(), paths_.end(), [&](const auto& other) {
      return other->live() && other->last_answer_ns() >= since_ns;
    });
    if (!woken) break;
  }
  --proving_;
  co_return proved;
}

void NvmeDevice::on_path_live(NvmePath& path) {
  if (path.begins_anew() && served_) raise_incarnation();
  served_ = true;
  if (path.connects() > 1) {
    ++stats_.reconnects;
    log_info("{}: {} connected again -> incarnation {}", info_.uri, path.address(), incarnation());
  }
  settle(path);
  note_usable();
}

void NvmeDevice::note_usable() {
  first_.set();
  if (!usable()) {
    if (state() == DeviceState::kReady) set_state(DeviceState::kUnavailable);
    uint64_t patience = patience_ns();
    if (patience == 0 || state() == DeviceState::kClosed) return fail_waiting();
    return limit_waiting(patience);
  }
  if (state() == DeviceState::kUnavailable) set_state(DeviceState::kReady);
  resume();
}

void NvmeDevice::on_path_lost(NvmePath& path) {
  stats_.last_error = path.why();
  if (path.why().code() == Code::k_corrupt) ++stats_.digest_errors;  // of a header
  if (state() != DeviceState::kClosed) {
    log_warn("{}: {} -> {}, reconnecting", info_.uri, path.why().text(),
             any_live() ? "by other paths" : "unavailable");
  }
  proof_.set();
  note_usable();
}

void NvmeDevice::on_path_failed(NvmePath& path) {
  ++stats_.connect_failures;
  stats_.last_error = path.why();
  first_.set();
}

void NvmeDevice::on_path_answered(NvmePath& /*path*/) { proof_.set(); }

void NvmeDevice::on_path_changed(NvmePath& /*path*/) { note_usable(); }

std::vector<PathInfo> NvmeDevice::paths() const {
  std::vector<PathInfo> all;
  all.reserve(paths_.size());
  for (const auto& path : paths_) {
    all.push_back({.address = path->address(),
                   .state = std::string(path_state_name(*path)),
                   .access = std::string(path->live() ? ana_state_name(path->ana()) : ""),
                   .in_flight = path->load().in_flight,
                   .latency_ns = path->load().latency_ns,
                   .connects = path->connects(),
                   .failures = path->failures(),
                   .detail = path->live() ? "" : path->why().text()});
  }
  return all;
}

std::vector<EventCount> NvmeDevice::event_counts() const {
  return {{"reconnects", stats_.reconnects},
          {"connect_failures", stats_.connect_failures},
          {"digest_errors", stats_.digest_errors},
          {"retries", stats_.retries},
          {"moves", stats_.moves}};
}

}  // namespace bb::io::nvme
