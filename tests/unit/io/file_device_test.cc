// SPDX-License-Identifier: Apache-2.0
#include "io/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/units.h"
#include "io/device_uri.h"
#include "support/world.h"

namespace bb::io {
namespace {

class FileDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = "/var/tmp/bb-file-test-XXXXXX";
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
  }
  void TearDown() override {
    std::string command = "rm -rf '" + dir_ + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }
  std::string make(std::string name, off_t size) {
    std::string path = dir_ + "/" + name;
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(ftruncate(fd, size), 0);
    ::close(fd);
    return path;
  }
  Result<std::unique_ptr<Device>> open(std::string uri) {
    return world_.run(open_device(world_.context, std::move(uri)));
  }
  void expect_refused(std::string uri, Code code, std::string_view why) {
    auto opened = open(uri);
    ASSERT_FALSE(opened.ok()) << uri;
    EXPECT_EQ(opened.code(), code) << opened.status().to_string();
    EXPECT_NE(opened.status().text().find(why), std::string::npos) << opened.status().to_string();
  }
  static Task<Status> write(Device* device, uint64_t offset, ConstBytes bytes) {
    co_return co_await device->write(offset, bytes);
  }

  test::World world_;
  std::string dir_;
};

TEST_F(FileDeviceTest, SaysWhyItCannotOpen) {
  std::string odd = make("odd", 1000);
  std::string empty = make("empty", 0);
  std::string fine = make("fine", 1 << 20);
  std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  auto bad = Code::k_invalid_argument;
  expect_refused("file:", bad, "no path");
  expect_refused("file:" + dir_ + "/none", Code::k_not_found,
                 "No such file or directory (errno 2)");
  expect_refused("file:" + dir_, bad, "neither a file nor a block device");
  expect_refused("file:" + fifo + "?read_only=1", bad, "neither a file nor a block device");
  expect_refused("file:" + odd, bad, "size 1000 is not a multiple of 512 bytes");
  expect_refused("file:" + empty, bad, "size 0 is not a multiple of 512 bytes");
  expect_refused("file:" + fine + "/x", bad, "Not a directory");
  expect_refused("file:" + fine + "?direct=maybe", bad, "direct=maybe is none of auto, 1, 0");
  expect_refused("file:" + fine + "?sise=1M", bad, "unknown URI option \"sise\"");
  expect_refused("file:" + fine + "?size=2M", Code::k_already_exists,
                 "has 1048576 bytes, asked for 2097152");
  expect_refused("file:" + fine + "?create=1", bad, "create=1 needs size=");
  expect_refused("file:" + fine + "?create=1&size=1M&read_only=1", bad, "contradicts");
}

TEST_F(FileDeviceTest, ARefusedCreateLeavesNothingBehind) {
  std::string path = dir_ + "/new";
  expect_refused("file:" + path + "?create=1&size=1000", Code::k_invalid_argument,
                 "a multiple of 512 bytes, not 1000");
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(FileDeviceTest, LocksOutASecondOpener) {
  std::string path = make("locked", 1 << 20);
  auto first = open("file:" + path);
  ASSERT_TRUE(first.ok());
  expect_refused("file:" + path, Code::k_busy, "in use by another opener (locked)");
  expect_refused("file:" + path + "?read_only=1", Code::k_busy, "in use");
  auto unlocked = open("file:" + path + "?lock=0");
  EXPECT_TRUE(unlocked.ok());
  EXPECT_TRUE(world_.run((*unlocked)->close()).ok());
  EXPECT_TRUE(world_.run((*first)->close()).ok());
  first->reset();
  auto again = open("file:" + path);
  EXPECT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_TRUE(world_.run((*again)->close()).ok());
}

int descriptor_of(const std::string& path) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path)
      return std::stoi(entry.path().filename());
  }
  return -1;
}

// A thread of the kernel that did a flush for us may have the file for a moment longer than we.
TEST_F(FileDeviceTest, UnlocksWhoeverStillHasTheFile) {
  std::string path = make("again", 1 << 20);
  auto first = open("file:" + path);
  ASSERT_TRUE(first.ok());
  int other = dup(descriptor_of(path));
  ASSERT_GE(other, 0);
  EXPECT_TRUE(world_.run((*first)->close()).ok());
  first->reset();
  auto again = open("file:" + path);
  EXPECT_TRUE(again.ok()) << again.status().to_string();
  if (again.ok()) EXPECT_TRUE(world_.run((*again)->close()).ok());
  ::close(other);
}

TEST_F(FileDeviceTest, AFileThatShrinksIsAnErrorNotZeroes) {
  std::string path = make("shrinks", 1 << 20);
  auto device = open("file:" + path);
  ASSERT_TRUE(device.ok());
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  std::vector<std::byte> memory(8192);
  struct Read {
    static Task<Status> run(Device* d, Bytes into) { co_return co_await d->read(0, into); }
  };
  Status status = world_.run(Read::run(device->get(), memory));
  EXPECT_EQ(status.code(), Code::k_io_error);
  EXPECT_NE(status.text().find("read of 8192 bytes at 0: the file ends before"), std::string::npos)
      << status.to_string();
  EXPECT_TRUE(world_.run((*device)->close()).ok());
}

// On a tmpfs of 1 MiB. Mount namespaces belong to threads: this one takes a namespace of its own
// and ends, and nothing stays mounted. No fork: a child of a process with threads may not start its
// own.
Status fill_tmpfs(const std::string& dir) {
  if (unshare(CLONE_NEWNS) != 0) return Status(Code::k_not_supported, "no mount namespace here");
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=1m") != 0) {
    return Status(Code::k_not_supported, "no tmpfs here");
  }
  test::World world;
  auto device = world.run(open_device(world.context, "file:" + dir + "/f?create=1&size=4M"));
  if (!device.ok()) return device.status();
  struct Fill {
    static Task<Status> run(Device* d) {
      std::vector<std::byte> memory(64 * KiB, std::byte{1});
      for (uint64_t at = 0; at < d->info().size_bytes; at += memory.size()) {
        BB_CO_TRY(co_await d->write(at, memory));
      }
      co_return Status();
    }
  };
  Status full = world.run(Fill::run(device->get()));
  Status closed = world.run((*device)->close());
  return closed.ok() ? full : closed;
}

TEST_F(FileDeviceTest, AFullFileSystemIsNoSpace) {
  Status full;
  std::thread([&] { full = fill_tmpfs(dir_); }).join();
  if (full.code() == Code::k_not_supported) GTEST_SKIP() << "skipped: " << full.text();
  EXPECT_EQ(full.code(), Code::k_no_space) << full.to_string();
  EXPECT_NE(full.text().find("No space left on device"), std::string::npos) << full.to_string();
}

}  // namespace
}  // namespace bb::io
