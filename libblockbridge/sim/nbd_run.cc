// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/nbd_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSector = DiskModel::kSectorBytes;
constexpr uint64_t kStepsMax = 3'000'000;
constexpr uint64_t kTimeMaxNs = 3'600'000 * kMs;
constexpr uint64_t kDriveBytes = 1u << 20;

}  // namespace

NbdWorld::NbdWorld(const RunOptions& options)
    : options_(options),
      world_(options.seed),
      prng_(world_.prng().fork()),
      net_(world_, {}, world_.prng().fork()),
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
  io_timeout_ns_ = prng_.between(200, 3000) * kMs;
  ops_left_ = prng_.between(30, 120);
  queue_depth_ = static_cast<uint32_t>(prng_.between(2, 32));
  worker_count_ = static_cast<uint32_t>(prng_.between(1, 8));
}

void NbdWorld::fail(std::string violation) {
  if (violation_.empty()) violation_ = std::move(violation);
}

RunResult NbdWorld::run() {
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

bool NbdWorld::start_server() {
  SimClock clock;
  clock.boot_ns = prng_.between(1, 1u << 30);
  clock.drift_ppm = static_cast<int32_t>(prng_.below(400)) - 200;
  server_ = std::make_unique<Server>(world_, clock, prng_.fork());
  server_->port = net_.attach("target", server_->node);
  server_->cable = drive_->connect(server_->node);
  io::Context context{.loop = server_->node, .network = *server_->port};
  server_->nbd = std::make_unique<io::nbd::Server>(context);
  Status added = server_->nbd->add_export("d", *server_->cable,
                                          {.exclusive = options_.canary != Canary::kSharedExport});
  if (added.ok()) added = server_->nbd->start({"target:10809"}).status();
  if (!added.ok()) fail("server: " + added.to_string());
  note("server up");
  return added.ok();
}

void NbdWorld::crash_server(bool power) {
  ++stats_.crashes;
  note("server down", power ? 1 : 0);
  server_->cable->cut();
  net_.crash("target", power ? SimNet::Crash::kPower : SimNet::Crash::kProcess);
  if (power) {
    ++stats_.power_losses;
    drive_->power_off();
    model_->lose_unflushed();
  }
  server_->node.resume();
  Server* dead = server_.get();
  draining_.push_back(std::move(server_));
  drains_.spawn(drain(dead));
}

io::Task<void> NbdWorld::drain(Server* server) {
  co_await server->nbd->stop();
  server->nbd.reset();
  (void)co_await server->cable->close();
  server->cable.reset();
  server->port.reset();
  std::erase_if(draining_, [&](const auto& held) { return held.get() == server; });
}

io::Task<bool> NbdWorld::open_device() {
  host_ = std::make_unique<SimNode>(world_, SimClock{.boot_ns = prng_.between(1, 1u << 30)},
                                    prng_.fork());
  host_port_ = net_.attach("host", *host_);
  workers_ = std::make_unique<io::TaskGroup>(*host_);
  bool structured = !prng_.chance(3);
  bool extended = structured && prng_.chance(2);
  bool waits = prng_.chance(3);
  std::string text = fmt::format(
      "nbd://target:10809/d?structured={}&extended={}&queue_depth={}&io_timeout={}ms"
      "&connect_timeout=1s&wait={}",
      structured ? 1 : 0, extended ? 1 : 0, queue_depth_, io_timeout_ns_ / kMs, waits ? "2s" : "0");
  auto uri = Uri::parse(text);
  if (!uri.ok()) {
    fail(uri.status().to_string());
    co_return false;
  }
  auto options = io::nbd::parse_nbd_options(std::move(*uri));
  if (!options.ok()) {
    fail(options.status().to_string());
    co_return false;
  }
  io::Context context{.loop = *host_, .network = *host_port_};
  device_ = std::make_unique<io::nbd::NbdDevice>(context, std::move(*options), text);
  Status status = co_await device_->open();
  if (!status.ok()) fail("open: " + status.to_string());
  co_return status.ok();
}

io::Task<void> NbdWorld::one_fault() {
  uint64_t kind = prng_.below(8);
  uint64_t length = prng_.between(1 * kMs, 2 * io_timeout_ns_);
  note("fault", kind, length);
  ++stats_.drive_faults;
  SimNetOptions& net = net_.options();
  if (kind == 0) net_.reset_connections();
  if (kind == 1) net_.silence_connections();  // half-open: found out by what is not answered
  if (kind == 2) net_.block("host", "target");
  if (kind == 3) net_.block("target", "host");
  if (kind == 4) net_.block_both("host", "target");
  if (kind == 5) net.lost_one_in = static_cast<uint32_t>(prng_.between(3, 60));
  if (kind == 6) server_->node.pause();
  if (kind >= 1 && kind <= 6) co_await world_.sleep_for(length);
  server_->node.resume();
  net_.heal();
  net.lost_one_in = 0;
  if (kind != 7) co_return;
  bool power = prng_.chance(2);
  crash_server(power);
  co_await world_.sleep_for(prng_.between(1 * kMs, 500 * kMs));
  drive_->power_on();
  (void)start_server();
}

io::Task<void> NbdWorld::nemesis() {
  uint64_t faults = prng_.between(1, 6);
  for (uint64_t i = 0; i < faults && violation_.empty(); ++i) {
    co_await world_.sleep_for(prng_.chance(2) ? prng_.below(5 * kMs) : prng_.below(60 * kMs));
    co_await one_fault();
    if (prng_.chance(2)) co_await wait_ready(20'000 * kMs);
  }
}

io::Task<bool> NbdWorld::wait_ready(uint64_t limit_ns) {
  uint64_t deadline = world_.now_ns() + limit_ns;
  while (world_.now_ns() < deadline) {
    if (device_->state() == io::DeviceState::kReady) co_return true;
    co_await world_.sleep_for(5 * kMs);
  }
  co_return false;
}

// The network is well again: the device must come back, and everybody must get an answer.
io::Task<void> NbdWorld::finish() {
  note("settling");
  // A connection that broke a moment ago, unnoticed, is noticed by now.
  co_await world_.sleep_for(3 * io_timeout_ns_ + 2'000 * kMs);
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
  co_await verify();
}

io::Task<void> NbdWorld::main() {
  if (!start_server()) co_return;
  if (!co_await open_device()) co_return;
  for (uint32_t i = 0; i < worker_count_; ++i) workers_->spawn(worker(prng_.fork()));
  co_await nemesis();
  co_await finish();
  if (!violation_.empty()) co_return;
  stats_.reconnects = device_->stats().reconnects;
  Status closed = co_await device_->close();
  if (!closed.ok()) fail("close: " + closed.to_string());
  co_await workers_->join();
  device_.reset();
  crash_server(false);
  co_await drains_.join();
  net_.crash("host", SimNet::Crash::kProcess);
  host_port_.reset();
  done_ = true;
}

RunResult run_nbd(const RunOptions& options) {
  auto world = std::make_unique<NbdWorld>(options);
  RunResult result = world->run();
  if (!world->drained()) (void)world.release();  // it stands still in the middle of coroutines
  return result;
}

}  // namespace bb::sim
