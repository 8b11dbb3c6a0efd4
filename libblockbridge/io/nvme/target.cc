// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "base/uri.h"
#include "io/crypto/random.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kHousekeepingNs = 500 * kNsPerMs;
constexpr uint64_t kAcceptPauseNs = 100 * kNsPerMs;

Geometry geometry_of(const Device& device) {
  const DeviceInfo& info = device.info();
  return {.block_count = info.size_bytes / info.block_size_bytes,
          .block_bytes = info.block_size_bytes,
          .physical_block_bytes = info.physical_block_bytes,
          .transfer_max_bytes = info.transfer_max_bytes,
          .read_only = info.read_only,
          .volatile_cache = info.volatile_cache,
          .discard = info.discard};
}

NamespaceConfig config_of(const NamespaceOptions& options) {
  BB_CHECK(options.device != nullptr, "namespace {}: no device", options.nsid);
  NamespaceConfig config{.nsid = options.nsid,
                         .uuid = options.uuid,
                         .device = options.device,
                         .read_only = options.read_only,
                         .geometry = geometry_of(*options.device),
                         .ana_group = options.ana_group,
                         .reservation_store = options.reservation_store,
                         .reservation = options.reservation};
  config.geometry.read_only = config.geometry.read_only || options.read_only;
  return config;
}

}  // namespace

Target::Target(Context context, TargetOptions options)
    : loop_(context.loop),
      network_(context.network),
      options_(std::move(options)),
      exchanger_(context),
      core_(options_.limits, options_.digests, secure_random),
      progress_(loop_),
      accepting_(loop_),
      serving_(loop_),
      saving_(loop_) {
  core_.set_save_reservation([this](NamespaceRef of, const ReservationState& state) {
    saving_.spawn(save_reservation(std::move(of), state));
  });
  core_.set_expects(options_.expects);
  core_.recorder = FlightRecorder(options_.slow_ns);
  housekeeping_.owner = this;
  housekeeping_.fire = [](Timer* timer) { static_cast<Housekeeping*>(timer)->owner->keep_house(); };
}

Target::~Target() { BB_CHECK(stopping_, "a target was destroyed without stop()"); }

Result<std::unique_ptr<Target>> Target::create(Context context, TargetOptions options) {
  BB_TRY(check_limits(options.limits));
  std::unique_ptr<Target> target(new Target(context, std::move(options)));
  Status status = target->prepare_tls();
  if (status.ok()) status = target->listen();
  if (!status.ok()) {
    target->stopping_ = true;
    return status;
  }
  uint16_t port = 0;  // as the discovery log numbers them
  for (const auto& listener : target->listeners_) {
    target->accepting_.spawn(target->accept(listener.get(), ++port));
  }
  return target;
}

Status Target::prepare_tls() {
  if (options_.tls == TlsPolicy::kOff) return {};
  TlsOptions options{.role = TlsRole::kServer};
  options.find_psk = [this](std::string_view name) -> std::optional<TlsPsk> {
    std::optional<PskIdentity> identity = PskIdentity::parse(name);
    if (!identity) return std::nullopt;
    std::optional<PskSecret> secret = core_.find_psk(*identity);
    if (!secret) return std::nullopt;
    Result<Secret> key = secret->tls_key(*identity);
    if (!key.ok()) return std::nullopt;
    return TlsPsk{.identity = std::string(name), .key = std::move(*key), .hash = identity->hash};
  };
  BB_ASSIGN(tls_, TlsContext::create(std::move(options)));
  return {};
}

Status Target::listen() {
  for (const Address& address : options_.listen) {
    BB_ASSIGN(std::unique_ptr<Listener> listener, network_.listen(address));
    listeners_.push_back(std::move(listener));
  }
  std::vector<std::string> known = options_.advertise;
  if (known.empty()) known = addresses();
  std::vector<DiscoveryEntry> entries;
  for (const std::string& text : known) {
    Result<HostPort> at = HostPort::parse(text);
    if (!at.ok()) continue;  // a Unix socket, or a node's name: nothing to tell a Linux host
    bool any = at->host == "0.0.0.0" || at->host == "::";  // then: where each host reached us
    entries.push_back({.address = any ? std::string() : at->host,
                       .port = std::to_string(at->port),
                       .port_id = static_cast<uint16_t>(entries.size() + 1)});
  }
  core_.set_addresses(std::move(entries));
  return {};
}

std::vector<std::string> Target::addresses() const {
  std::vector<std::string> all;
  all.reserve(listeners_.size());
  for (const auto& listener : listeners_) all.push_back(listener->local_address());
  return all;
}

Task<void> Target::accept(Listener* listener, uint16_t port) {
  while (!stopping_) {
    auto stream = co_await listener->accept();
    if (!stream.ok()) {
      if (stopping_ || stream.code() == Code::k_cancelled) co_return;
      log_warn("{} -> next try in 100 ms", stream.status().to_string());
      co_await loop_.sleep_for(kAcceptPauseNs);
      continue;
    }
    if (stopping_ || connections_.size() >= options_.limits.connections) {
      co_await refuse(std::move(*stream));
      continue;
    }
    make_room();
    serving_.spawn(serve(begin(std::move(*stream), port)));
  }
}

Task<void> Target::refuse(std::unique_ptr<Stream> stream) {
  log_warn("{}: {} connections are open{} -> refused", stream->peer(), connections_.size(),
           stopping_ ? ", and the target stops" : ", that is the limit");
  co_await stream->close();
}

Target::Connections::iterator Target::begin(std::unique_ptr<Stream> stream, uint16_t port) {
  auto made = std::make_unique<TargetConnection>(loop_, core_, pool_, exchanger_, progress_,
                                                 std::move(stream), tls_,
                                                 options_.tls == TlsPolicy::kRequired);
  made->set_port(port);
  if (!housekeeping_.armed()) loop_.arm(housekeeping_, loop_.now_ns() + kHousekeepingNs);
  return connections_.insert(connections_.end(), std::move(made));
}

void Target::adopt(Handover handover) {
  if (stopping_ || connections_.size() >= options_.limits.connections) {
    saving_.spawn(refuse(std::move(handover.stream)));
    return;
  }
  make_room();  // an I/O queue's host may have to prove itself here
  auto at = begin(std::move(handover.stream), handover.port);
  (*at)->resume(std::move(handover));
  serving_.spawn(serve(at));
}

// However many connect and then say nothing, whoever goes on without a pause gets through.
void Target::make_room() {
  TargetConnection* oldest = nullptr;
  uint32_t handshakes = 0;
  for (const auto& connection : connections_) {
    const TargetQueue& queue = connection->queue();
    bool known = queue.connected() && (queue.queue_id() == 0 || queue.authenticated());
    if (known || queue.closing()) continue;
    if (oldest == nullptr) oldest = connection.get();
    ++handshakes;
  }
  if (handshakes >= options_.limits.handshakes && oldest != nullptr) {
    ++turned_away_;
    oldest->turn_away("it had not sent Connect or proved itself, and others wanted to");
  }
}

Task<void> Target::serve(Connections::iterator at) {
  co_await (*at)->run();
  if (auto handover = (*at)->take_departure()) options_.hand_over(std::move(*handover));
  remember(**at);
  connections_.erase(at);
  progress_.set();
}

// Runs while anybody is connected, and until the buffers have been given back.
void Target::keep_house() {
  uint64_t now_ns = loop_.now_ns();
  if (uint64_t count = std::exchange(turned_away_, 0); count > 0) {
    log_warn("{} connections without Connect or proof, more came and {} may wait -> turned away",
             count, options_.limits.handshakes);
  }
  core_.expire(now_ns);
  for (const auto& connection : connections_) connection->check_handshake(now_ns);
  pool_.trim();
  if (connections_.empty() && pool_.idle_bytes() == 0) return;
  loop_.arm(housekeeping_, now_ns + kHousekeepingNs);
}

Status Target::add_subsystem(SubsystemOptions options) {
  if (tls_ == nullptr && !options.security.psks.empty()) {
    return error(Code::k_invalid_argument,
                 "subsystem {}: hosts have keys for TLS, which the target does not speak",
                 options.nqn);
  }
  SubsystemConfig config{.nqn = std::move(options.nqn),
                         .serial = std::move(options.serial),
                         .model = std::move(options.model),
                         .allowed_hosts = std::move(options.allowed_hosts),
                         .security = std::move(options.security),
                         .admission = options.admission,
                         .single_association = options.single_association,
                         .home = options.home};
  BB_CHECK(config.home == 0 || options_.hand_over, "subsystem {}: nobody to hand hosts over to",
           config.nqn);
  if (config.serial.empty()) {  // what is left of the uuid in twenty characters
    std::string text = options.uuid.to_string();
    std::erase(text, '-');
    config.serial = text.substr(0, 20);
  }
  if (options.device != nullptr) {
    config.namespaces.push_back(
        config_of({.nsid = 1, .device = options.device, .uuid = options.uuid}));
  }
  for (const NamespaceOptions& one : options.namespaces) {
    config.namespaces.push_back(config_of(one));
  }
  return core_.add_subsystem(std::move(config));
}

Result<uint32_t> Target::add_namespace(const std::string& nqn, NamespaceOptions options) {
  return core_.add_namespace(nqn, config_of(options));
}

Task<Status> Target::remove_namespace(std::string nqn, uint32_t nsid) {
  BB_CO_ASSIGN(NamespaceRef removed, core_.remove_namespace(nqn, nsid));
  while (removed->io_in_flight > 0 || removed->reservation->saving()) {
    progress_.reset();
    co_await progress_.wait();
  }
  co_return Status();
}

Task<Status> Target::replace_device(std::string nqn, uint32_t nsid, Device* device) {
  BB_CO_ASSIGN(const Namespace* found, core_.find_namespace(nqn, nsid));
  NamespaceRef kept = core_.subsystems().at(nqn)->ref(nsid);
  Geometry geometry = geometry_of(*device);
  geometry.read_only = geometry.read_only || found->read_only;
  BB_CO_TRY(core_.replace_device(nqn, nsid, device, geometry));
  ++kept->awaited;
  auto busy = [&kept, device](const auto& one) { return one->works_on_other(*kept, device); };
  while (std::any_of(connections_.begin(), connections_.end(), busy)) {
    progress_.reset();
    co_await progress_.wait();
  }
  --kept->awaited;
  co_return Status();
}

std::vector<std::string> Target::subsystems() const {
  std::vector<std::string> all;
  for (const auto& [nqn, subsystem] : core_.subsystems()) all.push_back(nqn);
  return all;
}

std::vector<NamespaceStat> Target::namespaces() const {
  std::vector<NamespaceStat> all;
  for (const auto& [nqn, subsystem] : core_.subsystems()) {
    for (Namespace* each = subsystem->next(1); each != nullptr;
         each = subsystem->next(each->nsid + 1)) {
      all.push_back({.nqn = nqn,
                     .nsid = each->nsid,
                     .uuid = each->uuid,
                     .device = each->device,
                     .geometry = each->geometry,
                     .ana_group = each->ana_group,
                     .counters = each->counters});
    }
  }
  return all;
}

Status Target::update_namespace(const std::string& nqn, uint32_t nsid) {
  BB_ASSIGN(const Namespace* found, core_.find_namespace(nqn, nsid));
  Geometry geometry = geometry_of(*found->device);
  geometry.read_only = geometry.read_only || found->read_only;
  return core_.update_geometry(nqn, nsid, geometry);
}

Task<void> Target::save_reservation(NamespaceRef of, ReservationState state) {
  Status status = co_await of->reservation_store->save(std::move(state));
  if (!status.ok()) {
    log_warn("namespace {}: {} -> the reservation command fails", of->uuid.to_string(),
             status.to_string());
  }
  of->reservation->on_saved(status.ok());
  progress_.set();
}

Task<Status> Target::set_ana_state(uint16_t port, uint32_t group, AnaState state) {
  if (port > port_count()) {
    co_return error(Code::k_invalid_argument, "port {}: there are {}", port, port_count());
  }
  uint16_t last = port == 0 ? port_count() : port;
  for (uint16_t one = port == 0 ? uint16_t{1} : port; one <= last; ++one) {
    BB_CO_TRY(core_.set_ana_state(one, group, state));
  }
  progress_.set();  // whoever waits for the end of access that is there again
  auto busy = [&](const auto& one) {
    const TargetQueue& queue = one->queue();
    return (port == 0 || queue.port() == port) && queue.works_on(group) &&
           !ana_usable(ana_state(queue.port(), group));
  };
  while (!ana_usable(state) && std::any_of(connections_.begin(), connections_.end(), busy)) {
    progress_.reset();
    co_await progress_.wait();
  }
  co_return Status();
}

uint16_t Target::port_count() const {
  return options_.ports > 0 ? options_.ports : static_cast<uint16_t>(listeners_.size());
}

Task<void> Target::drained(std::function<bool(const TargetConnection&)> of) {
  for (;;) {
    bool busy = std::any_of(connections_.begin(), connections_.end(), [&of](const auto& one) {
      return one->queue().io_in_flight() > 0 && one->queue().closing() && of(*one);
    });
    if (!busy) co_return;
    progress_.reset();
    co_await progress_.wait();
  }
}

Task<Status> Target::remove_subsystem(std::string nqn) {
  auto found = core_.subsystems().find(nqn);
  std::vector<NamespaceRef> all;
  if (found != core_.subsystems().end()) {
    for (uint32_t nsid : found->second->nsids()) all.emplace_back(found->second->find(nsid));
  }
  BB_CO_TRY(core_.remove_subsystem(nqn));
  past_.erase(nqn);
  for (const NamespaceRef& one : all) {
    while (one->reservation->saving()) {
      progress_.reset();
      co_await progress_.wait();
    }
  }
  co_await drained([&nqn](const TargetConnection& one) { return one.nqn() == nqn; });
  co_return Status();
}

Task<void> Target::disconnect(std::string nqn, std::function<bool(const HostIdentity&)> which) {
  core_.end_controllers(
      [&](const Controller& one) { return one.nqn() == nqn && which(one.host()); },
      "the host was disconnected");
  co_await drained(
      [&](const TargetConnection& one) { return one.nqn() == nqn && which(one.host()); });
}

Task<Status> Target::clear_reservation(std::string nqn, uint32_t nsid) {
  BB_CO_ASSIGN(const Namespace* found, core_.find_namespace(nqn, nsid));
  Event ended(loop_);
  bool kept = false;
  found->reservation->clear([&ended, &kept](bool durable) {
    kept = durable;
    ended.set();
  });
  while (!ended.is_set()) co_await ended.wait();
  if (kept) co_return Status();
  co_return error(Code::k_io_error, "{}: that its reservation ended could not be recorded", nqn);
}

std::vector<ControllerStat> Target::controllers() const {
  std::vector<ControllerStat> all;
  for (const auto& controller : core_.controllers()) {
    ControllerStat stat{.nqn = controller->nqn(),
                        .host = controller->host(),
                        .controller_id = controller->id(),
                        .connected_ns = controller->connected_ns,
                        .counters = controller->counters};
    for (const auto& connection : connections_) {
      if (connection->queue().controller() != controller.get()) continue;
      if (connection->queue().queue_id() == 0) {
        stat.peer = connection->peer();
        stat.digests = connection->queue().digests();
      } else {
        ++stat.io_queues;
      }
    }
    all.push_back(std::move(stat));
  }
  return all;
}

Counters Target::counters(const std::string& nqn) const {
  auto found = core_.subsystems().find(nqn);
  return found == core_.subsystems().end() ? Counters{} : found->second->counters();
}

Task<void> Target::stop() {
  stopping_ = true;
  for (const auto& listener : listeners_) listener->shutdown();
  co_await accepting_.join();
  for (const auto& listener : listeners_) co_await listener->close();
  for (const auto& connection : connections_) connection->close("the target stops");
  co_await serving_.join();
  co_await saving_.join();
  loop_.disarm(housekeeping_);
}

}  // namespace bb::io::nvme
