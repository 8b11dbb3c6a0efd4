// SPDX-License-Identifier: Apache-2.0
// A host of NVMe/TCP over a real socket, command by command: what our initiator does not send.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "support/nvme_fake.h"
#include "support/world.h"

namespace bb::test {

// One queue; one command at a time.
class WireHost {
 public:
  explicit WireHost(World& world) : world_(world) {}

  struct Who {
    std::string nqn;  // of the subsystem
    std::string host_nqn;
    Uuid host_id;
  };
  // Connects a queue; an admin queue (0) enables its controller, whose id is the answer's result.
  io::Task<Result<io::nvme::Cqe>> connect(std::string address, Who who, uint16_t queue_id,
                                          uint16_t controller) {
    uint64_t deadline = world_.context.loop.now_ns() + 5'000'000'000;
    BB_CO_ASSIGN(stream_, co_await world_.network->connect({std::move(address)}, deadline));
    co_await send(wire_.ic_req());
    BB_CO_TRY(co_await receive_until(0));
    io::nvme::Sqe sqe;
    io::nvme::ConnectCommand{.queue_id = queue_id, .queue_size = 15}.encode(sqe);
    io::nvme::ConnectData data{.controller_id = controller, .subsystem_nqn = who.nqn};
    data.host = {.host_nqn = who.host_nqn, .host_id = who.host_id};
    io::nvme::test::Buffer bytes(io::nvme::kConnectDataBytes);
    data.encode(bytes);
    BB_CO_ASSIGN(io::nvme::Cqe connected, co_await ask(sqe, bytes));
    if (queue_id != 0 || connected.status != io::nvme::NvmeStatus::kSuccess) co_return connected;
    auto enable =
        io::nvme::test::HostWire::property_set_cc(io::nvme::kCcEntrySizes | io::nvme::kCcEnable);
    BB_CO_TRY(co_await ask(enable, {}));
    co_return connected;
  }

  // What a command with `data` in its capsule is answered; what it reads is in seen().data.
  io::Task<Result<io::nvme::Cqe>> ask(io::nvme::Sqe sqe, io::nvme::test::Buffer data) {
    size_t before = seen_.responses.size();
    seen_.data.clear();
    co_await send(wire_.capsule(sqe, data));
    BB_CO_TRY(co_await receive_until(before + 1));
    co_return seen_.responses.back();
  }
  const io::nvme::test::HostSeen& seen() const { return seen_; }

  io::Task<void> close() {
    stream_->shutdown();
    co_await stream_->close();
  }

 private:
  io::Task<void> send(io::nvme::test::Buffer bytes) { (void)co_await stream_->send_all(bytes); }

  // 0: until the connection is initialised.
  io::Task<Status> receive_until(size_t responses) {
    std::array<std::byte, 8192> room;
    bool hello = responses == 0;
    for (;;) {
      auto got = co_await stream_->recv_some(room);
      if (!got.ok()) co_return got.status();
      if (*got == 0) co_return error(Code::k_unavailable, "the target closed the connection");
      seen_.feed(Bytes(room).first(*got));
      if (hello || seen_.responses.size() >= responses) co_return Status();
    }
  }

  World& world_;
  std::unique_ptr<io::Stream> stream_;
  io::nvme::test::HostWire wire_;
  io::nvme::test::HostSeen seen_;
};

}  // namespace bb::test
