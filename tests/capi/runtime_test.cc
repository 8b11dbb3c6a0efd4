// SPDX-License-Identifier: Apache-2.0
#include <blockbridge/blockbridge.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <vector>

namespace {

TEST(Runtime, OpensAndClosesAThousandTimes) {
  for (int i = 0; i < 1000; ++i) {
    bb_runtime* runtime = nullptr;
    ASSERT_EQ(bb_runtime_open(nullptr, &runtime), BB_OK) << bb_last_error();
    bb_runtime_close(&runtime);
    ASSERT_EQ(runtime, nullptr);
  }
  bb_runtime_close(nullptr);
}

struct Waited {
  bool done = false;
  int code = -1;
  std::string text;
  bb_device* device = nullptr;
};

void on_done(void* arg, int code, const char* text) {
  auto* waited = static_cast<Waited*>(arg);
  waited->code = code;
  waited->text = text;
  waited->done = true;
}

// What an application with its own event loop does: poll the descriptor, then let us run.
void drive(bb_runtime* runtime, const Waited& waited) {
  int fd = -1;
  ASSERT_EQ(bb_runtime_fd(runtime, &fd), BB_OK) << bb_last_error();
  ASSERT_EQ(bb_runtime_poll(runtime), BB_OK);
  while (!waited.done) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&entry, 1, 5000), 1) << "the descriptor never became readable";
    ASSERT_EQ(bb_runtime_poll(runtime), BB_OK);
  }
}

TEST(Runtime, HostDrivenByPoll) {
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  options.host_driven = 1;
  bb_runtime* runtime = nullptr;
  ASSERT_EQ(bb_runtime_open(&options, &runtime), BB_OK) << bb_last_error();
  std::string uri = "file:" + testing::TempDir() + "/bb-host-driven.img?create=1&size=1M";
  Waited opened;
  bb_device_open_async(
      runtime, uri.c_str(),
      [](void* arg, int code, const char* text, bb_device* device) {
        static_cast<Waited*>(arg)->device = device;
        on_done(arg, code, text);
      },
      &opened);
  drive(runtime, opened);
  ASSERT_EQ(opened.code, BB_OK) << opened.text;

  std::vector<char> out(8192, 'x');
  std::vector<char> in(8192);
  for (auto [op, memory] : {std::pair{BB_IO_WRITE, &out}, std::pair{BB_IO_READ, &in}}) {
    Waited waited;
    iovec iov{.iov_base = memory->data(), .iov_len = memory->size()};
    bb_io io = BB_IO_INIT;
    io.op = op;
    io.iov = &iov;
    io.iov_count = 1;
    io.offset_bytes = 4096;
    io.done = on_done;
    io.arg = &waited;
    bb_device_submit(opened.device, &io);
    drive(runtime, waited);
    EXPECT_EQ(waited.code, BB_OK) << waited.text;
  }
  EXPECT_EQ(in, out);
  EXPECT_EQ(bb_device_close(&opened.device), BB_OK);
  bb_runtime_close(&runtime);
}

TEST(Runtime, OwnThreadHasNoDescriptor) {
  bb_runtime* runtime = nullptr;
  ASSERT_EQ(bb_runtime_open(nullptr, &runtime), BB_OK);
  int fd = -1;
  EXPECT_EQ(bb_runtime_fd(runtime, &fd), BB_BAD_STATE);
  EXPECT_STREQ(bb_last_error(), "bb_runtime_fd: the runtime has its own thread");
  EXPECT_EQ(bb_runtime_poll(runtime), BB_BAD_STATE);
  bb_runtime_close(&runtime);
}

}  // namespace
