// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/server.h"

#include <algorithm>
#include <bit>

#include "base/log.h"
#include "base/units.h"
#include "io/nbd/connection.h"

namespace bb::io::nbd {
namespace {

constexpr uint64_t kTickNs = kNsPerSecond;
constexpr uint64_t kAcceptRetryNs = 100 * kNsPerMs;
constexpr uint64_t kKeepBytes = 16 * MiB;

}  // namespace

Server::Server(Context context, ServerLimits limits, ServerTls tls)
    : context_(context),
      limits_(limits),
      tls_(std::move(tls)),
      pool_(limits.buffer_bytes_max, kKeepBytes),
      recorder_(limits.slow_ns),
      ended_(context.loop),
      tasks_(context.loop) {
  BB_CHECK(limits.buffer_bytes_max >= kPayloadMax, "{} bytes of buffers, one request may need {}",
           limits.buffer_bytes_max, kPayloadMax);
  BB_CHECK(tls_.policy == TlsPolicy::kOff || tls_.context != nullptr, "TLS without its context");
  tick_.server = this;
  tick_.fire = [](Timer* timer) { static_cast<Tick*>(timer)->server->tick(); };
}

Server::~Server() {
  BB_CHECK(stopped_ || !started_, "an NBD server was destroyed without stop()");
  context_.loop.disarm(tick_);
}

Status Server::add_export(std::string name, Device& device, ExportOptions options) {
  if (name.empty() || name.size() > kNameMax || options.description.size() > kNameMax) {
    return error(Code::k_invalid_argument,
                 "nbd export: a name of {} bytes (1 to {}), a description of {} (to {})",
                 name.size(), kNameMax, options.description.size(), kNameMax);
  }
  if (find(name) != nullptr) {
    return error(Code::k_already_exists, "nbd export \"{}\": there is one of that name", name);
  }
  auto added = std::make_unique<Export>();
  const DeviceInfo& info = device.info();
  added->device = &device;
  added->info = {.name = std::move(name),
                 .description = std::move(options.description),
                 .size_bytes = info.size_bytes,
                 .block_min_bytes = info.block_size_bytes,
                 // A power of two, as the protocol wants it.
                 .block_preferred_bytes = std::bit_ceil(
                     std::clamp(info.physical_block_bytes, info.block_size_bytes, kPayloadMax)),
                 .read_only = info.read_only || options.read_only,
                 .trim = info.discard,
                 .multi_conn = !options.exclusive};
  added->exclusive = options.exclusive;
  exports_.push_back(std::move(added));
  return {};
}

Status Server::add_export_elsewhere(ExportInfo info, uint32_t home) {
  BB_CHECK(home != 0 && hand_over_, "nbd export \"{}\": nobody to hand clients over to", info.name);
  if (find(info.name) != nullptr) {
    return error(Code::k_already_exists, "nbd export \"{}\": there is one of that name", info.name);
  }
  auto added = std::make_unique<Export>();
  added->info = std::move(info);
  added->home = home;
  exports_.push_back(std::move(added));
  return {};
}

const ExportInfo* Server::info(std::string_view name) {
  Export* found = find(name);
  return found == nullptr ? nullptr : &found->info;
}

Task<Status> Server::remove_export(std::string name) {
  Export* leaving = find(name);
  if (leaving == nullptr) {
    co_return error(Code::k_not_found, "nbd export \"{}\": there is none of that name", name);
  }
  leaving->removing = true;
  auto serves = [leaving](const std::unique_ptr<Connection>& each) {
    return each->chosen() == leaving;
  };
  for (auto& each : connections_) {
    if (serves(each)) each->drain();
  }
  for (;;) {
    bool busy = false;
    for (auto& each : connections_) busy = busy || serves(each);
    if (!busy) break;
    ended_.reset();
    co_await ended_.wait();
  }
  past_.erase(name);
  exports_.remove_if([leaving](const auto& each) { return each.get() == leaving; });
  co_return Status();
}

Result<std::string> Server::start(Address at) {
  BB_CHECK(!stopping_, "an NBD server cannot start again");
  BB_ASSIGN(std::unique_ptr<Listener> listener, context_.network.listen(at));
  started_ = true;
  std::string address = listener->local_address();
  listeners_.push_back(std::move(listener));
  tasks_.spawn(accept_loop(listeners_.back().get()));
  return address;
}

Task<void> Server::stop() {
  stopping_ = true;
  for (auto& listener : listeners_) listener->shutdown();
  for (auto& each : connections_) each->drain();
  co_await tasks_.join();
  for (size_t i = 0; i < listeners_.size(); ++i) co_await listeners_[i]->close();
  context_.loop.disarm(tick_);
  stopped_ = true;
}

Task<void> Server::accept_loop(Listener* listener) {
  while (!stopping_) {
    auto stream = co_await listener->accept();
    if (stopping_) {
      if (stream.ok()) co_await (*stream)->close();
      break;
    }
    if (!stream.ok()) {
      if (stream.code() == Code::k_cancelled) break;
      log_warn("{} -> trying again", stream.status().to_string());
      co_await context_.loop.sleep_for(kAcceptRetryNs);
      continue;
    }
    if (connections_.size() >= limits_.connections_max && !make_room()) {
      co_await refuse(std::move(*stream));
      continue;
    }
    connections_.push_back(
        std::make_unique<Connection>(*this, std::move(stream).value(), next_id_++));
    arm_tick();
    tasks_.spawn(serve(connections_.back().get()));
  }
}

Task<void> Server::refuse(std::unique_ptr<Stream> stream) {
  log_warn("{}: {} nbd connections already -> refused", stream->peer(), limits_.connections_max);
  co_await stream->close();
}

void Server::adopt(Handover handover) {
  started_ = true;
  if (connections_.size() >= limits_.connections_max && !make_room()) {
    tasks_.spawn(refuse(std::move(handover.stream)));
    return;
  }
  connections_.push_back(
      std::make_unique<Connection>(*this, std::move(handover.stream), handover.id));
  connections_.back()->resume(std::move(handover));
  arm_tick();
  tasks_.spawn(serve(connections_.back().get()));
}

// However many connect and then say nothing, or begin TLS again and again, whoever goes on without
// a pause gets through: the oldest that has not chosen an export goes. It is gone for good a moment
// later, so for that moment there are more connections than the limit; of those that wait for
// nothing but their end there may be as many again.
bool Server::make_room() {
  Connection* oldest = nullptr;
  uint32_t ending = 0;
  for (auto& each : connections_) {
    if (each->ended()) ++ending;
    if (oldest == nullptr && each->haggles()) oldest = each.get();
  }
  if (oldest == nullptr || ending >= limits_.connections_max) return false;
  oldest->cut("it had not chosen an export, and others wanted to");
  return true;
}

Task<void> Server::serve(Connection* connection) {
  co_await connection->run();
  if (auto handover = connection->take_departure()) hand_over_(std::move(*handover));
  remember(*connection);
  connections_.remove_if([connection](const auto& each) { return each.get() == connection; });
  ended_.set();
}

Task<void> Server::take_over(Connection* connection) {
  auto before = [connection](const std::unique_ptr<Connection>& each) {
    return each->chosen() == connection->chosen() && each->turn() < connection->turn();
  };
  for (auto& each : connections_) {
    if (before(each)) each->cut("another client took over");
  }
  for (;;) {
    bool busy = false;
    for (auto& each : connections_) busy = busy || before(each);
    if (!busy) co_return;
    ended_.reset();
    co_await ended_.wait();
  }
}

std::vector<ExportInfo> Server::offered() const {
  std::vector<ExportInfo> list;
  for (const auto& each : exports_) {
    if (!each->removing) list.push_back(each->info);
  }
  return list;
}

Export* Server::find(std::string_view name) {
  for (auto& each : exports_) {
    if (each->info.name == name && !each->removing) return each.get();
  }
  return nullptr;
}

void Server::on_room() {
  pool_starved_ = false;
  for (auto& each : connections_) each->on_room();
}

void Server::arm_tick() {
  if (!tick_.armed()) context_.loop.arm(tick_, context_.loop.now_ns() + kTickNs);
}

// Only while there is someone to watch: an idle server sleeps.
void Server::tick() {
  if (connections_.empty()) return;
  uint64_t now = context_.loop.now_ns();
  for (auto& each : connections_) each->tick(now);
  arm_tick();
}

std::vector<ConnectionInfo> Server::connections() const {
  std::vector<ConnectionInfo> list;
  for (const auto& each : connections_) list.push_back(each->info());
  return list;
}

std::vector<std::string> Server::export_names() const {
  std::vector<std::string> names;
  for (const auto& each : exports_) names.push_back(each->info.name);
  return names;
}

}  // namespace bb::io::nbd
