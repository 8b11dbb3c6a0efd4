// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/tcp.h"

namespace bb::backplane {
namespace {

class DriveTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bb-drive-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A sparse file with `text` at `offset`.
  std::string file(const char* name, uint64_t size, const char* text = "", off_t offset = 0) {
    std::string path = folder_ + "/" + name;
    int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size)), 0);
    EXPECT_EQ(pwrite(fd, text, strlen(text), offset), static_cast<ssize_t>(strlen(text)));
    close(fd);
    return path;
  }
  std::string head(const std::string& path) {
    std::string bytes(2 * MiB, 'x');
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    close(fd);
    return bytes;
  }
  Result<std::unique_ptr<Drive>> open_drive(std::string uri, uint64_t create = 0) {
    return reactor_->block_on(
        Drive::open(context_, {.uri = std::move(uri), .slot = "a", .create_bytes = create}));
  }
  void close_drive(Drive* drive) { EXPECT_TRUE(reactor_->block_on(drive->close()).ok()); }

  std::unique_ptr<io::Reactor> reactor_ = std::move(io::Reactor::create()).value();
  std::unique_ptr<io::Offload> offload_ = std::make_unique<io::Offload>();
  std::unique_ptr<io::Network> network_ = io::make_tcp_network(*reactor_, offload_.get());
  io::Context context_{.loop = *reactor_,
                       .network = *network_,
                       .reactor = reactor_.get(),
                       .offload = offload_.get()};
  std::string folder_;
};

Claim some_claim(uint64_t epoch) {
  Uuid us = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value();
  return {.owned = true,
          .owner = us,
          .owner_name = "dp",
          .host_nqn = host_nqn(us),
          .epoch = epoch,
          .array = us,
          .array_name = "db"};
}

TEST_F(DriveTest, LabelsABlankFileAndKeepsItsClaim) {
  std::string uri = "file:" + folder_ + "/new";
  auto drive = open_drive(uri, 64 * MiB);
  ASSERT_TRUE(drive.ok()) << drive.status().to_string();
  Uuid uuid = (*drive)->label().drive;
  EXPECT_EQ((*drive)->data().info().size_bytes, 63 * MiB);
  EXPECT_EQ((*drive)->state(), "online");
  for (uint64_t epoch = 1; epoch <= 3; ++epoch)
    ASSERT_TRUE(reactor_->block_on((*drive)->write_claim(some_claim(epoch))).ok());
  close_drive(drive->get());
  drive->reset();  // lets go of the lock
  drive = open_drive(uri, 64 * MiB);
  ASSERT_TRUE(drive.ok()) << drive.status().to_string();
  EXPECT_EQ((*drive)->label().drive, uuid);
  EXPECT_EQ((*drive)->label().claim, some_claim(3));
  close_drive(drive->get());
}

TEST_F(DriveTest, DataStaysOutOfTheLabel) {
  std::string path = file("d", 32 * MiB);
  auto drive = open_drive("file:" + path);
  ASSERT_TRUE(drive.ok()) << drive.status().to_string();
  std::string before = head(path).substr(0, MiB);
  io::AlignedBuffer ones(64 * KiB), back(64 * KiB);
  std::ranges::fill(ones.bytes(), std::byte{0x5a});
  io::Device& data = (*drive)->data();
  auto exercise = [](io::Device* device, io::AlignedBuffer* from,
                     io::AlignedBuffer* to) -> io::Task<Status> {
    BB_CO_TRY(co_await device->write(0, from->bytes()));
    BB_CO_TRY(co_await device->flush());
    BB_CO_TRY(co_await device->read(0, to->bytes()));
    co_return co_await device->read(device->info().size_bytes - 4096, to->bytes().first(4096));
  };
  EXPECT_TRUE(reactor_->block_on(exercise(&data, &ones, &back)).ok());
  EXPECT_EQ(back.data()[5000], std::byte{0x5a});
  EXPECT_EQ((*drive)->data().counters().writes, 2u);
  EXPECT_EQ(head(path).substr(0, MiB), before);
  EXPECT_EQ(head(path)[MiB], '\x5a');
  close_drive(drive->get());
}

// Every refusal names its cause and leaves the file as it was.
TEST_F(DriveTest, RefusesWhatIsUsed) {
  struct Case {
    const char* name;
    uint64_t size;
    const char* text;
    off_t offset;
    Code code;
    const char* error;
  };
  for (const Case& one :
       {Case{"small", 8 * MiB, "", 0, Code::k_no_space, "8388608 bytes is too small"},
        Case{"swap", 32 * MiB, "SWAPSPACE2", 4086, Code::k_bad_state, "it holds "},
        Case{"data", 32 * MiB, "hello", 5000, Code::k_bad_state, "unknown data at byte 5000"},
        Case{"tail", 32 * MiB, "hello", 32 * MiB - 100, Code::k_bad_state, "at byte 33554332"},
        Case{"torn", 32 * MiB, "BBDRIVE\n", 0, Code::k_corrupt, "checksum"}}) {
    std::string path = file(one.name, one.size, one.text, one.offset);
    std::string before = head(path);
    auto drive = open_drive("file:" + path);
    ASSERT_FALSE(drive.ok()) << one.name;
    EXPECT_EQ(drive.code(), one.code) << drive.status().to_string();
    EXPECT_NE(drive.status().text().find(one.error), std::string::npos) << drive.status().text();
    EXPECT_NE(drive.status().text().find("slot \"a\""), std::string::npos);
    EXPECT_EQ(head(path), before) << one.name;
  }
  EXPECT_EQ(open_drive("file:" + folder_ + "/missing").code(), Code::k_not_found);
  EXPECT_EQ(open_drive("flie:/x").code(), Code::k_invalid_argument);
}

TEST_F(DriveTest, NamesAFileSystem) {
  std::string path = file("ext4", 32 * MiB);
  if (system(("mke2fs -q -F -t ext4 " + path).c_str()) != 0) GTEST_SKIP() << "skipped: no mke2fs";
  auto drive = open_drive("file:" + path);
  ASSERT_FALSE(drive.ok());
  EXPECT_NE(drive.status().text().find("it holds ext4 filesystem"), std::string::npos)
      << drive.status().text();
}

TEST_F(DriveTest, OneOpenerOnly) {
  std::string path = file("once", 32 * MiB);
  auto first = open_drive("file:" + path);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(open_drive("file:" + path).code(), Code::k_busy);
  close_drive(first->get());
}

}  // namespace
}  // namespace bb::backplane
