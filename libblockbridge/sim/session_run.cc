// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/session_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSector = DiskModel::kSectorBytes;
constexpr uint64_t kStepsMax = 3'000'000;
constexpr uint64_t kTimeMaxNs = 3'600'000 * kMs;
constexpr uint64_t kDriveBytes = 1u << 20;
constexpr uint64_t kBufferedMaxBytes = 32u << 20;
constexpr const char* kNqn =
    "nqn.2026-11.io.blockbridge:drive:00000000-0000-4000-8000-000000000001";

}  // namespace

SessionWorld::SessionWorld(const RunOptions& options)
    : options_(options),
      world_(options.seed),
      prng_(world_.prng().fork()),
      net_(world_, {}, world_.prng().fork()),
      raw_tasks_(world_),
      drains_(world_),
      top_(world_) {
  world_.trace().print_to(options.trace_to);
  SimDriveOptions drive;
  drive.size_bytes = kDriveBytes;
  drive.latency_max_ns = prng_.chance(4) ? 3 * kMs : 300'000;
  drive.volatile_cache = !prng_.chance(4);
  drive_ = std::make_unique<SimDrive>(world_, options.pool, drive, prng_.fork());
  model_ = std::make_unique<DiskModel>(kDriveBytes / kSector);
  SimNetOptions& net = net_.options();
  net.chunk_max_bytes = static_cast<uint32_t>(prng_.chance(4) ? 100 : prng_.between(512, 65'536));
  net.window_bytes = static_cast<uint32_t>(prng_.chance(4) ? 2'000 : 262'144);
  keep_alive_ns_ = prng_.between(200, 3000) * kMs;
  ops_left_ = prng_.between(30, 120);
  queue_depth_ = static_cast<uint32_t>(prng_.between(2, 32));
  worker_count_ = static_cast<uint32_t>(prng_.between(1, 8));
  choose_layout();
  // Every fourth run has none, as all had when the seeds that are tests were found.
  if (!options_.multipath && options_.seed % 4 != 0) add_raw_hosts();
}

// They have the last blocks of the drive to themselves.
void SessionWorld::add_raw_hosts() {
  shared_.first_block = kDriveBytes / kSector - SharedBlocks::kCount;
  model_ = std::make_unique<DiskModel>(shared_.first_block);
  uint64_t hosts = prng_.between(1, 3);
  for (uint64_t i = 0; i < hosts; ++i) {
    RawHostOptions options{.net = &net_,
                           .world = &world_,
                           .blocks = &shared_,
                           .stats = &stats_,
                           .name = fmt::format("raw{}", i),
                           .target = names_[0] + ":4420",
                           .nqn = kNqn,
                           .digests = options_.digests,
                           .fail = [this](std::string violation) { fail(std::move(violation)); }};
    raw_hosts_.push_back(std::make_unique<RawHost>(std::move(options), prng_.fork()));
  }
}

void SessionWorld::choose_layout() {
  names_ = {"target"};
  if (options_.multipath) {
    uint64_t paths = prng_.between(2, 3);
    names_.clear();
    for (uint64_t i = 0; i < paths; ++i) names_.push_back(fmt::format("target{}", i));
    nodes_apart_ = prng_.chance(2);
    promises_ = prng_.chance(2);
  }
  servers_.resize(nodes_apart_ ? names_.size() : 1);
}

void SessionWorld::fail(std::string violation) {
  if (violation_.empty()) violation_ = std::move(violation);
}

RunResult SessionWorld::run() {
  top_.spawn(main());
  while (!done_ && violation_.empty()) {
    if (!world_.run_once(true)) fail("deadlock: something waits for ever");
    if (world_.steps() > kStepsMax) fail("livelock: too many steps");
    if (world_.now_ns() > kTimeMaxNs) fail("no progress within an hour of simulated time");
  }
  RunResult result;
  result.violation = violation_;
  result.trace_hash = world_.trace().hash();
  result.events = world_.trace().events();
  result.stats = stats_;
  result.stats.steps = world_.steps();
  result.stats.sectors_checked = model_->reads_checked();
  return result;
}

bool SessionWorld::start_server(size_t index) {
  SimClock clock;
  clock.boot_ns = prng_.between(1, 1u << 30);
  clock.drift_ppm = static_cast<int32_t>(prng_.below(400)) - 200;
  auto& server = servers_[index];
  server = std::make_unique<Server>(world_, clock, prng_.fork());
  io::nvme::TargetOptions options;
  for (size_t i = 0; i < names_.size(); ++i) {
    if (nodes_apart_ && i != index) continue;
    server->ports.add(names_[i], net_.attach(names_[i], server->node));
    options.listen.push_back({names_[i] + ":4420"});
  }
  server->cable = drive_->connect(server->node);
  io::Context context{.loop = server->node, .network = server->ports};
  auto target = io::nvme::Target::create(context, std::move(options));
  if (!target.ok()) {
    fail("target: " + target.status().to_string());
    return false;
  }
  server->target = std::move(*target);
  io::nvme::SubsystemOptions subsystem;
  subsystem.nqn = kNqn;
  subsystem.device = server->cable.get();
  subsystem.uuid = std::move(Uuid::parse("00000000-0000-4000-8000-000000000001")).value();
  subsystem.serial = "sim";
  subsystem.single_association = promises_;
  Status added = server->target->add_subsystem(std::move(subsystem));
  if (!added.ok()) fail("target: " + added.to_string());
  note("server up", index);
  return added.ok();
}

bool SessionWorld::start_servers() {
  bool all = true;
  for (size_t i = 0; i < servers_.size(); ++i) {
    if (servers_[i] == nullptr) all = start_server(i) && all;
  }
  return all;
}

void SessionWorld::crash_server(size_t index, bool power) {
  ++stats_.crashes;
  note("server down", index, power ? 1 : 0);
  auto& server = servers_[index];
  server->cable->cut();
  for (size_t i = 0; i < names_.size(); ++i) {
    if (nodes_apart_ && i != index) continue;
    net_.crash(names_[i], power ? SimNet::Crash::kPower : SimNet::Crash::kProcess);
  }
  server->node.resume();
  Server* dead = server.get();
  draining_.push_back(std::move(server));
  drains_.spawn(drain(dead));
}

// Of all nodes and the drive.
void SessionWorld::lose_power() {
  for (size_t i = 0; i < servers_.size(); ++i) crash_server(i, true);
  ++stats_.power_losses;
  drive_->power_off();
  model_->lose_unflushed();
}

io::Task<void> SessionWorld::drain(Server* server) {
  if (server->target != nullptr) {
    co_await server->target->stop();
    server->target.reset();
  }
  (void)co_await server->cable->close();
  server->cable.reset();
  std::erase_if(draining_, [&](const auto& held) { return held.get() == server; });
}

std::string SessionWorld::device_uri() {
  std::string addresses;
  for (const std::string& name : names_) {
    addresses += fmt::format("{}{}:4420", addresses.empty() ? "" : ",", name);
  }
  uint32_t queues = prng_.chance(3) ? 2 : 1;
  io_timeout_ns_ = (prng_.chance(2) ? 30'000 : 1'000) * kMs;
  std::string text = fmt::format(
      "nvme-tcp://{}/{}?digest={}&queues={}&queue_depth={}&keep_alive={}ms"
      "&io_timeout={}ms&connect_timeout=1s&wait={}",
      addresses, kNqn, options_.digests ? "on" : "off", queues, queue_depth_, keep_alive_ns_ / kMs,
      io_timeout_ns_ / kMs, prng_.chance(3) ? "2s" : "0");
  if (!options_.multipath) return text;
  constexpr const char* kPolicies[] = {"round-robin", "latency", "active-passive"};
  return text + "&policy=" + kPolicies[prng_.below(3)];
}

io::Task<bool> SessionWorld::open_device() {
  host_ = std::make_unique<SimNode>(world_, SimClock{.boot_ns = prng_.between(1, 1u << 30)},
                                    prng_.fork());
  host_port_ = net_.attach("host", *host_);
  workers_ = std::make_unique<io::TaskGroup>(*host_);
  std::string text = device_uri();
  auto uri = Uri::parse(text);
  if (!uri.ok()) {
    fail(uri.status().to_string());
    co_return false;
  }
  auto options = io::nvme::parse_nvme_options(std::move(*uri), host_->prng());
  if (!options.ok()) {
    fail(options.status().to_string());
    co_return false;
  }
  io::Context context{.loop = *host_, .network = *host_port_};
  device_ = std::make_unique<io::nvme::NvmeDevice>(context, std::move(*options), text);
  Status status = co_await device_->open();
  if (!status.ok()) fail("open: " + status.to_string());
  co_return status.ok();
}

// Only what the target may hold; the initiator's memory is that of the host's requests.
void SessionWorld::check_memory() {
  for (const auto& server : servers_) {
    if (server == nullptr) continue;
    uint64_t held = server->target->buffer_bytes();
    if (held > kBufferedMaxBytes) fail(fmt::format("the target holds {} bytes of buffers", held));
  }
}

// Commands in flight end by keep alive, at the latest: half an interval until it is sent, and one
// for its answer.
io::Task<void> SessionWorld::half_open() {
  size_t which = prng_.below(names_.size());
  note("half-open", which);
  bool was_live = path(which).live();
  uint64_t before = path(which).number();
  net_.silence_connections(names_[which]);
  uint64_t limit = world_.now_ns() + 2 * keep_alive_ns_ + 100 * kMs;
  auto noticed = [&] { return path(which).number() != before || !path(which).live(); };
  while (world_.now_ns() < limit && !noticed()) co_await world_.sleep_for(20 * kMs);
  if (was_live && !noticed()) {
    fail(fmt::format("a half-open connection was not noticed within {} ms",
                     (2 * keep_alive_ns_ + 100 * kMs) / kMs));
  }
}

io::Task<void> SessionWorld::net_fault(uint64_t kind, std::string port) {
  uint64_t length = prng_.between(1 * kMs, 2 * keep_alive_ns_);
  note("fault", kind, length);
  SimNetOptions& net = net_.options();
  bool everywhere = options_.multipath && prng_.chance(4);
  for (const std::string& name : names_) {
    if (!everywhere && name != port) continue;
    if (kind == 0) net_.reset_connections(name);
    if (kind == 2) net_.block("host", name);
    if (kind == 3) net_.block(name, "host");
    if (kind == 4) net_.block_both("host", name);
  }
  if (kind == 1) co_await half_open();
  if (kind == 5 && options_.digests) net.flip_one_in = static_cast<uint32_t>(prng_.between(3, 60));
  if (kind == 6) net.lost_one_in = static_cast<uint32_t>(prng_.between(3, 60));
  size_t paused = prng_.below(servers_.size());
  if (kind == 7) servers_[paused]->node.pause();
  if (kind >= 2) co_await world_.sleep_for(length);
  servers_[paused]->node.resume();
  net_.heal();
  net.flip_one_in = 0;
  net.lost_one_in = 0;
}

io::Task<void> SessionWorld::crash_fault(bool everything) {
  if (everything) {
    lose_power();
  } else {
    crash_server(prng_.below(servers_.size()), false);
  }
  co_await world_.sleep_for(prng_.between(1 * kMs, 500 * kMs));
  drive_->power_on();
  (void)start_servers();
}

io::Task<void> SessionWorld::one_fault() {
  ++stats_.drive_faults;
  uint64_t kind = prng_.below(9);
  if (kind == 8) {
    co_await crash_fault(prng_.chance(2));
  } else {
    co_await net_fault(kind, names_[prng_.below(names_.size())]);
  }
}

io::Task<void> SessionWorld::nemesis() {
  uint64_t faults = prng_.between(1, 6);
  for (uint64_t i = 0; i < faults && violation_.empty(); ++i) {
    co_await world_.sleep_for(prng_.chance(2) ? prng_.below(5 * kMs) : prng_.below(60 * kMs));
    co_await one_fault();
    check_memory();
    stats_.held += device_->unsettled();
    if (prng_.chance(2)) co_await wait_ready(20'000 * kMs);
  }
}

io::Task<bool> SessionWorld::wait_ready(uint64_t limit_ns) {
  uint64_t deadline = world_.now_ns() + limit_ns;
  while (world_.now_ns() < deadline) {
    if (device_->state() == io::DeviceState::kReady) co_return true;
    co_await world_.sleep_for(5 * kMs);
  }
  co_return false;
}

// The network is well again: the device must come back, and everybody must get an answer.
io::Task<void> SessionWorld::finish() {
  note("settling");
  // A connection that broke a moment ago, unnoticed, is noticed by now.
  co_await world_.sleep_for(3 * keep_alive_ns_ + 2'000 * kMs);
  if (!co_await wait_ready(60'000 * kMs)) {
    fail("does not connect again: " + device_->stats().last_error.to_string());
    co_return;
  }
  uint64_t deadline = world_.now_ns() + 120'000 * kMs;
  while (workers_->running() > 0 && world_.now_ns() < deadline) co_await world_.sleep_for(5 * kMs);
  if (workers_->running() > 0) {
    fail(fmt::format("{} host operations never end", workers_->running()));
    co_return;
  }
  // What failed without a known end keeps its range to itself until the lost path cannot write any
  // more: that too ends.
  while (device_->unsettled() > 0 && world_.now_ns() < deadline)
    co_await world_.sleep_for(50 * kMs);
  if (device_->unsettled() > 0) {
    fail(fmt::format("{} writes of lost paths stay unsettled", device_->unsettled()));
    co_return;
  }
  for (auto& raw : raw_hosts_) raw->calm();
  co_await raw_tasks_.join();
  co_await verify();
  if (!raw_hosts_.empty() && violation_.empty()) co_await verify_shared();
}

io::Task<void> SessionWorld::main() {
  if (!start_servers()) co_return;
  if (!co_await open_device()) co_return;
  for (uint32_t i = 0; i < worker_count_; ++i) workers_->spawn(worker(prng_.fork()));
  for (auto& raw : raw_hosts_) raw_tasks_.spawn(raw->run());
  co_await nemesis();
  co_await finish();
  if (!violation_.empty()) co_return;
  stats_.reconnects = device_->stats().reconnects;
  stats_.digest_errors = device_->stats().digest_errors;
  stats_.moves = device_->stats().moves;
  Status closed = co_await device_->close();
  if (!closed.ok()) fail("close: " + closed.to_string());
  co_await workers_->join();
  device_.reset();
  for (size_t i = 0; i < servers_.size(); ++i) crash_server(i, false);
  co_await drains_.join();
  net_.crash("host", SimNet::Crash::kProcess);
  for (auto& raw : raw_hosts_) raw->crash();
  host_port_.reset();
  raw_hosts_.clear();
  done_ = true;
}

RunResult run_session(const RunOptions& options) {
  auto world = std::make_unique<SessionWorld>(options);
  RunResult result = world->run();
  if (!world->drained()) (void)world.release();  // it stands still in the middle of coroutines
  return result;
}

}  // namespace bb::sim
