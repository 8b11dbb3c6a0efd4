// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/prng.h"
#include "io/nvme/hex.h"
#include "io/nvme/target_queue.h"
#include "support/nvme_fake.h"

namespace bb::io::nvme {

using test::Buffer;
using test::FakeConnection;
using test::HostSeen;
using test::HostWire;

constexpr size_t kMemory = 8 << 20;

inline Buffer pattern(size_t length, uint64_t seed = 1) {
  Buffer data(length);
  Prng prng(seed);
  prng.fill(data);
  return data;
}

// A connection with the host's two halves.
struct Link {
  FakeConnection target;
  HostWire wire;
  HostSeen seen;
  Link(TargetCore& core, Buffer& memory) : target(core, memory) {}

  void send(ConstBytes bytes, uint64_t now_ns = 1) { seen.feed(target.exchange(bytes, now_ns)); }
  void init(Digests digests = {}) {
    send(HostWire::ic_req(digests));
    wire.format.digests = seen.ic.digests;
  }
  Cqe last() const {
    return seen.responses.empty() ? Cqe{.status = NvmeStatus{0x7ff}} : seen.responses.back();
  }
  Cqe ask(Sqe sqe, ConstBytes data = {}) {
    size_t before = seen.responses.size();
    seen.data.clear();
    send(wire.capsule(sqe, data));
    EXPECT_EQ(seen.responses.size(), before + 1);
    return last();
  }
};

class TargetQueueTest : public testing::Test {
 protected:
  explicit TargetQueueTest(TargetLimits limits = {}, DigestPolicy policy = DigestPolicy::kAllow)
      : core(limits, policy), memory(pattern(kMemory)) {
    EXPECT_TRUE(core.add_subsystem(test::fake_subsystem(kMemory)).ok());
  }

  std::unique_ptr<Link> admin(Digests digests = {}, uint32_t keep_alive_ms = 0,
                              const std::string& nqn = test::kNqn,
                              const std::string& local_host = "") {
    auto link = std::make_unique<Link>(core, memory);
    link->target.queue.set_local_host(local_host);
    link->init(digests);
    link->send(link->wire.connect(0, 31, 0xffff, nqn, test::kHostNqn, 0, keep_alive_ms));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    EXPECT_EQ(link->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status,
              NvmeStatus::kSuccess);
    return link;
  }
  std::unique_ptr<Link> io(const Link& of, uint16_t queue_id = 1, Digests digests = {},
                           uint8_t attributes = 0) {
    auto link = std::make_unique<Link>(core, memory);
    link->init(digests);
    link->send(link->wire.connect(queue_id, 127, of.target.queue.controller()->id(), test::kNqn,
                                  test::kHostNqn, attributes));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    return link;
  }

  TargetCore core;
  Buffer memory;
};

}  // namespace bb::io::nvme
