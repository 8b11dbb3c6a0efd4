// SPDX-License-Identifier: Apache-2.0
// Reservations in a simulated world: hosts that reserve, write, leave and come back, a device and a
// store that answer when they like, and a target that dies; against the model.
#include <algorithm>
#include <array>
#include <deque>
#include <optional>

#include "base/check.h"
#include "base/prng.h"
#include "io/nvme/reservation_codec.h"
#include "io/nvme/reservation_store.h"
#include "sim/reservation_model.h"
#include "sim/reserve_peer.h"
#include "sim/run_result.h"
#include "sim/trace.h"

namespace bb::sim {
namespace {

using namespace io::nvme;  // NOLINT: the code under test

constexpr int kHosts = 3;
constexpr size_t kConnections = 4;  // host 1 has two
constexpr int kSteps = 400;
constexpr uint32_t kSectors = 64;

Uuid uuid_of(int host) {
  Uuid uuid;
  uuid.bytes[0] = static_cast<std::byte>(200 - host);
  return uuid;
}

// That it is there says that reservations may persist; the run saves them.
class NoStore final : public ReservationStore {
  io::Task<Result<ReservationState>> load() override { co_return ReservationState(); }
  io::Task<Status> save(ReservationState) override { co_return Status(); }
};

class ReserveRun {
 public:
  explicit ReserveRun(const RunOptions& options)
      : prng_(options.seed), model_(true, kRegistrantsMax) {
    trace_.print_to(options.trace_to);
    start({});
  }

  RunResult run() {
    for (int i = 0; i < kSteps && violation_.empty(); ++i) step();
    while (violation_.empty() && (save_.has_value() || !at_device_.empty())) {
      if (save_.has_value()) end_save(true);
      if (!at_device_.empty()) end_io(at_device_.size() - 1);
    }
    if (violation_.empty() && !pending_.empty()) fail("a reservation command was never answered");
    if (violation_.empty()) compare();
    RunResult result{.violation = violation_, .stats = stats_};
    result.trace_hash = trace_.hash();
    result.events = trace_.events();
    return result;
  }

 private:
  struct Line {  // a controller of a host: its two connections
    std::unique_ptr<ReservePeer> admin;
    std::unique_ptr<ReservePeer> io;
    uint16_t next_id = 1;
    std::vector<std::pair<uint16_t, bool>> ios;  // command and whether it writes
  };
  struct Command {  // of reservations, in the order in which they came
    size_t line = 0;
    bool dead = false;  // its connection is gone
    uint16_t id = 0;
    int kind = 0;
    int host = 0;
    uint32_t cdw10 = 0;
    uint64_t first_key = 0, second_key = 0;
  };
  struct AtDevice {
    std::shared_ptr<Line> gone;  // keeps a closed connection until its I/Os are back
    size_t line = 0;
    uint16_t slot = 0;
    int host = 0;
    bool waited_for = false;  // by a preempt-and-abort
  };

  static int host_of(size_t line) { return line == 0 ? 1 : static_cast<int>(line); }

  void start(ReservationState kept) {
    core_ = std::make_unique<TargetCore>(TargetLimits{});
    core_->set_save_reservation([this](NamespaceRef of, const ReservationState& s) {
      saving_ = std::move(of);
      save_ = s;
    });
    NamespaceConfig one{.geometry = {.block_count = kSectors}};
    one.reservation_store = &store_;
    one.reservation = std::move(kept);
    Status added =
        core_->add_subsystem({.nqn = kReserveNqn, .serial = "sim", .namespaces = {std::move(one)}});
    BB_CHECK(added.ok(), "{}", added.to_string());
    for (size_t line = 0; line < kConnections; ++line) connect(line);
  }

  void connect(size_t line) {
    Line fresh;
    fresh.admin = std::make_unique<ReservePeer>(*core_);
    fresh.io = std::make_unique<ReservePeer>(*core_);
    Uuid host = uuid_of(host_of(line));
    bool ok = fresh.admin->connect(0, kControllerIdAny, host);
    ok = ok && fresh.io->connect(1, fresh.admin->queue().controller()->id(), host);
    BB_CHECK(ok, "a host could not connect");
    lines_[line] = std::move(fresh);
  }

  NamespaceReservation& reservation() {
    return *core_->subsystems().begin()->second->find(1)->reservation;
  }

  void fail(std::string what) {
    if (violation_.empty()) violation_ = std::move(what);
  }
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    trace_.event(stats_.steps, what, a, b, c);
  }

  void step() {
    ++stats_.steps;
    uint64_t kind = prng_.below(100);
    size_t line = prng_.below(kConnections);
    if (kind < 30) {
      reserve(line);
    } else if (kind < 62) {
      io(line);
    } else if (kind < 80) {
      if (!at_device_.empty()) end_io(prng_.below(at_device_.size()));
    } else if (kind < 96) {
      if (save_.has_value()) end_save(!prng_.chance(12));
    } else if (kind < 99) {
      drop(line);
    } else {
      crash();
    }
    look();
  }

  void reserve(size_t line) {
    if (pending_.size() > 6 || lines_[line].next_id > 10'000) return;
    Command command{.line = line,
                    .id = lines_[line].next_id++,
                    .kind = static_cast<int>(prng_.below(3)),
                    .host = host_of(line)};
    uint64_t action = prng_.below(command.kind == 2 ? 2 : 3);
    if (command.kind == 2 && action == 1 && !prng_.chance(5)) action = 0;
    if (command.kind == 0 && action == 1 && !prng_.chance(3)) action = 0;
    uint64_t type = prng_.chance(3) ? static_cast<uint64_t>(model_.type()) : prng_.between(1, 6);
    uint64_t persist = command.kind == 0 && prng_.chance(3) ? prng_.between(2, 3) : 0;
    bool ignore = command.kind == 0 && prng_.chance(4);
    command.cdw10 =
        static_cast<uint32_t>(action | (type << 8) | (ignore ? 8u : 0u) | (persist << 30));
    auto own = model_.keys().find(command.host);
    command.first_key =
        own != model_.keys().end() && !prng_.chance(10) ? own->second : prng_.between(1, 3);
    command.second_key = prng_.between(1, 3);
    constexpr IoOpcode kOpcodes[] = {IoOpcode::kReservationRegister, IoOpcode::kReservationAcquire,
                                     IoOpcode::kReservationRelease};
    std::byte data[16];
    store_le<uint64_t>(data, command.first_key);
    store_le<uint64_t>(data + 8, command.second_key);
    note("reserve", static_cast<uint64_t>(command.host), command.cdw10,
         static_cast<uint64_t>(command.kind));
    ++stats_.host_ops;
    pending_.push_back(command);
    lines_[line].io->send({.opcode = static_cast<uint8_t>(kOpcodes[command.kind]),
                           .flags = kFlagSgl,
                           .command_id = command.id,
                           .nsid = 1,
                           .cdw10 = command.cdw10},
                          data);
  }

  void io(size_t line) {
    Line& to = lines_[line];
    if (to.ios.size() >= 4) return;
    bool writes = !prng_.chance(3);
    uint16_t id = to.next_id++;
    to.ios.emplace_back(id, writes);
    Sqe sqe{.opcode = static_cast<uint8_t>(writes ? IoOpcode::kWrite : IoOpcode::kRead),
            .flags = kFlagSgl,
            .command_id = id,
            .nsid = 1,
            .cdw10 = static_cast<uint32_t>(prng_.below(kSectors))};
    std::vector<std::byte> data(writes ? 512 : 0);
    if (!writes) sqe.sgl = transport_sgl(512);
    note("io", line, id, writes ? 1 : 0);
    ++stats_.host_ops;
    to.io->send(sqe, data);
  }

  // What the first pending command would make of the model, while it may be in force already.
  ReservationModel::Reply apply(ReservationModel* to, const Command& command) const {
    if (command.kind == 0)
      return to->on_register(command.host, command.cdw10, command.first_key, command.second_key);
    if (command.kind == 1)
      return to->on_acquire(command.host, command.cdw10, command.first_key, command.second_key);
    return to->on_release(command.host, command.cdw10, command.first_key);
  }

  // Of a host's read or write: is there a state, the present one or one that commands under way
  // lead to, which lets it through, or which does not?
  bool somewhere(int host, bool writes, bool allowed) const {
    ReservationModel model = model_;
    auto says = [&] { return (writes ? model.may_write(host) : model.may_read(host)) == allowed; };
    if (says()) return true;
    return std::ranges::any_of(pending_, [&](const Command& command) {
      apply(&model, command);
      return says();
    });
  }

  // After every event: what came to the device, what was answered, what is in force.
  void look() {
    watch_preempt();
    for (size_t line = 0; line < kConnections; ++line) {
      while (auto slot = lines_[line].io->queue().next_io()) {
        bool writes = lines_[line].io->queue().io(*slot).op == TargetOp::kWrite;
        if (!somewhere(host_of(line), writes, true))
          fail("an I/O reached the device against the reservation");
        at_device_.push_back({.line = line, .slot = *slot, .host = host_of(line)});
      }
    }
    for (bool any = true; any && violation_.empty();) {
      any = false;
      for (size_t line = 0; line < kConnections; ++line) any = answers(line) || any;
    }
    refused_before_ = false;
  }

  // When the first command, a preempt-and-abort, comes into force, what its victims have with the
  // device then must be back before it is answered.
  void watch_preempt() {
    if (pending_.empty() || preempting_) return;
    ReservationModel after = model_;
    ReservationModel::Reply reply = apply(&after, pending_.front());
    if (reply.preempted.empty() || reservation().state().generation != after.generation()) return;
    mark(reply);
  }
  void mark(const ReservationModel::Reply& reply) {
    preempting_ = true;
    for (AtDevice& one : at_device_) one.waited_for = reply.preempted.count(one.host) > 0;
  }

  bool answers(size_t line) {
    std::vector<ReservePeer::Answer> all = lines_[line].io->answers();
    for (const ReservePeer::Answer& one : all) {
      auto& ios = lines_[line].ios;
      auto found = std::ranges::find(ios, one.command_id, &std::pair<uint16_t, bool>::first);
      if (found == ios.end()) {
        waiting_.push_back({line, one});
        continue;
      }
      int status = static_cast<int>(plain_status(one.status));
      bool fine =
          status == 0 || status == 0x1b ||
          (status == 0x83 && (refused_before_ || somewhere(host_of(line), found->second, false)));
      if (!fine) fail(fmt::format("an I/O was answered with {:#x} for no reason", status));
      ios.erase(found);
    }
    return settle() || !all.empty();
  }

  // Answers of reservation commands, in the order in which the commands came.
  bool settle() {
    bool any = false;
    for (; !pending_.empty() && violation_.empty(); any = true) {
      Command first = pending_.front();
      auto found = std::ranges::find_if(waiting_, [&first](const auto& one) {
        return one.first == first.line && one.second.command_id == first.id;
      });
      if (found == waiting_.end()) return any;
      int status = static_cast<int>(plain_status(found->second.status));
      waiting_.erase(found);
      settle_one(first, status);
    }
    return any;
  }

  void settle_one(const Command& command, int status) {
    note("answered", command.id, static_cast<uint64_t>(status));
    pending_.pop_front();
    preempting_ = false;
    if (status == 0x06 && failed_saves_ > 0) {
      --failed_saves_;
      return;
    }
    bool conflicts = false;
    for (int host = 1; host <= kHosts; ++host) conflicts = conflicts || !model_.may_write(host);
    refused_before_ = refused_before_ || conflicts;
    ReservationModel::Reply reply = apply(&model_, command);
    if (reply.status != status) {
      fail(fmt::format("a reservation command was answered with {:#x}, the model says {:#x}",
                       status, reply.status));
    }
    bool back = std::ranges::none_of(at_device_, &AtDevice::waited_for);
    if ((command.cdw10 & 7) == 2 && command.kind == 1 && !back) {
      fail("a preempt-and-abort was answered while the preempted still had I/O with the device");
    }
  }

  void end_io(size_t which) {
    AtDevice one = std::move(at_device_[which]);
    at_device_.erase(at_device_.begin() + static_cast<ptrdiff_t>(which));
    note("io ends", one.line, one.slot);
    if (first_is_dead() && preempting_ && !waits_for_device()) bury();
    ReservePeer& peer = one.gone ? *one.gone->io : *lines_[one.line].io;
    peer.queue().on_io_done(one.slot, Code::k_ok);
    look();
  }

  void end_save(bool durable) {
    note("save ends", durable ? 1 : 0);
    NamespaceRef of = std::move(saving_);
    ReservationState state = std::move(*save_);
    save_.reset();
    if (durable) durable_ = std::move(state);
    if (!durable) ++stats_.drive_faults;
    if (!first_is_dead()) {
      if (!durable) ++failed_saves_;
    } else if (!durable) {
      pending_.pop_front();
    } else {
      ReservationModel after = model_;
      mark(apply(&after, pending_.front()));
      if (!waits_for_device()) bury();
    }
    of->reservation->on_saved(durable);
    look();
  }

  bool first_is_dead() const { return !pending_.empty() && pending_.front().dead; }
  bool waits_for_device() const {
    return preempting_ && std::ranges::any_of(at_device_, &AtDevice::waited_for);
  }
  // A command whose connection died while it was being carried out takes effect unseen.
  void bury() {
    apply(&model_, pending_.front());
    pending_.pop_front();
    preempting_ = false;
  }

  void drop(size_t line) {
    note("connection lost", line);
    ++stats_.reconnects;
    auto gone = std::make_shared<Line>(std::move(lines_[line]));
    gone->io->queue().close("the stream ended");
    gone->admin->queue().close("the stream ended");
    for (AtDevice& one : at_device_) {
      if (one.line == line && !one.gone) one.gone = gone;
    }
    // The first may be half done, and then goes on; the others have not begun.
    bool begun = save_.has_value() || waits_for_device();
    for (size_t i = 0; i < pending_.size();) {
      if (pending_[i].line != line || pending_[i].dead) {
        ++i;
      } else if (i == 0 && begun) {
        pending_[i++].dead = true;
      } else {
        pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    connect(line);
  }

  // The target's process ends. Of a save under way either all or nothing is found.
  void crash() {
    note("crash");
    ++stats_.crashes;
    bool landed = save_.has_value() && prng_.chance(2);
    if (landed) durable_ = *save_;
    // A preempt that waits for the device is in force and durable, but not answered yet.
    bool took_effect = (landed || preempting_) && !pending_.empty();
    if (took_effect) apply(&model_, pending_.front());
    pending_.clear();
    waiting_.clear();
    failed_saves_ = 0;
    preempting_ = false;
    for (Line& line : lines_) {
      line.io->queue().close("crash");
      line.admin->queue().close("crash");
    }
    for (AtDevice& one : std::exchange(at_device_, {})) {
      ReservePeer& peer = one.gone ? *one.gone->io : *lines_[one.line].io;
      peer.queue().on_io_done(one.slot, Code::k_cancelled);
    }
    for (Line& line : lines_) line = {};
    save_.reset();
    saving_.reset();
    core_.reset();
    model_.lose_power();
    start(durable_.persistent ? durable_ : ReservationState());
    compare();
  }

  void compare() {
    const ReservationState& core = reservation().state();
    std::map<int, uint64_t> keys;
    std::set<int> holders;
    for (const Registrant& one : core.registrants) {
      int host = 200 - static_cast<int>(one.host.bytes[0]);
      keys[host] = one.key;
      if (core.holds(one.host)) holders.insert(host);
    }
    bool same = keys == model_.keys() && holders == model_.holders() &&
                static_cast<int>(core.type) == model_.type() &&
                core.generation == model_.generation() && core.persistent == model_.persistent();
    if (!same) fail("the reservation is not what was acknowledged");
  }

  Prng prng_;
  Trace trace_;
  RunStats stats_;
  NoStore store_;
  ReservationModel model_;
  std::unique_ptr<TargetCore> core_;
  std::array<Line, kConnections> lines_;
  std::deque<Command> pending_;
  std::vector<std::pair<size_t, ReservePeer::Answer>> waiting_;  // answers ahead of their turn
  std::vector<AtDevice> at_device_;
  NamespaceRef saving_;
  std::optional<ReservationState> save_;  // under way
  ReservationState durable_;
  int failed_saves_ = 0;
  bool preempting_ = false;
  bool refused_before_ = false;  // the state before an answer of this event refused something
  std::string violation_;
};

}  // namespace

RunResult run_reserve(const RunOptions& options) {
  auto run = std::make_unique<ReserveRun>(options);
  RunResult result = run->run();
  if (!result.violation.empty()) (void)run.release();  // it stands still with I/O under way
  return result;
}

}  // namespace bb::sim
