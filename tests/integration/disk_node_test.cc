// SPDX-License-Identifier: Apache-2.0
// A disk node and hosts that connect to it over real sockets: who may, and who may not any more.
#include "backplane/disk_node.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "backplane/backplane_set.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "support/wire_host.h"
#include "support/world.h"

namespace bb::backplane {
namespace {

const Uuid kUs = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value();
const Uuid kThem = Uuid::parse("aaaaaaaa-4b5a-4978-8796-a5b4c3d2e1f0").value();

const char* const kVisitor = "nqn.2026-11.example:visitor";

class DiskNodeTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bb-node-XXXXXX";
    folder_ = mkdtemp(name);
    start();
  }
  void TearDown() override {
    stop();
    std::filesystem::remove_all(folder_);
  }
  void start() {
    DiskNodeConfig config{.name = "n1",
                          .domain = "n1",
                          .enclosure = "n1",
                          .listen = {"127.0.0.1:0"},
                          .control = "127.0.0.1:0",
                          .hosts = {kVisitor}};
    config.drives.push_back(
        {.uri = "file:" + folder_ + "/a", .slot = "0", .create_bytes = 32 * MiB});
    auto node = world_.run(DiskNode::start(world_.context, std::move(config)));
    ASSERT_TRUE(node.ok()) << node.status().to_string();
    node_ = std::move(node).value();
    drive_ = node_->report().drives.at(0).uuid;
  }
  void stop() {
    if (node_ != nullptr) world_.run(node_->stop());
    node_.reset();
  }
  Status claim(Uuid owner, uint64_t epoch) {
    ClaimRequest request{.owner = owner,
                         .owner_name = owner == kUs ? "us" : "them",
                         .host_nqn = host_nqn(owner),
                         .epoch = epoch,
                         .array = owner,
                         .array_name = "db"};
    return detail::as_status(world_.run(node_->claim({drive_, request})));
  }
  Result<std::unique_ptr<io::Device>> connect(Uuid owner, uint64_t epoch) {
    OwnerIdentity who{.owner = owner, .name = "x", .host = owner};
    std::string uri = drive_uri(node_->nvme_addresses().at(0), drive_, who, epoch);
    return world_.run(io::open_device(world_.context, uri + "&connect_timeout=2s"));
  }
  static io::Task<Status> write_block(io::Device* device, io::AlignedBuffer* from) {
    co_return co_await device->write(0, from->bytes(), true);
  }
  Status write(io::Device* device) { return world_.run(write_block(device, &buffer_)); }
  void close(std::unique_ptr<io::Device> device) { (void)world_.run(device->close()); }

  test::World world_;
  std::string folder_;
  std::unique_ptr<DiskNode> node_;
  Uuid drive_;
  io::AlignedBuffer buffer_{4096};
};

TEST_F(DiskNodeTest, FreeDriveLetsNobodyUnnamedIn) {
  auto device = connect(kUs, 1);
  EXPECT_FALSE(device.ok());
}

TEST_F(DiskNodeTest, OnlyTheOwnerAndItsEpochConnect) {
  ASSERT_TRUE(claim(kUs, 3).ok());
  EXPECT_FALSE(connect(kThem, 3).ok());
  EXPECT_FALSE(connect(kUs, 2).ok());
  EXPECT_FALSE(connect(kUs, 4).ok());
  auto device = connect(kUs, 3);
  ASSERT_TRUE(device.ok()) << device.status().to_string();
  EXPECT_TRUE(write(device->get()).ok());
  EXPECT_EQ((*device)->info().size_bytes, 31 * MiB);
  close(std::move(device).value());
}

TEST_F(DiskNodeTest, HigherEpochFencesTheOldConnection) {
  ASSERT_TRUE(claim(kUs, 1).ok());
  auto old_one = connect(kUs, 1);
  ASSERT_TRUE(old_one.ok()) << old_one.status().to_string();
  ASSERT_TRUE(write(old_one->get()).ok());
  ASSERT_TRUE(claim(kUs, 2).ok());
  // From the answer on no write of the old connection reaches the drive.
  EXPECT_FALSE(write(old_one->get()).ok());
  auto new_one = connect(kUs, 2);
  ASSERT_TRUE(new_one.ok()) << new_one.status().to_string();
  EXPECT_TRUE(write(new_one->get()).ok());
  EXPECT_FALSE(write(old_one->get()).ok());
  EXPECT_EQ(claim(kUs, 1).code(), Code::k_fenced);
  EXPECT_EQ(claim(kThem, 9).code(), Code::k_busy);
  close(std::move(old_one).value());
  close(std::move(new_one).value());
}

TEST_F(DiskNodeTest, AClaimSurvivesTheNode) {
  ASSERT_TRUE(claim(kUs, 5).ok());
  stop();
  start();
  EXPECT_EQ(node_->report().drives.at(0).claim.epoch, 5u);
  EXPECT_EQ(claim(kThem, 9).code(), Code::k_busy);
  auto released = world_.run(node_->release({drive_, {.owner = kThem, .array = kUs, .epoch = 9}}));
  EXPECT_EQ(released.code(), Code::k_permission_denied);
  released = world_.run(node_->release({drive_, {.owner = kUs, .array = kUs, .epoch = 5}}));
  ASSERT_TRUE(released.ok()) << released.status().to_string();
  EXPECT_TRUE(claim(kThem, 1).ok());
}

TEST_F(DiskNodeTest, ForcedReleaseCutsTheOwner) {
  ASSERT_TRUE(claim(kUs, 1).ok());
  auto device = connect(kUs, 1);
  ASSERT_TRUE(device.ok());
  auto released = world_.run(node_->release({drive_, {.force = true}}));
  ASSERT_TRUE(released.ok());
  EXPECT_FALSE(write(device->get()).ok());
  close(std::move(device).value());
}

// A host with an I/O queue on the drive while nobody has claimed it.
struct Visitor {
  test::WireHost admin;
  test::WireHost io;
  explicit Visitor(test::World& world) : admin(world), io(world) {}
};

class ReservedDriveTest : public DiskNodeTest {
 protected:
  std::unique_ptr<Visitor> visit(uint8_t number) {
    auto made = std::make_unique<Visitor>(world_);
    test::WireHost::Who who{.nqn = drive_nqn(drive_), .host_nqn = kVisitor};
    who.host_id.bytes[0] = static_cast<std::byte>(number);
    std::string at = node_->nvme_addresses().at(0);
    auto admin = world_.run(made->admin.connect(at, who, 0, io::nvme::kControllerIdAny));
    EXPECT_TRUE(admin.ok() && admin->status == io::nvme::NvmeStatus::kSuccess);
    auto queue = world_.run(made->io.connect(at, who, 1, static_cast<uint16_t>(admin->result)));
    EXPECT_TRUE(queue.ok() && queue->status == io::nvme::NvmeStatus::kSuccess);
    return made;
  }
  io::nvme::NvmeStatus ask(Visitor& visitor, io::nvme::IoOpcode opcode, uint32_t cdw10,
                           io::nvme::test::Buffer data) {
    io::nvme::Sqe sqe{.opcode = static_cast<uint8_t>(opcode),
                      .flags = io::nvme::kFlagSgl,
                      .command_id = 1,
                      .nsid = 1,
                      .cdw10 = cdw10};
    auto answer = world_.run(visitor.io.ask(sqe, std::move(data)));
    return answer.ok() ? answer->status : io::nvme::NvmeStatus::kInternalError;
  }
  io::nvme::NvmeStatus flush(Visitor& visitor) {
    return ask(visitor, io::nvme::IoOpcode::kFlush, 0, {});
  }
  static io::nvme::test::Buffer keys(uint64_t first, uint64_t second) {
    io::nvme::test::Buffer data(16);
    store_le<uint64_t>(data.data(), first);
    store_le<uint64_t>(data.data() + 8, second);
    return data;
  }
  void leave(Visitor& visitor) {
    world_.run(visitor.io.close());
    world_.run(visitor.admin.close());
  }
};

// The node's next life finds who may write on the drive itself; a claim ends all of that.
TEST_F(ReservedDriveTest, AReservationSurvivesTheNodeAndEndsWithAClaim) {
  using enum io::nvme::IoOpcode;
  constexpr auto kOk = io::nvme::NvmeStatus::kSuccess;
  constexpr auto kConflict = io::nvme::final_status(io::nvme::NvmeStatus::kReservationConflict);
  auto holder = visit(1);
  EXPECT_EQ(ask(*holder, kReservationRegister, 3u << 30, keys(0, 7)), kOk);
  EXPECT_EQ(ask(*holder, kReservationAcquire, 2u << 8, keys(7, 0)), kOk);
  leave(*holder);
  for (int life = 0; life < 2; ++life) {
    stop();
    start();
    auto other = visit(2);
    EXPECT_EQ(flush(*other), kConflict);
    leave(*other);
    holder = visit(1);
    EXPECT_EQ(flush(*holder), kOk);
    leave(*holder);
  }
  ASSERT_TRUE(claim(kUs, 1).ok());
  auto device = connect(kUs, 1);
  ASSERT_TRUE(device.ok()) << device.status().to_string();
  EXPECT_TRUE(write(device->get()).ok());
  close(std::move(device).value());
  stop();
  start();  // the end of the reservation is durable, too
  device = connect(kUs, 1);
  ASSERT_TRUE(device.ok()) << device.status().to_string();
  EXPECT_TRUE(write(device->get()).ok());
  close(std::move(device).value());
}

TEST_F(DiskNodeTest, UnknownDrive) {
  EXPECT_EQ(world_.run(node_->claim({kUs, {}})).code(), Code::k_not_found);
}

}  // namespace
}  // namespace bb::backplane
