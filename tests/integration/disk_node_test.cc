// SPDX-License-Identifier: Apache-2.0
// A disk node and hosts that connect to it over real sockets: who may, and who may not any more.
#include "backplane/disk_node.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "backplane/backplane_set.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "support/world.h"

namespace bb::backplane {
namespace {

const Uuid kUs = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value();
const Uuid kThem = Uuid::parse("aaaaaaaa-4b5a-4978-8796-a5b4c3d2e1f0").value();

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
                          .control = "127.0.0.1:0"};
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

TEST_F(DiskNodeTest, UnknownDrive) {
  EXPECT_EQ(world_.run(node_->claim({kUs, {}})).code(), Code::k_not_found);
}

}  // namespace
}  // namespace bb::backplane
